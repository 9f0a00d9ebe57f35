//! The original with everything that a plan removes at zero: what the smaller module has to equal.

use std::collections::{HashMap, HashSet};

use burn_sfp_graph::{GraphModule, ParameterShape, is_statistic};

use super::center::{center, mark_centered};
use super::check::check;
use super::copy::guarded;
use super::keep::masks_before_cuts;
use super::other_weights::{ApplyConfig, corrections_for};
use super::zero::zero;
use crate::plan::{AxisCut, ParameterCut};
use crate::{PruneError, PrunePlan};

impl PrunePlan {
    /// Returns a copy of the model, with unchanged shapes and in evaluation mode, in which every removed index of every parameter
    /// and every removed connection is zero. The model itself is not changed.
    ///
    /// Where the plan takes means out of what writes to a stream ([`PrunePlan::centered`]), so does the copy before anything is set to
    /// zero, and its layer normalisations compute root-mean-square normalisation over all channels.
    ///
    /// Of blocks that the plan leaves out ([`PrunePlan::blocks`]), all trained parameters are zero.
    ///
    /// Without bias corrections by means, the outputs of the copy equal those of the smaller module to rounding. Where the plan
    /// corrects biases by constants ([`BiasCorrection::Constants`](crate::BiasCorrection::Constants)), the weights and biases of
    /// removed filters are zero and their normalisations are not, so that the constants still reach the layers whose biases take
    /// them over.
    ///
    /// What the forward pass divides by the norm of a removed filter's own weights (weight normalisation) keeps these weights
    /// ([`PrunePlan::unzeroed`]); the filter is zero by its length, or nothing reads it.
    ///
    /// One case differs: where two computed tensors are multiplied over a removed channel and both make something other than zero
    /// of zero parameters (two sigmoids, say), the smaller module leaves that product out and the copy does not.
    ///
    /// This is for checks; the copy is no faster than the original.
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_graph::GraphModule;
    /// # use burn_sfp_prune::{Magnitude, Planner};
    /// # #[derive(Module, Debug)]
    /// # struct Mlp { a: Linear, b: Linear }
    /// # impl GraphModule for Mlp {
    /// #     type Inputs = Tensor<2>;
    /// #     type Outputs = Tensor<2>;
    /// #     fn run(&self, x: Tensor<2>) -> Tensor<2> {
    /// #         self.b.forward(burn::tensor::activation::relu(self.a.forward(x)))
    /// #     }
    /// # }
    /// # let device = Device::flex();
    /// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 2).init(&device) };
    /// let x = Tensor::<2>::ones([1, 4], &device);
    /// let smaller = Planner::new().prune(&mlp, &x, &Magnitude::l2())?;
    /// let zeroed = smaller.plan.zeroed(&mlp)?;
    /// assert_eq!(zeroed.a.weight.dims(), [4, 8]);
    /// assert!((zeroed.run(x.clone()) - smaller.model.run(x)).abs().max().into_scalar::<f32>() < 1e-5);
    /// # Ok::<(), burn_sfp_prune::PruneError>(())
    /// ```
    ///
    /// # Errors
    /// [`PruneError::ModelMismatch`], [`PruneError::InvalidPlan`] and [`PruneError::AlreadyMasked`], as
    /// [`apply`](PrunePlan::apply), and [`PruneError::NeedsShrink`] if the plan takes means out and the model does not hand itself out.
    pub fn zeroed<M: GraphModule>(&self, model: &M) -> Result<M, PruneError> {
        check(self, model)?;
        // Constants of other weights are left out when the plan is applied, and so they are here.
        let (corrections, _) = corrections_for(self, model, &ApplyConfig::new())?;
        let cuts = self.zeros(corrections.iter().any(|corrected| corrected.constants));
        let masks = masks_before_cuts(self);
        let mut zeroed = guarded(|| Ok(zero(center(self, model.valid()), &cuts, &masks)))?;
        mark_centered(self, &mut zeroed)?;
        Ok(zeroed)
    }

    /// Returns what is set to zero, by the path of the parameter.
    pub(super) fn zeros(&self, constants: bool) -> HashMap<&str, ParameterCut> {
        let mut cuts: HashMap<&str, ParameterCut> =
            self.cuts.iter().map(|cut| (cut.path.as_str(), cut.clone())).collect();
        if constants {
            self.leave_constants(&mut cuts);
        }
        for (parameter, cut) in self.of_blocks() {
            cuts.insert(parameter, cut);
        }
        for unzeroed in &self.unzeroed {
            if let Some(cut) = cuts.get_mut(unzeroed.path.as_str()) {
                cut.axes.retain(|axis| axis.axis != unzeroed.axis);
            }
        }
        cuts
    }

    /// All trained parameters of blocks that are left out, with nothing that stays.
    fn of_blocks(&self) -> impl Iterator<Item = (&str, ParameterCut)> {
        let inside = |parameter: &&ParameterShape| self.blocks.iter().any(|block| block.holds(&parameter.path));
        self.model.iter().filter(inside).filter(|parameter| !is_statistic(&parameter.path)).filter_map(|parameter| {
            let length = *parameter.shape.first()?;
            let axes = vec![AxisCut { axis: 0, length, keep: Vec::new() }];
            Some((parameter.path.as_str(), ParameterCut { path: parameter.path.clone(), axes }))
        })
    }

    /// Limits the cuts to what is set to zero where biases are corrected by constants: filters, and the inputs that no bias takes
    /// over; no normalisations.
    fn leave_constants(&self, cuts: &mut HashMap<&str, ParameterCut>) {
        let of_layers = self.layers.iter().flat_map(|layer| [Some(layer.weight.as_str()), layer.bias.as_deref()]);
        let of_layers: HashSet<&str> = of_layers.flatten().collect();
        cuts.retain(|path, _| of_layers.contains(path));
        for corrected in self.bias_corrections.iter().filter(|corrected| corrected.constants) {
            let Some(cut) = cuts.get_mut(corrected.weight.as_str()) else { continue };
            for axis in cut.axes.iter_mut().filter(|axis| axis.axis != corrected.output_axis) {
                axis.keep.extend(corrected.inputs.iter().map(|(input, _)| *input));
                axis.keep.sort_unstable();
                axis.keep.dedup();
            }
        }
    }
}
