//! [`Queue`]: lanes that are compared with each other.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use burn_sfp_graph::ChannelId;

use super::candidate::Candidate;
use super::depth::BlockCandidate;
use super::lane::{Lane, Step};
use super::removal::Removal;
use crate::PruneError;
use crate::budget::{RemovalState, StopRule};

/// Candidates that are compared with each other: those of one group, of one class, or of the whole network.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue<'a> {
    lanes: Vec<Lane<'a>>,
    /// Blocks, each compared by a key. They come after the lanes.
    blocks: Vec<(f64, &'a BlockCandidate)>,
}

/// What was done with the steps so far.
#[derive(Debug, Default)]
struct Steps<'a> {
    /// Each with its lane, in their order.
    taken: Vec<(usize, Candidate<'a>)>,
    /// Those that went too far.
    refused: Vec<Candidate<'a>>,
}

/// The next step of a lane, or a block.
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

    /// Adds a block, which is compared by its score.
    pub fn push_block(&mut self, block: &'a BlockCandidate) {
        self.blocks.push((block.score, block));
    }

    /// Compares blocks by the share of all filters whose score is lower, where steps are compared by the share that is gone after them.
    pub fn compare_blocks_by_share(&mut self) {
        let mut scores: Vec<(f64, usize)> =
            self.lanes.iter_mut().flat_map(Lane::steps_mut).map(|step| (step.score, step.channels.len())).collect();
        scores.sort_by(|a, b| a.0.total_cmp(&b.0));
        let all: usize = self.lanes.iter().map(Lane::channels).sum();
        for (key, block) in &mut self.blocks {
            let lower: usize =
                scores.iter().take_while(|(score, _)| *score < block.score).map(|(_, channels)| channels).sum();
            *key = lower as f64 / all.max(1) as f64;
        }
    }

    pub fn lanes_mut(&mut self) -> impl Iterator<Item = &mut Lane<'a>> {
        self.lanes.iter_mut()
    }

    /// Whether no rule is asked.
    pub fn is_settled(&self) -> bool {
        self.lanes.iter().all(Lane::is_settled) && self.blocks.is_empty()
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
        for lane in 0..self.lanes.len() + self.blocks.len() {
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
            if let Some(candidate) = self.take(first.lane, removal) {
                last = candidate.channels();
                if rule.too_far(&self.state(removal, last))? {
                    self.put_back(first.lane, removal, &candidate);
                    steps.refused.push(candidate);
                    last = 0;
                } else {
                    steps.taken.push((first.lane, candidate));
                }
            }
            // A block is offered once.
            if first.lane < self.lanes.len() {
                next.extend(self.look(first.lane, removal, by_cost.then_some((rule, floor))).map(Reverse));
            }
        }
        if !rule.stop(&self.state(removal, last))? {
            self.settle(removal, rule, steps)?;
        }
        Ok(())
    }

    /// Takes the next step of a lane, or a block.
    fn take(&mut self, lane: usize, removal: &mut Removal<'_>) -> Option<Candidate<'a>> {
        match lane.checked_sub(self.lanes.len()) {
            None => self.lanes[lane].take(removal).map(Candidate::Channels),
            Some(block) => {
                let candidate = Candidate::Block(self.blocks[block].1);
                removal.take(&candidate).then_some(candidate)
            }
        }
    }

    fn put_back(&mut self, lane: usize, removal: &mut Removal<'_>, candidate: &Candidate<'_>) {
        match candidate {
            Candidate::Channels(channels) => self.lanes[lane].put_back(removal, channels),
            block => removal.put_back(block),
        }
    }

    /// Nothing is left but steps that go too far: takes the one that goes least far, if the rule wants it at all, and puts back what need
    /// not go then.
    fn settle(&self, removal: &mut Removal<'_>, rule: &dyn StopRule, steps: Steps<'_>) -> Result<(), PruneError> {
        if rule.exhausted(&self.state(removal, 0)).is_ok() {
            return Ok(());
        }
        let mut best: Option<(f64, Candidate<'_>)> = None;
        for candidate in steps.refused {
            if !removal.take(&candidate) {
                continue;
            }
            let cost = rule.cost(&self.state(removal, candidate.channels())).unwrap_or_default();
            removal.put_back(&candidate);
            if best.as_ref().is_none_or(|(other, _)| cost > *other) {
                best = Some((cost, candidate));
            }
        }
        let Some((_, candidate)) = best else { return rule.exhausted(&self.state(removal, 0)) };
        removal.take(&candidate);
        if !rule.stop(&self.state(removal, 0))? {
            return rule.exhausted(&self.state(removal, 0));
        }
        // The highest scores come back first.
        let is_whole = |(lane, candidate): &(usize, Candidate<'_>)| match candidate {
            Candidate::Channels(channels) => self.lanes[*lane].is_whole(channels),
            Candidate::Block(_) => true,
        };
        for (_, candidate) in steps.taken.into_iter().rev().filter(is_whole) {
            removal.put_back(&candidate);
            if !rule.stop(&self.state(removal, 0))? {
                removal.take(&candidate);
            }
        }
        Ok(())
    }

    /// The next step of a lane, and by what it is compared: its key, or its score for what it saves of the rule's cost.
    fn look(&mut self, lane: usize, removal: &mut Removal<'_>, by_cost: Option<(&dyn StopRule, f64)>) -> Option<Next> {
        let (key, score, units, candidate) = match lane.checked_sub(self.lanes.len()) {
            None => {
                let step = self.lanes[lane].next()?;
                (step.key, step.score, step.channels.len(), Candidate::Channels(step.channels.clone()))
            }
            Some(block) => {
                let (key, block) = self.blocks[block];
                (key, block.score, block.filters, Candidate::Block(block))
            }
        };
        let channel = match &candidate {
            Candidate::Channels(channels) => channels.first().copied().unwrap_or_default(),
            Candidate::Block(_) => ChannelId::MAX,
        };
        let Some((rule, floor)) = by_cost else { return Some(Next { key, channel, lane }) };
        let score = (score - floor) * units as f64;
        let before = rule.cost(&self.state(removal, 0)).unwrap_or_default();
        if !removal.take(&candidate) {
            // The lane ends, or its next channel is looked at, when this one's turn comes.
            return Some(Next { key: f64::MAX, channel, lane });
        }
        let saved = before - rule.cost(&self.state(removal, 0)).unwrap_or_default();
        removal.put_back(&candidate);
        Some(Next { key: if saved > 0.0 { score / saved } else { f64::INFINITY }, channel, lane })
    }

    /// What the rule sees; `last` channels were removed in the last step.
    pub fn state<'s>(&self, removal: &'s Removal<'_>, last: usize) -> RemovalState<'s> {
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
