//! [`BatchNormScale`]: filters ranked by the scale of the batch normalisation behind them.

use burn_sfp_graph::Layer;

use super::context::PolicyContext;
use super::ranking::{Ranking, RankingPolicy};
use crate::PruneError;

/// Ranks filters by |gamma| of the batch normalisation that follows their layer directly (network slimming, Liu et al. 2017, arXiv
/// 1708.06519).
///
/// The scale says how much of a filter gets past the normalisation, whatever the size of its weights. It tells most after training
/// with a penalty on the scales, which drives some of them to zero.
///
/// Layers without such a normalisation get no scores and keep their filters, and so do layers tied to them: linear layers without one,
/// and networks that normalise in front of a layer (DenseNet, ResNet-v2). [`or`](crate::PolicyExt::or) has another policy score them.
///
/// ```
/// use burn_sfp_prune::{BatchNormScale, Magnitude, PolicyExt, RankingPolicy};
/// let policy = BatchNormScale::new().or(Magnitude::l2());
/// assert_eq!(policy.name(), "batch-norm-scale or magnitude-l2");
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct BatchNormScale;

impl BatchNormScale {
    /// Creates the policy.
    pub fn new() -> Self {
        Self
    }
}

impl RankingPolicy for BatchNormScale {
    fn name(&self) -> String {
        "batch-norm-scale".into()
    }

    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        let mut ranking = Ranking::default();
        let norms = context.network.batch_norms();
        let gamma = |layer: &Layer| -> Option<Vec<f64>> {
            // Behind a linear layer on tokens, Burn's normalisation scales the tokens.
            let by_filter = !layer.kind.is_linear() || layer.tap.shape.len() == 2;
            let mean = layer.running_mean.filter(|_| by_filter)?;
            let gamma = norms.iter().find(|norm| norm.mean == mean)?.gamma;
            let values = context.network.parameter_data_at(gamma).filter(|data| data.dtype().is_float())?;
            let scales: Vec<f64> = values.iter::<f64>().map(f64::abs).collect();
            (scales.len() == layer.filters).then_some(scales)
        };
        for layer in context.prunable_layers() {
            if let Some(scales) = gamma(layer) {
                ranking.filters.insert(layer.path.clone(), scales);
            }
        }
        Ok(ranking)
    }
}
