//! [`HessianDiagonal`]: filters ranked by the change of the loss without them, by the diagonal of its second
//! derivatives.

use burn_sfp_graph::Layer;
use burn_sfp_nn::tensor::to_vec;
use rayon::prelude::*;

use super::context::PolicyContext;
use super::ranking::{Ranking, RankingPolicy};
use crate::PruneError;
use crate::evidence::{FilterLayout, Needs};

/// Ranks filters by the saliency of their weights (optimal brain damage; Y. LeCun, J. Denker, S. Solla, NIPS 1989).
///
/// `score = sum over the filter's weights w of 1/2 h w^2`, with the diagonal of the empirical Fisher matrix in place of
/// that of the Hessian: `h = 1/N sum over batches of (n g)^2` for the gradient `g` of the mean cross-entropy of a batch
/// of `n` samples, N samples in all.
///
/// The squares are those of batches, because a backward pass gives one gradient for a batch. Of single samples the
/// formula is the Fisher diagonal itself; where the gradients of samples have a mean of zero, as they nearly do at the
/// end of training, that of batches has the same expectation. For the exact one, give the calibration data in batches
/// of one sample: as many backward passes as samples. Biases and normalisations are not part of the sum.
///
/// Needs [gradients](Needs::gradients). Layers whose weight is computed by the forward pass, or sparse, are left
/// without scores.
///
/// ```
/// use burn_sfp_prune::{HessianDiagonal, RankingPolicy};
/// assert_eq!(HessianDiagonal::new().name(), "hessian-diagonal");
/// assert!(HessianDiagonal::new().needs().has_gradients());
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct HessianDiagonal;

impl HessianDiagonal {
    /// Creates the policy.
    pub fn new() -> Self {
        Self
    }
}

impl RankingPolicy for HessianDiagonal {
    fn name(&self) -> String {
        "hessian-diagonal".into()
    }

    fn needs(&self) -> Needs {
        Needs::none().gradients()
    }

    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        let evidence = context.require_evidence(&self.name(), self.needs())?;
        let network = context.network;
        let scores = |layer: &&Layer| {
            let path = &network.parameters().get(layer.weight())?.path;
            let fisher = &evidence.parameter_gradients.get(path)?.fisher;
            let weights = to_vec(network.parameter_data(path)?.clone()).ok()?;
            let layout = FilterLayout::of(layer, fisher.len()).filter(|_| weights.len() == fisher.len())?;
            Some(layout.sums(|at| 0.5 * fisher[at] * f64::from(weights[at]).powi(2)))
        };
        let layers: Vec<&Layer> = context.prunable_layers().collect();
        let all: Vec<Option<Vec<f64>>> = layers.par_iter().map(scores).collect();
        let scored = layers.into_iter().zip(all).filter_map(|(layer, scores)| Some((layer.path.clone(), scores?)));
        Ok(Ranking { filters: scored.collect(), ..Ranking::default() })
    }
}
