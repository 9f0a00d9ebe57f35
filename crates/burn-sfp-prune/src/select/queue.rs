//! [`Queue`]: lanes that are compared with each other.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use burn_sfp_graph::ChannelId;

use super::lane::{Lane, Step};
use super::removal::Removal;
use crate::PruneError;
use crate::budget::{RemovalState, StopRule};

/// Candidates that are compared with each other: those of one group, of one class, or of the whole network.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue<'a> {
    lanes: Vec<Lane<'a>>,
}

/// What was done with the steps so far, by their channels.
#[derive(Debug, Default)]
struct Steps {
    /// Each with its lane, in their order.
    taken: Vec<(usize, Vec<ChannelId>)>,
    /// Those that went too far.
    refused: Vec<Vec<ChannelId>>,
}

/// The next step of a lane.
#[derive(Clone, Copy, Debug)]
struct Next {
    key: f64,
    channel: ChannelId,
    lane: usize,
}

impl<'a> Queue<'a> {
    pub fn push(&mut self, lane: Lane<'a>) {
        self.lanes.push(lane);
    }

    pub fn join(&mut self, other: Queue<'a>) {
        self.lanes.extend(other.lanes);
    }

    pub fn lanes_mut(&mut self) -> impl Iterator<Item = &mut Lane<'a>> {
        self.lanes.iter_mut()
    }

    /// Whether no rule is asked.
    pub fn is_settled(&self) -> bool {
        self.lanes.iter().all(Lane::is_settled)
    }

    /// Compares steps by the share of their own lane that is gone after them.
    pub fn compare_by_share_of_lane(&mut self) {
        for lane in &mut self.lanes {
            let all = lane.channels().max(1) as f64;
            let mut gone = 0;
            for step in lane.steps_mut() {
                gone += step.channels.len();
                step.key = gone as f64 / all;
            }
        }
    }

    /// Compares steps by the share of all lanes that is gone after them, the lowest scores first.
    pub fn compare_by_share(&mut self) {
        let all: usize = self.lanes.iter().map(Lane::channels).sum();
        let mut steps: Vec<&mut Step> = self.lanes.iter_mut().flat_map(Lane::steps_mut).collect();
        steps.sort_by(|a, b| a.score.total_cmp(&b.score).then(a.channels.first().cmp(&b.channels.first())));
        let mut gone = 0;
        for step in steps {
            gone += step.channels.len();
            step.key = gone as f64 / all.max(1) as f64;
        }
    }

    /// Takes steps in their order until the rule says stop.
    pub fn run(&mut self, removal: &mut Removal<'_>, rule: &dyn StopRule) -> Result<(), PruneError> {
        let by_cost = rule.by_cost() && !rule.order().is_even();
        // Where scores may be negative, the lowest one counts as nought.
        let floor = self.lanes.iter_mut().flat_map(Lane::steps_mut).map(|step| step.score).fold(0.0, f64::min);
        let mut next: BinaryHeap<Reverse<Next>> = BinaryHeap::new();
        for lane in 0..self.lanes.len() {
            next.extend(self.look(lane, removal, by_cost.then_some((rule, floor))).map(Reverse));
        }
        let mut steps = Steps::default();
        let mut last = 0;
        while let Some(Reverse(first)) = next.pop() {
            if rule.stop(&self.state(removal, last))? {
                return Ok(());
            }
            // What a step saves changes with the steps taken since it was looked at.
            if by_cost
                && let Some(now) = self.look(first.lane, removal, by_cost.then_some((rule, floor)))
                && next.peek().is_some_and(|Reverse(other)| *other < now)
            {
                next.push(Reverse(now));
                continue;
            }
            if first.key == f64::INFINITY {
                // It saves nothing, and nothing after it does.
                break;
            }
            if let Some(channels) = self.lanes[first.lane].take(removal) {
                last = channels.len();
                if rule.too_far(&self.state(removal, last))? {
                    self.lanes[first.lane].put_back(removal, &channels);
                    steps.refused.push(channels);
                    last = 0;
                } else {
                    steps.taken.push((first.lane, channels));
                }
            }
            next.extend(self.look(first.lane, removal, by_cost.then_some((rule, floor))).map(Reverse));
        }
        if !rule.stop(&self.state(removal, last))? {
            self.settle(removal, rule, steps)?;
        }
        Ok(())
    }

    /// Nothing is left but steps that go too far: takes the one that goes least far, if the rule wants it at all, and puts back what need
    /// not go then.
    fn settle(&self, removal: &mut Removal<'_>, rule: &dyn StopRule, steps: Steps) -> Result<(), PruneError> {
        if rule.exhausted(&self.state(removal, 0)).is_ok() {
            return Ok(());
        }
        let mut best: Option<(f64, Vec<ChannelId>)> = None;
        for channels in steps.refused {
            if !removal.take(&channels) {
                continue;
            }
            let cost = rule.cost(&self.state(removal, channels.len())).unwrap_or_default();
            removal.put_back(&channels);
            if best.as_ref().is_none_or(|(other, _)| cost > *other) {
                best = Some((cost, channels));
            }
        }
        let Some((_, channels)) = best else { return rule.exhausted(&self.state(removal, 0)) };
        removal.take(&channels);
        if !rule.stop(&self.state(removal, 0))? {
            return rule.exhausted(&self.state(removal, 0));
        }
        // The highest scores come back first.
        for (_, channels) in
            steps.taken.into_iter().rev().filter(|(lane, channels)| self.lanes[*lane].is_whole(channels))
        {
            removal.put_back(&channels);
            if !rule.stop(&self.state(removal, 0))? {
                removal.take(&channels);
            }
        }
        Ok(())
    }

    /// The next step of a lane, and by what it is compared: its key, or its score for what it saves of the rule's cost.
    fn look(&mut self, lane: usize, removal: &mut Removal<'_>, by_cost: Option<(&dyn StopRule, f64)>) -> Option<Next> {
        let step = self.lanes[lane].next()?;
        let channel = step.channels.first().copied().unwrap_or_default();
        let Some((rule, floor)) = by_cost else { return Some(Next { key: step.key, channel, lane }) };
        let (score, channels) = ((step.score - floor) * step.channels.len() as f64, step.channels.clone());
        let before = rule.cost(&self.state(removal, 0)).unwrap_or_default();
        if !removal.take(&channels) {
            // The lane ends, or its next channel is looked at, when this one's turn comes.
            return Some(Next { key: f64::MAX, channel, lane });
        }
        let saved = before - rule.cost(&self.state(removal, 0)).unwrap_or_default();
        removal.put_back(&channels);
        Some(Next { key: if saved > 0.0 { score / saved } else { f64::INFINITY }, channel, lane })
    }

    /// What the rule sees; `last` channels were removed in the last step.
    fn state<'s>(&self, removal: &'s Removal<'_>, last: usize) -> RemovalState<'s> {
        RemovalState {
            channels: self.lanes.iter().map(Lane::channels).sum(),
            candidates: self.lanes.iter().map(Lane::asked).sum(),
            removed: self.lanes.iter().map(Lane::removed).sum(),
            last,
            all_removed: removal.removed(),
            network: removal.totals().network(),
            totals: removal.totals(),
        }
    }
}

impl PartialEq for Next {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Next {}

impl PartialOrd for Next {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Next {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.total_cmp(&other.key).then(self.channel.cmp(&other.channel)).then(self.lane.cmp(&other.lane))
    }
}
