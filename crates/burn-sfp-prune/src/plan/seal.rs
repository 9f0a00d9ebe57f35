//! The checksum that a plan carries of itself.

use burn_sfp_graph::file::digest;

use super::PrunePlan;
use crate::PruneError;

impl PrunePlan {
    /// Accepts changes that were made to the plan by hand: checks that it agrees with itself and renews its checksum.
    ///
    /// Whether a plan still fits the network cannot be told from the plan alone: [`verify`](PrunePlan::verify) checks the smaller
    /// model.
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_graph::GraphModule;
    /// # use burn_sfp_core::{AnalyzeConfig, NoProgress, TensorCalibration, analyze_network};
    /// # use burn_sfp_prune::{Magnitude, Planner, PruneError};
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
    /// # let (network, analysis) = analyze_network(&mlp, &data, &AnalyzeConfig::new(), &NoProgress)?;
    /// let mut plan = Planner::new().plan(&network, &analysis, &Magnitude::l2())?;
    /// plan.bias_corrections.clear();
    /// assert!(matches!(plan.apply(&mlp), Err(PruneError::InvalidPlan(_))));
    /// let smaller = plan.sealed()?.apply(&mlp)?;
    /// # Ok::<(), PruneError>(())
    /// ```
    ///
    /// # Errors
    /// [`PruneError::InvalidPlan`] if the plan contradicts itself.
    pub fn sealed(mut self) -> Result<Self, PruneError> {
        self.check_parts()?;
        self.seal();
        Ok(self)
    }

    /// Renews the checksum after a change.
    pub(crate) fn seal(&mut self) {
        self.digest = 0;
        self.digest = digest(self);
    }

    /// Checks that nothing changed since the plan was sealed.
    pub(super) fn check_seal(&self) -> Result<(), PruneError> {
        if self.digest == digest(&Self { digest: 0, ..self.clone() }) {
            return Ok(());
        }
        let what = "its checksum does not fit its contents, so that it was changed after it was made (call `sealed()` on it if that \
                    was on purpose)";
        Err(PruneError::InvalidPlan(what.into()))
    }
}
