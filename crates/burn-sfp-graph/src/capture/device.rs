//! A copy of a module on the capture device.

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData};
use burn_sfp_nn::tensor::shared_data;
use burn_sfp_nn::walk::{ParamMapper, ParamPath, ParamVisitor, map_params, visit_params};

use crate::GraphModule;

/// Returns a copy in evaluation mode whose parameters have their values.
pub(super) fn initialized<M: Module>(model: &M) -> M {
    // `valid` copies running statistics; a plain clone would share them and move the original's.
    let copy = model.valid();
    copy.visit(&mut Initialize);
    copy
}

/// Moves a copy of a model to the capture device. A model that can be built anew is, and receives the parameters of the copy: what it
/// stores besides, its device above all, is then that of the capture.
pub(super) fn on_device<M: GraphModule>(model: &M, copy: M, device: &Device) -> M {
    let Some(fresh) = model.rebuild(device) else { return copy.map(&mut Hand(device)).to_device(device) };
    let mut values = Values(HashMap::new());
    visit_params(&copy, &mut values);
    map_params(fresh.valid(), &mut Fill { values: values.0, device })
}

/// Initialises lazy parameters where they are: on the capture device they would become random operations.
struct Initialize;

impl ModuleVisitor for Initialize {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let _ = param.val();
    }
    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        let _ = param.val();
    }
    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        let _ = param.val();
    }
}

/// Hands float parameters to the capture device without copying what lies in host memory; the rest follows by itself.
struct Hand<'a>(&'a Device);

impl ModuleMapper for Hand<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| match tensor.dtype() {
            DType::QFloat(_) => tensor,
            dtype => Tensor::from_data(shared_data(tensor), (self.0, dtype)),
        })
    }
}

/// The values of parameters by path.
struct Values(HashMap<String, TensorData>);

impl ParamVisitor for Values {
    fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D>>) {
        self.0.insert(path.join(), shared_data(param.val()));
    }
    fn int<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D, Int>>) {
        self.0.insert(path.join(), param.val().into_data());
    }
    fn bool<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D, Bool>>) {
        self.0.insert(path.join(), param.val().into_data());
    }
}

/// Puts values into parameters.
struct Fill<'a> {
    values: HashMap<String, TensorData>,
    device: &'a Device,
}

macro_rules! fill {
    ($name:ident, $kind:ty) => {
        fn $name<const D: usize>(
            &mut self,
            path: ParamPath<'_>,
            param: Param<Tensor<D, $kind>>,
        ) -> Param<Tensor<D, $kind>> {
            let Some(data) = self.values.remove(&path.join()) else { return param };
            let dtype = data.dtype();
            Param::initialized(param.id, Tensor::from_data(data, (self.device, dtype)))
        }
    };
}

impl ParamMapper for Fill<'_> {
    fill!(float, burn::tensor::Float);
    fill!(int, Int);
    fill!(bool, Bool);
}
