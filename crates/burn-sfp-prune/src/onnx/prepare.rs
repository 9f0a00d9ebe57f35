//! What is done before an export: to the model, on a copy, and to the example input.

use burn::module::{Module, Param};
use burn::tensor::{DType, Tensor};
use burn_sfp_graph::{GraphModule, ModuleInput};
use burn_sfp_nn::walk::{ParamPath, ParamVisitor, visit_params};

use super::OnnxError;
use crate::rewrite::guarded;
use crate::{PruneError, densify};

/// Returns a copy in evaluation mode, without autodiff, whose connection masks are folded into the weights and whose sparse layers are dense.
pub(super) fn prepared<M: GraphModule>(model: &M) -> Result<M, PruneError> {
    let copy = densify(&guarded(|| Ok(model.valid().materialize()))?)?;
    check_types(&copy)?;
    Ok(copy)
}

/// Refuses float types that onnxruntime and other runtimes have no operations for.
fn check_types<M: Module>(model: &M) -> Result<(), OnnxError> {
    struct Seek(Option<OnnxError>);
    impl ParamVisitor for Seek {
        fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D>>) {
            let dtype = param.val().dtype();
            if self.0.is_none() && !matches!(dtype, DType::F16 | DType::F32 | DType::F64) {
                self.0 = Some(OnnxError::Precision { what: path.join(), dtype: format!("{dtype:?}") });
            }
        }
    }
    let mut seek = Seek(None);
    visit_params(model, &mut seek);
    seek.0.map_or(Ok(()), Err)
}

/// The example input at two batch sizes: its samples repeated, at least two of them, because Burn runs other operations on a single one.
pub(super) fn batches<I: ModuleInput>(input: &I) -> [I; 2] {
    let first = if input.samples() == 1 { 2 } else { 1 };
    [repeated(input, first), repeated(input, 3 * first)]
}

/// Repeats the samples of every tensor that has as many as the first one.
fn repeated<I: ModuleInput>(input: &I, times: usize) -> I {
    struct Repeat {
        samples: usize,
        times: usize,
    }
    macro_rules! repeat {
        ($name:ident, $kind:ty) => {
            fn $name<const D: usize>(&mut self, tensor: Tensor<D, $kind>) -> Tensor<D, $kind> {
                let samples = tensor.dims().first().copied();
                if samples == Some(self.samples) { Tensor::cat(vec![tensor; self.times], 0) } else { tensor }
            }
        };
    }
    impl burn_sfp_graph::InputMapper for Repeat {
        repeat!(float, burn::tensor::Float);
        repeat!(int, burn::tensor::Int);
        repeat!(bool, burn::tensor::Bool);
    }
    if times == 1 {
        return input.clone();
    }
    input.clone().map_tensors(&mut Repeat { samples: input.samples(), times })
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Int};

    #[test]
    fn samples_are_repeated() {
        let device = Device::flex();
        let input = (Tensor::<2>::from_floats([[1.0, 2.0]], &device), Tensor::<2, Int>::zeros([3, 3], &device));
        let [first, second] = batches(&input);
        assert_eq!(first.shapes(), [vec![2, 2], vec![3, 3]]);
        assert_eq!(second.shapes(), [vec![6, 2], vec![3, 3]]);
        assert_eq!(first.0.into_data().iter::<f32>().collect::<Vec<_>>(), [1.0, 2.0, 1.0, 2.0]);
        let [first, second] = batches(&Tensor::<1>::zeros([4], &device));
        assert_eq!((first.dims(), second.dims()), ([4], [12]));
    }
}
