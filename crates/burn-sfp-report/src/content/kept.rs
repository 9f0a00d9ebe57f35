//! Why filters stay, in words.

use std::collections::{BTreeSet, HashMap};

use burn_sfp_prune::PrunePlan;
use serde::Serialize;

use super::shown::first;
use crate::limits;
use crate::text::shortened;

/// A reason why filters stay, and where.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Kept {
    pub reason: String,
    /// How many filters stay for it in each of the layers; all where there is no number.
    pub filters: Option<usize>,
    /// How many filters the group had, how many were asked for and how many left, where only some stay.
    pub group: Option<(usize, Option<usize>, usize)>,
    /// Module paths.
    pub layers: Vec<String>,
    /// Number of further layers.
    pub more: usize,
}

/// All reasons, and which of them concern a layer.
pub(crate) struct Reasons {
    pub entries: Vec<Kept>,
    /// Positions of entries by module path.
    pub of: HashMap<String, Vec<usize>>,
}

/// Reasons of the plan: layers that keep all their filters and blocks that stay, those with the same reason together, then groups that lost less than was
/// asked for.
pub(crate) fn kept(plan: &PrunePlan, left_out: &mut Vec<String>) -> Reasons {
    let mut entries: Vec<Kept> = Vec::new();
    let mut all: Vec<Vec<&str>> = Vec::new();
    let mut known: HashMap<&str, usize> = HashMap::new();
    for layer in plan.unpruned.iter().chain(&plan.kept_blocks) {
        let at = *known.entry(&layer.reason).or_insert_with(|| {
            entries.push(Kept {
                reason: shortened(&layer.reason),
                filters: None,
                group: None,
                layers: Vec::new(),
                more: 0,
            });
            all.push(Vec::new());
            entries.len() - 1
        });
        all[at].push(&layer.path);
    }
    let listed: BTreeSet<&str> = plan.unpruned.iter().map(|layer| layer.path.as_str()).collect();
    let told = |layers: &[String]| layers.iter().all(|layer| listed.contains(layer.as_str()));
    for group in plan.groups.iter().filter(|group| !told(&group.layers)) {
        for held in &group.held {
            entries.push(Kept {
                reason: shortened(&held.reason),
                filters: Some(held.filters),
                group: Some((group.filters, group.asked, group.removed)),
                layers: Vec::new(),
                more: 0,
            });
            all.push(group.layers.iter().map(String::as_str).collect());
        }
    }
    let entries = first(entries, limits::REASONS, "reasons why filters stay", left_out);
    let mut reasons = Reasons { entries, of: HashMap::new() };
    for (at, (entry, layers)) in reasons.entries.iter_mut().zip(&all).enumerate() {
        entry.layers = layers.iter().take(limits::LAYERS_OF_A_REASON).map(|path| shortened(path)).collect();
        entry.more = layers.len() - entry.layers.len();
        for path in layers {
            reasons.of.entry(path.to_string()).or_default().push(at);
        }
    }
    reasons
}

/// The blocks that are left out whole.
pub(super) fn blocks(plan: &PrunePlan, left_out: &mut Vec<String>) -> Vec<String> {
    let paths = plan.blocks.iter().map(|block| shortened(&block.path));
    first(paths.collect(), limits::REASONS, "blocks", left_out)
}

/// What the plan warns of.
pub(super) fn warnings(plan: &PrunePlan, left_out: &mut Vec<String>) -> Vec<String> {
    let unreached = plan.unreached.iter().map(|path| {
        format!(
            "`{}` is not reached by the captured forward pass: add the pass that runs it (`Planner::also`), or exclude \
             what feeds it",
            shortened(path)
        )
    });
    let uncounted = plan.uncounted.iter().map(|operation| {
        let after = operation.after.as_deref().map_or(String::new(), |path| format!(" after `{}`", shortened(path)));
        format!("the multiply-adds of {}{after} are not known and not counted", operation.name)
    });
    first(unreached.chain(uncounted).collect(), limits::REASONS, "warnings", left_out)
}
