//! [`PrunePlan::apply`]: the smaller module.

use std::collections::HashMap;

use burn_sfp_graph::GraphModule;

use super::bias::additions;
use super::center::center;
use super::check::check;
use super::copy::on_copy;
use super::fields::{leave_out, set_fields};
use super::keep::masks_after_cuts;
use super::masked::unmask;
use super::other_weights::{Applied, ApplyConfig, corrections_for};
use super::resize::resize;
use super::zero::zero;
use crate::mask::attach;
use crate::{PruneError, PrunePlan};

impl PrunePlan {
    /// Returns the smaller module. The original is not changed, not even its running statistics.
    ///
    /// Masks of removed connections are attached to the weights ([`ConnectionMask`](crate::ConnectionMask)); `materialize()` on the
    /// result folds them into the weights. A model that was in training (with autodiff) comes back in training.
    ///
    /// Parameters whose shapes change get new ids (`Param::id`), under which an optimiser with momenta from before starts anew; it
    /// goes on with those that keep their shapes. Parameters that share an id share the new one.
    ///
    /// A model that carries the masks of this very plan ([`mask`](PrunePlan::mask)) is taken for what is below them: what stays is the same.
    ///
    /// To load a saved pruned model, apply the saved plan to a freshly built original and load the record into the result
    /// (materialised, if the saved one was).
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_graph::GraphModule;
    /// # use burn_sfp_core::{AnalyzeConfig, NoProgress, TensorCalibration, analyze_network};
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
    /// # let data = TensorCalibration::new(Tensor::<2>::ones([2, 4], &device), vec![0, 1], 2);
    /// let (network, analysis) = analyze_network(&mlp, &data, &AnalyzeConfig::new(), &NoProgress)?;
    /// let plan = Planner::new().plan(&network, &analysis, &Magnitude::l2())?;
    /// let smaller = plan.apply(&mlp)?;
    /// assert_eq!(smaller.a.weight.dims(), [4, 4]);
    /// assert_eq!(mlp.a.weight.dims(), [4, 8]);
    /// # Ok::<(), burn_sfp_prune::PruneError>(())
    /// ```
    ///
    /// The plan applies to any checkpoint of its architecture. Bias corrections that were measured on other weights are left out, with a
    /// warning in the log; [`apply_with`](PrunePlan::apply_with) returns what was left out, or refuses.
    ///
    /// # Errors
    /// - [`PruneError::ModelMismatch`] if paths or shapes differ from those of the plan's model;
    /// - [`PruneError::InvalidPlan`] if the plan contradicts itself or was changed after it was made ([`check`](PrunePlan::check));
    /// - [`PruneError::AlreadyMasked`] if a weight that the plan masks, or whose mean it takes out, has a mask already;
    /// - [`PruneError::NeedsShrink`] if a plain field has to change and the model does not hand itself out for it
    ///   ([`GraphModule::shrinkable`]), [`PruneError::BlockStays`] if a block has to go and the model does not leave it out.
    pub fn apply<M: GraphModule>(&self, model: &M) -> Result<M, PruneError> {
        let applied = self.apply_with(model, &ApplyConfig::new())?;
        if let Some(warning) = applied.warning() {
            tracing::warn!("{warning}");
        }
        Ok(applied.model)
    }

    /// [`apply`](PrunePlan::apply) with settings, which also returns what was left out of the plan.
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_graph::GraphModule;
    /// # use burn_sfp_core::{AnalyzeConfig, NoProgress, TensorCalibration, analyze_network};
    /// # use burn_sfp_prune::{ApplyConfig, Magnitude, OtherWeights, Planner, PruneError};
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
    /// # let mlp = || Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 2).init(&device) };
    /// # let data = TensorCalibration::new(Tensor::<2>::ones([2, 4], &device), vec![0, 1], 2);
    /// let (model, other) = (mlp(), mlp());
    /// let (network, analysis) = analyze_network(&model, &data, &AnalyzeConfig::new(), &NoProgress)?;
    /// let plan = Planner::new().plan(&network, &analysis, &Magnitude::l2())?;
    ///
    /// let applied = plan.apply_with(&other, &ApplyConfig::new())?;
    /// assert_eq!(applied.dropped, ["b"]);
    /// assert!(applied.warning().unwrap().contains("`b` were measured on other weights"));
    ///
    /// let refuse = ApplyConfig::new().other_weights(OtherWeights::Refuse);
    /// assert!(matches!(plan.apply_with(&other, &refuse), Err(PruneError::OtherWeights { .. })));
    /// assert!(plan.apply_with(&model, &refuse)?.dropped.is_empty());
    /// # Ok::<(), PruneError>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`apply`](PrunePlan::apply), and [`PruneError::OtherWeights`] if the settings ask for it.
    pub fn apply_with<M: GraphModule>(&self, model: &M, config: &ApplyConfig) -> Result<Applied<M>, PruneError> {
        let _span = tracing::info_span!("apply").entered();
        let below;
        let model = if self.is_mask_of(model)? {
            below = unmask(model)?;
            &below
        } else {
            model
        };
        check(self, model)?;
        let (corrections, dropped) = corrections_for(self, model, config)?;
        let model = on_copy(model, |copy| {
            let copy = center(self, copy);
            let additions = additions(self, corrections, &copy)?;
            let mut smaller = resize(self, copy, &additions);
            set_fields(&mut smaller, &self.cuts, &self.fields)?;
            let masks = masks_after_cuts(self);
            if !masks.is_empty() {
                // Zeros below the masks, so that records do not hold what is removed.
                smaller = attach(zero(smaller, &HashMap::new(), &masks), &masks);
            }
            // Last: until then all paths are those of the original.
            leave_out(&mut smaller, &self.blocks)?;
            Ok(smaller)
        })?;
        Ok(Applied { model, dropped })
    }
}
