//! Parameters set to zero where they are removed, their shapes unchanged.

use std::collections::HashMap;

use burn::module::{Module, Param, Reparameterization};
use burn::tensor::{Tensor, TensorData};
use burn_sfp_nn::walk::{ParamMapper, ParamPath, map_params};

use crate::mask::KeepMasks;
use crate::plan::ParameterCut;

/// Returns the model with zeros at the indices that cuts do not keep and at the connections that masks do not keep. Cuts are by the
/// path of the parameter.
pub(crate) fn zero<M: Module>(model: M, cuts: &HashMap<&str, ParameterCut>, masks: &KeepMasks) -> M {
    map_params(model, &mut Zero { cuts, masks })
}

struct Zero<'a> {
    cuts: &'a HashMap<&'a str, ParameterCut>,
    masks: &'a KeepMasks,
}

impl ParamMapper for Zero<'_> {
    fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = path.join();
        let (cut, mask) = (self.cuts.get(path.as_str()), self.masks.get(&path));
        if cut.is_none() && mask.is_none() {
            return param;
        }
        param.map(|mut tensor| {
            let device = tensor.device();
            for axis in cut.into_iter().flat_map(|cut| &cut.axes) {
                let mut keep = vec![0.0f32; axis.length];
                axis.keep.iter().for_each(|&k| keep[k] = 1.0);
                let mut shape = [1; D];
                shape[axis.axis] = axis.length;
                let keep = Tensor::from_data(TensorData::new(keep, shape), (&device, tensor.dtype()));
                tensor = tensor * keep;
            }
            match mask {
                Some(mask) => mask.like(&tensor).apply(tensor),
                None => tensor,
            }
        })
    }
}
