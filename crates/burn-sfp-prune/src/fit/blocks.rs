//! [`blocks_that_stay`]: the blocks that a module does not leave out as planned.

use std::collections::BTreeSet;

use burn_sfp_graph::Network;
use burn_sfp_nn::Removable;

use super::trial::attempt;
use crate::PruneError;
use crate::target::Rewritten;

/// Returns the blocks without which the module runs another graph than planned, with the reason; none if all of them can go together, so
/// that something else is the cause of a failure.
pub(super) fn blocks_that_stay(
    network: &Network,
    module: &dyn Rewritten,
    parts: &[Removable],
) -> Result<Vec<(String, String)>, PruneError> {
    let without = |parts: &[Removable]| {
        let omitted = network.omit(parts.iter().map(|part| part.path.as_str()))?;
        attempt(network, module, &BTreeSet::new(), &omitted)
    };
    let Some(together) = without(parts)? else { return Ok(Vec::new()) };
    let mut stay = Vec::new();
    for part in parts {
        if let Some(failure) = without(std::slice::from_ref(part))? {
            stay.push((part.path.clone(), failure.reason()));
        }
    }
    if stay.is_empty() {
        let reason = format!("not with the other blocks: {}", together.reason());
        stay.extend(parts.iter().map(|part| (part.path.clone(), reason.clone())));
    }
    Ok(stay)
}
