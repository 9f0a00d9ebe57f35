//! [`Apoz`]: filters ranked by how often their output is zero.

use super::context::PolicyContext;
use super::ranking::{Ranking, RankingPolicy};
use crate::PruneError;
use crate::evidence::Needs;

/// Ranks filters by the average percentage of zeros of their output (APoZ; H. Hu et al. 2016, arXiv 1607.03250): the
/// filter with the most zeros goes first.
///
/// `score = 1 - APoZ`, `APoZ = share of the samples and positions at which a = 0`, where `a` is the output behind the
/// normalisation, activation and pooling that follow the layer directly. Behind activations that are never exactly zero
/// (GELU, SiLU, tanh) all filters score 1, and nothing is told apart. A layer that is called several times is judged by
/// its first call.
///
/// Needs the [outputs](Needs::outputs) of filters.
///
/// ```
/// use burn_sfp_prune::{Apoz, RankingPolicy};
/// assert_eq!(Apoz::new().name(), "apoz");
/// assert!(Apoz::new().needs().has_outputs());
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Apoz;

impl Apoz {
    /// Creates the policy.
    pub fn new() -> Self {
        Self
    }
}

impl RankingPolicy for Apoz {
    fn name(&self) -> String {
        "apoz".into()
    }

    fn needs(&self) -> Needs {
        Needs::none().outputs()
    }

    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        let evidence = context.require_evidence(&self.name(), self.needs())?;
        let active = |zeros: &Vec<f64>| zeros.iter().map(|share| 1.0 - share).collect();
        Ok(Ranking::of_layers(context, |layer| evidence.outputs.get(&layer.path).map(|found| active(&found.zeros))))
    }
}
