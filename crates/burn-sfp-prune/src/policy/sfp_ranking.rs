//! [`SfpRanking`]: filters, nodes and heads ranked by what they recognise.

use std::collections::BTreeMap;

use burn_sfp_core::LayerAnalysis;
use burn_sfp_core::performance::FilterPerformance;

use super::context::PolicyContext;
use super::norm::Norm;
use super::ranking::{Ranking, RankingPolicy};
use crate::PruneError;
use crate::normalize::Normalizer;

/// Ranks filters by their signal: labels that few other filters recognise, and little noise.
///
/// `score = (sum over its labels l of 1 / n_l) * |blocks| / (|blocks| + noise)`, where n_l is the number of the layer's filters
/// that recognise l, |blocks| the number of elements inside the filter's cluster blocks, `sum |c|^2`, and noise that of
/// docs/method.md, section 3. Silent filters score 0. Filters with the same score (the silent ones above all) are ordered by the
/// L1 norm of their weights. Heads of attentions are scored by the same formula, with the weights of all their nodes in the layers
/// of queries, keys and values.
///
/// Scores of different layers are compared by [`Normalizer::Lamp`]: a filter's score against those that are still there when its turn comes.
/// 1 / n_l is the share of its layer's service to a label that leaves with the filter; once the filters below it have left, that share is
/// larger, so that a layer which has lost many is spared.
///
/// This score is the library's own; the quantities in it are the paper's.
///
/// ```
/// use burn_sfp_prune::{RankingPolicy, SfpRanking};
/// assert_eq!(SfpRanking::new().name(), "sfp-ranking");
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct SfpRanking;

impl SfpRanking {
    /// Creates the policy.
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
        let mut ranking = Ranking { normalizer: Some(Normalizer::Lamp), ..Ranking::default() };
        let mut norms: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for layer in context.prunable_layers() {
            let kernels = context.kernels(layer)?;
            let (outputs, inputs) = kernels.shape();
            let of = |output| Norm::L1.of((0..inputs).flat_map(|input| kernels.kernel(output, input)));
            let own = norms.entry(&layer.path).or_insert((0..outputs).map(of).collect());
            if let Some(found) = context.analysis_of(layer) {
                ranking.filters.insert(layer.path.clone(), scores(found, own));
            }
        }
        let flow = context.network.flow();
        for heads in context.network.heads().iter().filter(|heads| heads.not_prunable.is_none()) {
            let Some(found) = context.analysis_of_heads(heads) else { continue };
            let weights = heads.output_channels().iter().map(|head| {
                let nodes = heads
                    .made_by
                    .iter()
                    .filter_map(|path| Some((context.network.layer(path)?, norms.get(path.as_str())?)));
                let own = nodes.flat_map(|(layer, norms)| layer.output_channels().iter().zip(norms));
                own.filter(|&(&node, _)| flow.atoms(node).contains(head)).map(|(_, norm)| norm).sum()
            });
            ranking.filters.insert(heads.path.clone(), scores(found, &weights.collect::<Vec<f64>>()));
        }
        Ok(ranking)
    }
}

/// Returns the score of each unit; `norms` order units whose analysis is the same.
fn scores(found: &LayerAnalysis, norms: &[f64]) -> Vec<f64> {
    let largest = norms.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    signals(found).into_iter().zip(norms).map(|(signal, norm)| signal + 1e-9 * norm / largest).collect()
}

/// Returns the score of each unit as far as it comes from the analysis.
pub(super) fn signals(found: &LayerAnalysis) -> Vec<f64> {
    let served = |label: usize| found.summary.filters_per_label.get(label).copied().unwrap_or_default().max(1) as f64;
    let signal = |unit: &FilterPerformance| {
        let rarity: f64 = unit.labels().iter().map(|&label| 1.0 / served(label)).sum();
        let blocks: usize = unit.clusters.iter().map(|cluster| cluster.len() * cluster.len()).sum();
        let purity = if blocks == 0 { 0.0 } else { blocks as f64 / (blocks + unit.noise) as f64 };
        rarity * purity
    };
    found.performance.iter().map(signal).collect()
}
