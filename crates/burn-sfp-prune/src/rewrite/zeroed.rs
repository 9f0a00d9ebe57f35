//! The original with everything that a plan removes at zero: what the smaller module has to equal.

use std::collections::HashMap;

use burn::module::{ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};
use burn_sfp_core::GraphModule;

use super::check;
use crate::plan::{Mask, ParameterCut};
use crate::{PruneError, PrunePlan};

impl PrunePlan {
    /// A copy of the model, of unchanged shapes, in which every removed index of every parameter and every removed connection is
    /// zero. Where the plan folds constants ([`FoldMeans::Constants`](crate::FoldMeans::Constants)), removed filters are
    /// silenced instead and what they leave behind still reaches the layers that take it over. Its outputs equal
    /// those of the smaller model to rounding, unless the plan folds means.
    /// One thing parameters at zero do not say: where two computed tensors are multiplied over a channel and both make something
    /// other than zero of it (two sigmoids, say), the smaller model leaves that product out. For checks; it is no faster
    /// than the original.
    ///
    /// # Errors
    /// [`PruneError::OtherModel`] and [`PruneError::BrokenPlan`] as [`apply`](PrunePlan::apply).
    pub fn zeroed<M: GraphModule>(&self, model: &M) -> Result<M, PruneError> {
        check::check(self, model)?;
        let mut cuts: HashMap<&str, ParameterCut> =
            self.cuts.iter().map(|cut| (cut.path.as_str(), cut.clone())).collect();
        if self.folds.iter().any(|fold| fold.constants) {
            self.leave_constants(&mut cuts);
        }
        let masks = self.masks.iter().map(|mask| (mask.parameter.as_str(), mask)).collect();
        Ok(model.valid().map(&mut Zero { path: Vec::new(), cuts, masks }))
    }
}

impl PrunePlan {
    /// What is set to zero where constants are folded: filters, and the inputs that are not folded; no normalisations.
    fn leave_constants(&self, cuts: &mut HashMap<&str, ParameterCut>) {
        cuts.retain(|path, _| {
            self.layers.iter().any(|layer| layer.weight == *path || layer.bias.as_deref() == Some(*path))
        });
        for fold in self.folds.iter().filter(|fold| fold.constants) {
            let Some(cut) = cuts.get_mut(fold.weight.as_str()) else { continue };
            for axis in cut.axes.iter_mut().filter(|axis| axis.axis != fold.output_axis) {
                axis.keep.extend(fold.inputs.iter().map(|(input, _)| *input));
                axis.keep.sort_unstable();
                axis.keep.dedup();
            }
        }
    }
}

struct Zero<'a> {
    path: Vec<String>,
    cuts: HashMap<&'a str, ParameterCut>,
    masks: HashMap<&'a str, &'a Mask>,
}

impl ModuleMapper for Zero<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.path.join(".");
        let (cut, mask) = (self.cuts.get(path.as_str()), self.masks.get(path.as_str()));
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
                tensor = tensor * Tensor::from_data(TensorData::new(keep, shape), &device);
            }
            if let Some(mask) = mask {
                let mut shape = [1; D];
                shape[..2].copy_from_slice(&tensor.dims()[..2]);
                let mut keep = vec![0.0f32; shape[0] * shape[1]];
                for (output, inputs) in mask.keep.iter().enumerate() {
                    for &input in inputs {
                        let input = input as usize;
                        let at =
                            if mask.output_axis == 0 { output * shape[1] + input } else { input * shape[1] + output };
                        keep[at] = 1.0;
                    }
                }
                tensor = tensor * Tensor::from_data(TensorData::new(keep, shape), &device);
            }
            tensor
        })
    }
}
