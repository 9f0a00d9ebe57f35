//! [`Lane`]: the channels of one group in steps, the lowest scores first.

use std::collections::VecDeque;

use burn_sfp_graph::{ChannelId, Network};

use super::removal::Removal;
use super::{Bounds, Eligible};
use crate::budget::share_of;
use crate::group::{Group, Groups};

/// Channels that are removed in one step, so that what stays is a multiple.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// By which steps are compared: their score, unless the order is another one.
    pub key: f64,
    /// Mean score of the channels.
    pub score: f64,
    pub channels: Vec<ChannelId>,
}

/// The candidates of one group.
#[derive(Clone, Debug)]
pub(super) struct Lane<'a> {
    group: &'a Group,
    /// How many of the group's channels stay so far, those included that have to.
    left: usize,
    /// How many could be removed if the module followed.
    asked: usize,
    bounds: Bounds,
    steps: VecDeque<Step>,
    /// Whether the lane ended because a step could not be taken: another one would leave no multiple.
    ended: bool,
}

impl<'a> Lane<'a> {
    pub fn of(network: &Network, groups: &Groups, group: &'a Group, eligible: &Eligible<'_>, bounds: Bounds) -> Self {
        let score = |&channel: &ChannelId| {
            let stays = groups.channels[&channel].pinned.is_some() || eligible.excluded.contains(&channel);
            Some((*eligible.scores.get(&channel).filter(|_| !stays)?, channel))
        };
        let mut candidates: Vec<(f64, ChannelId)> = group.channels.iter().filter_map(score).collect();
        // Equal scores are ordered by channel, so that the plan does not depend on the sort.
        candidates.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let would_go = |channel: &&ChannelId| {
            eligible.kept.reason(**channel).is_some()
                && eligible.scores.contains_key(channel)
                && network.flow().pinned(**channel).is_none()
                && !eligible.excluded.contains(channel)
        };
        let kept = group.channels.iter().filter(would_go).count();
        let all = group.channels.len();
        // The filters of a layer that one channel stands for.
        let first = group.channels.first().and_then(|channel| groups.channels.get(channel));
        let producers = first.map(|channel| channel.producers.as_slice()).unwrap_or_default();
        let each = producers.iter().filter(|(layer, _)| Some(layer) == group.layers.first()).count();
        let bounds = bounds.in_channels(each, all);
        let steps = steps(&candidates, all, bounds.multiple);
        Self { group, left: all, asked: candidates.len() + kept, bounds, steps, ended: false }
    }

    /// How many channels could be removed if the module followed.
    pub fn asked(&self) -> usize {
        self.asked
    }

    /// All channels of the group, those that have to stay included.
    pub fn channels(&self) -> usize {
        self.group.channels.len()
    }

    /// How many of them are removed so far.
    pub fn removed(&self) -> usize {
        self.channels() - self.left
    }

    /// Whether the group has a share of its own, so that no rule is asked.
    pub fn is_settled(&self) -> bool {
        self.bounds.share.is_some()
    }

    /// The next step that leaves enough; `None` if there is none.
    pub fn next(&self) -> Option<&Step> {
        if self.ended {
            return None;
        }
        let least = self.bounds.least;
        self.steps.front().filter(|step| self.left >= least + step.channels.len())
    }

    /// The steps to come.
    pub fn steps_mut(&mut self) -> impl Iterator<Item = &mut Step> {
        self.steps.iter_mut()
    }

    /// Takes the next step, and returns its channels if it could be taken. Whatever comes of it, it is not offered again.
    pub fn take(&mut self, removal: &mut Removal<'_>) -> Option<Vec<ChannelId>> {
        let step = self.steps.pop_front()?;
        if !removal.take_channels(&step.channels) {
            self.ended = self.bounds.multiple > 1;
            return None;
        }
        self.left -= step.channels.len();
        Some(step.channels)
    }

    /// Whether what stays would be a multiple without this step too.
    pub fn is_whole(&self, step: &[ChannelId]) -> bool {
        step.len().is_multiple_of(self.bounds.multiple)
    }

    /// Puts the channels of the last step back, for good. What comes after it in the lane is not offered unless single channels are.
    pub fn put_back(&mut self, removal: &mut Removal<'_>, channels: &[ChannelId]) {
        removal.put_back_channels(channels);
        self.left += channels.len();
        self.ended = self.bounds.multiple > 1;
    }

    /// Removes what exceeds the most that may stay, and all that a share of the group's own asks for.
    pub fn shrink_to_bounds(&mut self, removal: &mut Removal<'_>) {
        let all = self.channels();
        let most = match self.bounds.share {
            Some(share) => (all - share_of(share, all)).max(self.bounds.least),
            None => self.bounds.most,
        };
        while self.left > most && self.next().is_some() {
            let before = self.left;
            let Some(channels) = self.take(removal) else { continue };
            // A share is met as nearly as multiples allow.
            let over = most.saturating_sub(self.left);
            if self.is_settled() && over > before - most {
                self.put_back(removal, &channels);
                break;
            }
        }
        if self.is_settled() {
            self.steps.clear();
        }
    }
}

/// Candidates in ascending order as steps of single channels, or so that what stays of `all` is a multiple after each.
fn steps(candidates: &[(f64, ChannelId)], all: usize, multiple: usize) -> VecDeque<Step> {
    let mut rest = candidates;
    let mut steps = VecDeque::new();
    let mut size = match all % multiple {
        0 => multiple,
        some => some,
    };
    while size <= rest.len() && size > 0 {
        let (now, later) = rest.split_at(size);
        let score = now.iter().map(|(score, _)| score / size as f64).sum();
        steps.push_back(Step { key: score, score, channels: now.iter().map(|(_, channel)| *channel).collect() });
        (rest, size) = (later, multiple);
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(candidates: usize, all: usize, multiple: usize) -> Vec<usize> {
        let candidates: Vec<(f64, ChannelId)> = (0..candidates).map(|k| (k as f64, k as ChannelId)).collect();
        steps(&candidates, all, multiple).iter().map(|step| step.channels.len()).collect()
    }

    #[test]
    fn what_stays_after_a_step_is_a_multiple() {
        assert_eq!(sizes(5, 5, 1), [1; 5]);
        assert_eq!(sizes(30, 30, 8), [6, 8, 8, 8]);
        assert_eq!(sizes(20, 30, 8), [6, 8]);
        assert_eq!(sizes(16, 16, 8), [8, 8]);
        assert!(sizes(5, 6, 8).is_empty() && sizes(0, 8, 8).is_empty());
    }
}
