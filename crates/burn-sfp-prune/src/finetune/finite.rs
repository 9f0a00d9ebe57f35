//! Parameters, statistics and inputs that are NaN or infinite.

use std::collections::BTreeMap;

use burn::module::{Module, Param};
use burn::tensor::{Bool, Int, Tensor};
use burn_sfp_graph::{InputMapper, ModuleInput};
use burn_sfp_nn::walk::{ParamPath, ParamVisitor, visit_params};

/// Returns the first NaN or infinite value of each parameter and running statistic that holds one, by path.
pub(super) fn non_finite<M: Module>(model: &M) -> BTreeMap<String, f64> {
    struct Seek(BTreeMap<String, f64>);
    impl ParamVisitor for Seek {
        fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D>>) {
            if let Some(value) = first(param.base()) {
                self.0.insert(path.join(), value);
            }
        }
    }
    let mut seek = Seek(BTreeMap::new());
    visit_params(model, &mut seek);
    seek.0
}

/// Returns the first NaN or infinite value of an input.
pub(super) fn non_finite_input<I: ModuleInput>(input: I) -> Option<f64> {
    struct Seek(Option<f64>);
    impl InputMapper for Seek {
        fn float<const D: usize>(&mut self, tensor: Tensor<D>) -> Tensor<D> {
            self.0 = self.0.or_else(|| first(tensor.clone()));
            tensor
        }
        fn int<const D: usize>(&mut self, tensor: Tensor<D, Int>) -> Tensor<D, Int> {
            tensor
        }
        fn bool<const D: usize>(&mut self, tensor: Tensor<D, Bool>) -> Tensor<D, Bool> {
            tensor
        }
    }
    let mut seek = Seek(None);
    let _ = input.map_tensors(&mut seek);
    seek.0
}

fn first<const D: usize>(tensor: Tensor<D>) -> Option<f64> {
    let tensor = tensor.without_autodiff();
    if !tensor.dtype().is_float() {
        return None;
    }
    tensor.into_data().iter::<f64>().find(|value| !value.is_finite())
}
