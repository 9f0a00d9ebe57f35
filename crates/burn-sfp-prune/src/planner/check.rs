//! [`check`]: whether an analysis and earlier prunings fit the network.

use std::collections::{BTreeSet, HashMap};

use burn_sfp_core::Analysis;
use burn_sfp_graph::{ChannelId, Network};

use crate::{PruneError, PrunePlan, plan};

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

pub(super) fn check_not_empty(
    network: &Network,
    policy: &str,
    removed: &BTreeSet<ChannelId>,
) -> Result<(), PruneError> {
    let emptied = network.layers().iter().find(|layer| {
        !layer.output_channels().is_empty() && layer.output_channels().iter().all(|id| removed.contains(id))
    });
    match emptied {
        None => Ok(()),
        Some(layer) => Err(PruneError::WouldEmpty {
            path: layer.path.clone(),
            filters: layer.filters,
            asked: format!("policy {policy}"),
        }),
    }
}
