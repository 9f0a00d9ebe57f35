//! [`select`]: offers channels for removal in the order of their scores, until a stop rule says stop.

use std::collections::{BTreeMap, BTreeSet};

use burn_sfp_graph::{ChannelId, Network};

use crate::PruneError;
use crate::budget::{RemovalOrder, RemovalState, RunningTotals, StopRule};
use crate::group::{GroupCut, Groups};
use crate::kept::Kept;
use crate::remaining::Remaining;

/// A channel that may be removed.
struct Candidate {
    score: f64,
    /// Index in [`Groups::groups`].
    group: usize,
    channel: ChannelId,
}

/// Candidates that are compared with each other: those of one group, or of the whole network.
#[derive(Default)]
struct Queue {
    /// All channels of the groups in the queue, those that have to stay included.
    channels: usize,
    /// How many could be removed if the module followed.
    asked: usize,
    candidates: Vec<Candidate>,
}

impl Queue {
    /// Returns what the stop rule sees; `before` channels were removed before this queue began.
    fn state<'a>(
        &self,
        before: usize,
        all_removed: &'a BTreeSet<ChannelId>,
        totals: &'a RunningTotals<'_>,
    ) -> RemovalState<'a> {
        RemovalState {
            channels: self.channels,
            candidates: self.asked,
            removed: all_removed.len() - before,
            all_removed,
            network: totals.network(),
            totals,
        }
    }
}

/// Which channels may be removed.
pub(crate) struct Eligible<'a> {
    /// The score of each ranked channel; others stay.
    pub scores: &'a BTreeMap<ChannelId, f64>,
    /// The coordinate that is cut where filters have two.
    pub cut: GroupCut,
    /// Channels of excluded layers, which stay.
    pub excluded: &'a BTreeSet<ChannelId>,
    /// Channels that stay because the module does not follow. A share of the candidates counts them, so that the others make up for them.
    pub kept: &'a Kept,
}

/// Returns the channels (atoms) to remove: the lowest scores first, as long as the rule does not stop. Every axis of every
/// parameter and every group keeps at least one channel.
pub(crate) fn select(
    network: &Network,
    groups: &Groups,
    eligible: &Eligible<'_>,
    rule: &dyn StopRule,
) -> Result<BTreeSet<ChannelId>, PruneError> {
    let queues = queues(network, groups, eligible, rule.order());
    if queues.is_empty() {
        return Ok(BTreeSet::new());
    }
    let mut left: Vec<usize> = groups.groups.iter().map(|group| group.channels.len()).collect();
    let mut remaining = Remaining::of(network);
    let totals = RunningTotals::new(network);
    let mut removed = BTreeSet::new();
    for queue in &queues {
        let before = removed.len();
        for candidate in &queue.candidates {
            if rule.stop(&queue.state(before, &removed, &totals))? {
                break;
            }
            if left[candidate.group] > 1 && remaining.take(candidate.channel) {
                left[candidate.group] -= 1;
                removed.insert(candidate.channel);
                totals.remove(candidate.channel);
            }
        }
        let state = queue.state(before, &removed, &totals);
        if !rule.stop(&state)? {
            rule.exhausted(&state)?;
        }
    }
    Ok(removed)
}

/// Returns the candidates in the order in which they are offered.
fn queues(network: &Network, groups: &Groups, eligible: &Eligible<'_>, order: RemovalOrder) -> Vec<Queue> {
    let mut queues: Vec<Queue> = Vec::new();
    for (index, group) in groups.groups.iter().enumerate() {
        if group.cut.is_some_and(|cut| cut != eligible.cut) {
            continue;
        }
        let candidate = |&channel: &ChannelId| {
            let stays = groups.channels[&channel].pinned.is_some() || eligible.excluded.contains(&channel);
            let score = eligible.scores.get(&channel).filter(|_| !stays)?;
            Some(Candidate { score: *score, group: index, channel })
        };
        let candidates: Vec<Candidate> = group.channels.iter().filter_map(candidate).collect();
        let would_go = |channel: &&ChannelId| {
            eligible.kept.reason(**channel).is_some()
                && eligible.scores.contains_key(channel)
                && network.flow().pinned(**channel).is_none()
                && !eligible.excluded.contains(channel)
        };
        let kept = group.channels.iter().filter(would_go).count();
        if candidates.len() + kept == 0 {
            continue;
        }
        if order == RemovalOrder::PerGroup || queues.is_empty() {
            queues.push(Queue::default());
        }
        if let Some(queue) = queues.last_mut() {
            queue.channels += group.channels.len();
            queue.asked += candidates.len() + kept;
            queue.candidates.extend(candidates);
        }
    }
    for queue in &mut queues {
        // Equal scores are ordered by channel, so that the plan does not depend on the sort.
        queue.candidates.sort_by(|a, b| a.score.total_cmp(&b.score).then(a.channel.cmp(&b.channel)));
    }
    queues
}
