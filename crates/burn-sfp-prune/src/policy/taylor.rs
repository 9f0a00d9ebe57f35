//! [`Taylor`]: filters ranked by the change of the loss without them, to first order.

use super::context::PolicyContext;
use super::ranking::{Ranking, RankingPolicy};
use crate::PruneError;
use crate::evidence::Needs;
use crate::normalize::Normalizer;

/// Ranks filters by the squared change of the loss without them, to first order (P. Molchanov et al. 2019, arXiv
/// 1906.10771).
///
/// With the weights `w` of a filter and the gradient `g` of a batch's mean cross-entropy, averaged over the batches of
/// the calibration data (by their numbers of samples):
///
/// | policy | score |
/// | --- | --- |
/// | [`Taylor::new`] | `mean of (sum over w of g w)^2` |
/// | [`Taylor::elements`] | `mean of (sum over w of (g w)^2)` |
///
/// The first is the default: a filter leaves as a whole, and the sum of `g w` is the derivative of the loss along that
/// change, in which weights that pull in opposite directions cancel. The second, the paper's sum over single
/// parameters, treats each weight as if it left alone; with batches of one size it ranks as
/// [`HessianDiagonal`](crate::HessianDiagonal) does. Biases and normalisations are not part of the sums. The gradients
/// are those of evaluation mode: behind a batch normalisation in training the loss does not depend on the length of a
/// filter, and the first score would be zero.
///
/// Scores of different layers are compared by [`Normalizer::Lamp`]: a filter's score against those that are still there when its turn comes.
///
/// The squares of batches are averaged as in the paper, because at the end of training the mean gradient of all samples
/// is close to zero. So the scores depend on how the data is cut into batches.
///
/// Needs [gradients](Needs::gradients). Layers whose weight is computed by the forward pass, or sparse, are left
/// without scores.
///
/// ```
/// use burn_sfp_prune::{RankingPolicy, Taylor};
/// assert_eq!(Taylor::new().name(), "taylor");
/// assert_eq!(Taylor::elements().name(), "taylor-elements");
/// assert!(Taylor::new().needs().has_gradients());
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Taylor {
    by_element: bool,
}

impl Taylor {
    /// Creates the policy that squares the sum over a filter's weights.
    pub fn new() -> Self {
        Self { by_element: false }
    }

    /// Creates the policy that sums the squares of a filter's weights.
    pub fn elements() -> Self {
        Self { by_element: true }
    }
}

impl RankingPolicy for Taylor {
    fn name(&self) -> String {
        if self.by_element { "taylor-elements".into() } else { "taylor".into() }
    }

    fn needs(&self) -> Needs {
        Needs::none().gradients()
    }

    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        let evidence = context.require_evidence(&self.name(), self.needs())?;
        let ranking = Ranking::of_layers(context, |layer| {
            let found = evidence.filter_gradients.get(&layer.path)?;
            Some(if self.by_element { found.elements.clone() } else { found.whole.clone() })
        });
        Ok(Ranking { normalizer: Some(Normalizer::Lamp), ..ranking })
    }
}
