//! The search for the groups of layers that a module does not follow.
//!
//! A failure names an operation. The groups whose channels run there, and then those on the way to it, are left out until the smaller
//! module comes further: one attempt where the first suspect is the cause, and a logarithm of the suspects where none stands out. Groups of
//! the same kind (the same layers of other blocks) are held back with the cause and offered again, by halves, once the rest runs.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use burn_sfp_graph::{ChannelId, Network, Omitted};

use super::trial::{Failure, attempt};
use crate::PruneError;
use crate::group::{GroupCut, Groups};
use crate::kept::Kept;
use crate::target::Rewritten;

/// A group of tied layers that loses channels.
struct Unit {
    /// All channels of the group.
    channels: Vec<ChannelId>,
    removed: BTreeSet<ChannelId>,
    /// What groups of the same kind in other blocks have in common: the paths of their layers without numbers, and the cut.
    kind: (Vec<String>, Option<GroupCut>),
    first: String,
}

/// The state of a search: which groups lose their channels so far, and why others do not.
pub(super) struct Search<'a> {
    network: &'a Network,
    module: &'a dyn Rewritten,
    /// The blocks that go, whatever the channels.
    omitted: &'a Omitted,
    units: Vec<Unit>,
    active: BTreeSet<usize>,
    /// Why a group that is left out is.
    reasons: BTreeMap<usize, String>,
    /// Groups held back because one of their kind fails.
    held: BTreeMap<usize, Vec<usize>>,
    attempts: usize,
}

/// What an attempt shows.
type Outcome = Option<Failure>;

impl<'a> Search<'a> {
    /// Starts from a plan that removes these channels.
    pub fn new(
        network: &'a Network,
        (module, omitted): (&'a dyn Rewritten, &'a Omitted),
        kept: &Kept,
        channels: &[ChannelId],
    ) -> Self {
        let all: BTreeSet<ChannelId> = channels.iter().copied().collect();
        let units = Groups::of_kept(network, kept).groups.into_iter().filter_map(|group| {
            let removed: BTreeSet<ChannelId> = group.channels.iter().copied().filter(|id| all.contains(id)).collect();
            let paths: Vec<&str> = group.layers.iter().map(|&layer| network.layers()[layer].path.as_str()).collect();
            let kind = (paths.iter().map(|path| without_numbers(path)).collect(), group.cut);
            let first = paths.first().map(ToString::to_string).unwrap_or_default();
            (!removed.is_empty()).then_some(Unit { channels: group.channels, removed, kind, first })
        });
        let units: Vec<Unit> = units.collect();
        let active = (0..units.len()).collect();
        Self { network, module, omitted, units, active, reasons: BTreeMap::new(), held: BTreeMap::new(), attempts: 0 }
    }

    /// Returns the channels that stay so that the rest runs, given how the plan failed.
    pub fn run(mut self, failure: Failure) -> Result<Kept, PruneError> {
        if self.active.is_empty() {
            return Err(failure.error);
        }
        let limit = 16 + 8 * self.units.len().ilog2() as usize;
        let mut outcome = Some(failure);
        while let Some(failure) = outcome {
            if self.active.is_empty() || self.attempts > limit {
                self.leave_out(self.active.clone(), &failure);
                break;
            }
            let (causes, next) = self.causes(&failure)?;
            self.leave_out(causes.clone(), &failure);
            let more = self.hold_back_alike(&causes);
            outcome = if more { self.attempt(&self.active.clone())? } else { next };
        }
        self.give_back()?;
        let mut kept = Kept::default();
        for (unit, reason) in &self.reasons {
            kept.add(self.units[*unit].channels.iter().copied(), reason);
        }
        Ok(kept)
    }

    fn attempt(&mut self, units: &BTreeSet<usize>) -> Result<Outcome, PruneError> {
        self.attempts += 1;
        let channels = units.iter().flat_map(|&unit| &self.units[unit].removed).copied().collect();
        attempt(self.network, self.module, &channels, self.omitted)
    }

    fn without(&mut self, units: &BTreeSet<usize>) -> Result<Outcome, PruneError> {
        let rest = &self.active - units;
        self.attempt(&rest)
    }

    fn leave_out(&mut self, units: BTreeSet<usize>, failure: &Failure) {
        for unit in units {
            self.active.remove(&unit);
            self.reasons.insert(unit, failure.reason());
        }
    }

    /// The active groups in the order of suspicion.
    fn suspects(&self, failure: &Failure) -> Vec<usize> {
        let mut of_channel: HashMap<ChannelId, Vec<usize>> = HashMap::new();
        for &unit in &self.active {
            self.units[unit].removed.iter().for_each(|&channel| of_channel.entry(channel).or_default().push(unit));
        }
        let lists = self.network.channels_before(failure.position());
        let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
        for list in &lists {
            let here: BTreeSet<usize> = list.iter().filter_map(|id| of_channel.get(id)).flatten().copied().collect();
            found.extend(here.into_iter().filter(|&unit| seen.insert(unit)));
        }
        found.extend(self.active.difference(&seen));
        found
    }

    /// Finds groups without which the module comes further than it failed, and what happens without them.
    fn causes(&mut self, failure: &Failure) -> Result<(BTreeSet<usize>, Outcome), PruneError> {
        let further = |outcome: &Outcome| outcome.as_ref().is_none_or(|next| next.position() > failure.position());
        let suspects = self.suspects(failure);
        let mut out: BTreeSet<usize> = BTreeSet::new();
        while out.len() < suspects.len() {
            // One, another, two more, four more.
            let block: BTreeSet<usize> = suspects[out.len()..].iter().take(out.len().max(1)).copied().collect();
            out.extend(&block);
            let outcome = self.without(&out)?;
            if further(&outcome) {
                return self.narrow(out, block, outcome, &further);
            }
        }
        Ok((self.active.clone(), None))
    }

    /// Of groups that are enough, the last `block` of which was needed, looks for fewer.
    fn narrow(
        &mut self,
        mut enough: BTreeSet<usize>,
        mut block: BTreeSet<usize>,
        mut outcome: Outcome,
        further: &dyn Fn(&Outcome) -> bool,
    ) -> Result<(BTreeSet<usize>, Outcome), PruneError> {
        if block.len() < enough.len() {
            let next = self.without(&block)?;
            if !further(&next) {
                return Ok((enough, outcome));
            }
            (enough, outcome) = (block.clone(), next);
        }
        while block.len() > 1 {
            let half: BTreeSet<usize> = block.iter().take(block.len() / 2).copied().collect();
            let rest = &block - &half;
            let mut fewer = None;
            for part in [half, rest] {
                let next = self.without(&part)?;
                if further(&next) {
                    fewer = Some((part, next));
                    break;
                }
            }
            let Some((part, next)) = fewer else { break };
            (enough, block, outcome) = (part.clone(), part, next);
        }
        Ok((enough, outcome))
    }

    /// Holds active groups of the same kind as a cause back, and returns whether there are any.
    fn hold_back_alike(&mut self, causes: &BTreeSet<usize>) -> bool {
        let mut any = false;
        for &cause in causes {
            let alike = |unit: &usize| self.units[*unit].kind == self.units[cause].kind;
            let alike: Vec<usize> = self.active.iter().copied().filter(alike).collect();
            for &unit in &alike {
                self.active.remove(&unit);
                let reason = format!("as with layer `{}`, {}", self.units[cause].first, self.reasons[&cause]);
                self.reasons.insert(unit, reason);
            }
            any |= !alike.is_empty();
            if !alike.is_empty() {
                self.held.insert(cause, alike);
            }
        }
        any
    }

    /// Offers groups that were held back once more: all of a kind, then each half of them.
    fn give_back(&mut self) -> Result<(), PruneError> {
        for (_, held) in std::mem::take(&mut self.held) {
            let mut left = (held.len().ilog2() + 1).min(3);
            let mut open = VecDeque::from([held]);
            while let (Some(units), true) = (open.pop_front(), left > 0) {
                left -= 1;
                let with: BTreeSet<usize> = self.active.iter().chain(&units).copied().collect();
                if self.attempt(&with)?.is_none() {
                    units.iter().for_each(|unit| drop(self.reasons.remove(unit)));
                    self.active = with;
                } else if units.len() > 1 {
                    let (a, b) = units.split_at(units.len() / 2);
                    open.extend([a.to_vec(), b.to_vec()]);
                }
            }
        }
        Ok(())
    }
}

/// A path in which every number is the same.
fn without_numbers(path: &str) -> String {
    let part = |part: &str| if part.chars().all(|c| c.is_ascii_digit()) { "#".into() } else { part.to_string() };
    path.split('.').map(part).collect::<Vec<_>>().join(".")
}
