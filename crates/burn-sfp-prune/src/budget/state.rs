//! [`RemovalState`]: what a stop rule sees.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

use burn_sfp_graph::{ChannelId, Network, RunningCost};

/// How far the removal of channels has come, and what the smaller network costs.
pub struct RemovalState<'a> {
    pub(crate) channels: usize,
    pub(crate) candidates: usize,
    pub(crate) removed: usize,
    pub(crate) all_removed: &'a BTreeSet<ChannelId>,
    pub(crate) network: &'a Network,
    pub(crate) totals: &'a dyn Totals,
}

impl RemovalState<'_> {
    /// Returns the number of channels that are compared with each other ([`RemovalOrder`](crate::RemovalOrder)): those of one
    /// group, or of all groups with a candidate. Channels that have to stay count too.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Returns how many of [`channels`](RemovalState::channels) could be removed at the start.
    pub fn candidates(&self) -> usize {
        self.candidates
    }

    /// Returns how many of [`channels`](RemovalState::channels) are removed so far.
    pub fn removed(&self) -> usize {
        self.removed
    }

    /// Returns all channels (atoms, see [`Flow`](burn_sfp_graph::Flow)) that are removed so far, in the whole network.
    pub fn removed_channels(&self) -> &BTreeSet<ChannelId> {
        self.all_removed
    }

    /// Returns the network that is pruned, as it was before.
    pub fn network(&self) -> &Network {
        self.network
    }

    /// Returns the multiply-adds of one sample without the channels removed so far.
    pub fn macs(&self) -> u64 {
        self.totals.macs()
    }

    /// Returns the elements of all trainable parameters without the channels removed so far. Running statistics do not count.
    pub fn parameters(&self) -> u64 {
        self.totals.parameters()
    }
}

impl fmt::Debug for RemovalState<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { channels, candidates, removed, .. } = self;
        write!(f, "{removed} of {channels} channels removed, {candidates} candidates")
    }
}

/// The cost of the network without the channels removed so far.
pub(crate) trait Totals {
    fn macs(&self) -> u64;
    fn parameters(&self) -> u64;
}

/// The running cost of the network, brought up to date when a rule asks for it: rules that count channels pay nothing.
pub(crate) struct RunningTotals<'a> {
    network: &'a Network,
    cost: RefCell<Option<RunningCost<'a>>>,
    pending: RefCell<Vec<ChannelId>>,
}

impl<'a> RunningTotals<'a> {
    pub fn new(network: &'a Network) -> Self {
        Self { network, cost: RefCell::new(None), pending: RefCell::new(Vec::new()) }
    }

    pub fn network(&self) -> &'a Network {
        self.network
    }

    pub fn remove(&self, channel: ChannelId) {
        self.pending.borrow_mut().push(channel);
    }

    fn read(&self, value: impl Fn(&RunningCost<'a>) -> u64) -> u64 {
        let mut cost = self.cost.borrow_mut();
        let cost = cost.get_or_insert_with(|| RunningCost::of(self.network));
        self.pending.borrow_mut().drain(..).for_each(|channel| cost.remove(channel));
        value(cost)
    }
}

impl Totals for RunningTotals<'_> {
    fn macs(&self) -> u64 {
        self.read(RunningCost::macs)
    }
    fn parameters(&self) -> u64 {
        self.read(RunningCost::parameters)
    }
}
