//! [`ActivationMean`]: filters ranked by how large their output is.

use super::context::PolicyContext;
use super::ranking::{Ranking, RankingPolicy};
use crate::PruneError;
use crate::evidence::Needs;

/// Ranks filters by the mean absolute value of their output over the calibration data.
///
/// `score = mean over samples and positions of |a|`, where `a` is the output behind the normalisation, activation and
/// pooling that follow the layer directly. Behind a rectified linear unit it is the mean activation of P. Molchanov et
/// al. 2017, arXiv 1611.06440, section 2.2. A layer that is called several times is judged by its first call.
///
/// Needs the [outputs](Needs::outputs) of filters.
///
/// ```
/// use burn_sfp_prune::{ActivationMean, RankingPolicy};
/// assert_eq!(ActivationMean::new().name(), "activation-mean");
/// assert!(ActivationMean::new().needs().has_outputs());
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ActivationMean;

impl ActivationMean {
    /// Creates the policy.
    pub fn new() -> Self {
        Self
    }
}

impl RankingPolicy for ActivationMean {
    fn name(&self) -> String {
        "activation-mean".into()
    }

    fn needs(&self) -> Needs {
        Needs::none().outputs()
    }

    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        let evidence = context.require_evidence(&self.name(), self.needs())?;
        Ok(Ranking::of_layers(context, |layer| {
            evidence.outputs.get(&layer.path).map(|found| found.mean_absolute.clone())
        }))
    }
}
