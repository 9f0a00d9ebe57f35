//! Filters by what they recognise: labels that few others serve, and little noise.

use super::{PolicyContext, Ranking, RankingPolicy};
use crate::PruneError;

/// Scores a filter by its signal: `score = (sum over its labels l of 1 / n_l) * |blocks| / (|blocks| + noise)`, where
/// n_l is the number of the layer's filters that recognise l (a label served alone counts 1), |blocks| the elements
/// inside the filter's cluster blocks, `sum |c|^2`, and noise as in METHOD section 3. Silent filters score 0; filters
/// with the same score (the silent ones above all) are told apart by the L1 norm of their weights.
///
/// This score is the library's own; the quantities in it are the paper's.
#[derive(Clone, Copy, Debug, Default)]
pub struct SfpRanking;

impl SfpRanking {
    /// The ranking.
    pub fn new() -> Self {
        Self
    }
}

impl RankingPolicy for SfpRanking {
    fn name(&self) -> String {
        "sfp-ranking".into()
    }

    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        context.require_analysis(&self.name())?;
        let mut ranking = Ranking::default();
        for layer in context.prunable_layers() {
            let Some(found) = context.analysis_of(layer) else { continue };
            let served = &found.summary.filters_per_label;
            let kernels = context.kernels(layer)?;
            let (outputs, inputs) = kernels.shape();
            let norms: Vec<f64> = (0..outputs)
                .map(|output| super::Norm::L1.of((0..inputs).flat_map(|input| kernels.kernel(output, input))))
                .collect();
            let largest = norms.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
            let scores = found.performance.iter().zip(&norms).map(|(filter, norm)| {
                let rarity: f64 = filter.labels().iter().map(|&label| 1.0 / served[label].max(1) as f64).sum();
                let blocks: usize = filter.clusters.iter().map(|cluster| cluster.len() * cluster.len()).sum();
                let purity = if blocks == 0 { 0.0 } else { blocks as f64 / (blocks + filter.noise) as f64 };
                rarity * purity + 1e-9 * norm / largest
            });
            ranking.filters.insert(layer.path.clone(), scores.collect());
        }
        Ok(ranking)
    }
}
