//! [`check_ranking`]: whether what a policy returned fits the network.

use std::collections::BTreeMap;

use burn_sfp_graph::{GraphError, Layer, Network};

use super::ranking::Ranking;
use crate::PruneError;

/// Checks the layers, shapes and scores of a ranking.
pub(crate) fn check_ranking(network: &Network, policy: &str, ranking: &Ranking) -> Result<(), PruneError> {
    let layers: BTreeMap<&str, &Layer> = network.layers().iter().map(|layer| (layer.path.as_str(), layer)).collect();
    let find = |path: &String| {
        let available = || network.layers().iter().map(|layer| layer.path.clone()).collect();
        let unknown = || GraphError::UnknownLayer { path: path.clone(), available: available() };
        layers.get(path.as_str()).copied().ok_or_else(unknown)
    };
    let bad =
        |path: &String, what: String| Err(PruneError::BadRanking { policy: policy.into(), path: path.clone(), what });
    for (path, scores) in &ranking.filters {
        let units = match network.heads_at(path) {
            Some(heads) => heads.heads,
            None => find(path)?.filters,
        };
        if scores.len() != units {
            return bad(path, format!("{} scores for {units} filters", scores.len()));
        }
        if let Some(at) = scores.iter().position(|score| !score.is_finite()) {
            return bad(path, format!("the score of filter {at} is {}", scores[at]));
        }
    }
    for (path, score) in &ranking.blocks {
        if !network.blocks().iter().any(|block| block.path() == path) {
            let available = network.blocks().iter().map(|block| block.path().to_string()).collect();
            return Err(GraphError::UnknownBlock { path: path.clone(), available }.into());
        }
        if !score.is_finite() {
            return bad(path, format!("the score of the block is {score}"));
        }
    }
    for (path, keep) in &ranking.connections {
        let layer = find(path)?;
        if layer.groups > 1 {
            return bad(path, "a keep mask over the connections of a grouped convolution".into());
        }
        if !layer.is_stored() {
            return bad(path, "a keep mask over the connections of a weight that the forward pass computes".into());
        }
        if keep.shape() != (layer.filters, layer.inputs) {
            let (found, wanted) = (keep.shape(), (layer.filters, layer.inputs));
            return bad(path, format!("a keep mask of shape {found:?} for {wanted:?}"));
        }
    }
    Ok(())
}
