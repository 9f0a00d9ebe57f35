//! [`check`]: whether a policy's ranking and an analysis fit the network.

use std::collections::{BTreeMap, HashMap};

use burn_sfp_core::Analysis;
use burn_sfp_graph::{GraphError, Layer, Network};

use crate::{PruneError, PrunePlan, Ranking, plan};

/// Checks that the prunings before a new plan led to its model.
pub(super) fn check_earlier(plan: &PrunePlan) -> Result<(), PruneError> {
    let mismatch =
        |what| PruneError::ModelMismatch { what: format!("{what} (`after` was given the plan of another model)") };
    plan::check_earlier(plan).map_err(mismatch)
}

/// Checks that an analysis agrees with itself and is of this model. The network may have more parameters: those of outputs beside the logits.
pub(super) fn check_analysis(network: &Network, analysis: &Analysis) -> Result<(), PruneError> {
    analysis.check()?;
    let parameters = network.parameters().iter();
    let shapes: HashMap<&str, &[usize]> = parameters.map(|p| (p.path.as_str(), p.shape.as_slice())).collect();
    for expected in &analysis.model {
        let found = shapes.get(expected.path.as_str());
        if found.is_none_or(|found| *found != expected.shape) {
            let what = match found {
                None => format!("it has no parameter `{}`, which the analysis knows", expected.path),
                Some(found) => format!(
                    "its parameter `{}` has shape {found:?}, in the analysis {:?}",
                    expected.path, expected.shape
                ),
            };
            return Err(PruneError::ModelMismatch { what });
        }
    }
    Ok(())
}

/// Checks the layers, shapes and scores of a ranking.
pub(super) fn check_ranking(network: &Network, policy: &str, ranking: &Ranking) -> Result<(), PruneError> {
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
