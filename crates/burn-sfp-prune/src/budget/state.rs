//! [`RemovalState`]: what a stop rule sees.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use burn_sfp_graph::latency::{LayerLatencies, RunningLatency};
use burn_sfp_graph::{Block, ChannelId, Network, RunningActivations, RunningCost};

/// How far the removal of channels has come, and what the smaller network costs.
pub struct RemovalState<'a> {
    pub(crate) channels: usize,
    pub(crate) candidates: usize,
    pub(crate) removed: usize,
    pub(crate) last: usize,
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

    /// Returns how many channels the last step removed: one, or several where what stays is a multiple
    /// ([`LayerRule::multiple_of`](crate::LayerRule::multiple_of)). 0 before the first.
    pub fn last(&self) -> usize {
        self.last
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

    /// Returns the bytes of all parameters and running statistics, in their types, without the channels removed so far.
    pub fn bytes(&self) -> u64 {
        self.totals.bytes()
    }

    /// Returns the bytes of all activations that a forward pass over so many samples holds at its peak
    /// ([`RunningActivations`]), without the channels removed so far.
    pub fn activations(&self, samples: usize) -> u64 {
        self.totals.activations(samples)
    }

    /// Returns the seconds of a forward pass over the table's batch without the channels removed so far, by a table that was measured on the
    /// network. A rule asks with one and the same table.
    pub fn latency(&self, table: &Arc<LayerLatencies>) -> f64 {
        self.totals.latency(table)
    }

    /// Returns a number that falls with the peak of the activations and with everything nearly as high
    /// ([`RunningActivations::smooth_peak`]): what to compare removals by where several operations hold as much.
    pub fn smooth_activations(&self) -> f64 {
        self.totals.smooth_activations()
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
    fn bytes(&self) -> u64;
    fn activations(&self, samples: usize) -> u64;
    fn smooth_activations(&self) -> f64;
    fn latency(&self, table: &Arc<LayerLatencies>) -> f64;
    /// The cost of the whole network.
    fn original(&self) -> &dyn Totals;
}

/// The running cost of the network, brought up to date when a rule asks for it: rules that count channels pay nothing.
pub(crate) struct RunningTotals<'a> {
    network: &'a Network,
    cost: Late<RunningCost<'a>>,
    activations: Late<RunningActivations<'a>>,
    latency: Late<RunningLatency<'a>>,
    original: OnceCell<Box<RunningTotals<'a>>>,
}

/// What is removed or put back: a channel (atom), or a block by its index in [`Network::blocks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Candidate {
    Channel(ChannelId),
    Block(usize),
}

/// Something that is made, and brought up to date, when it is asked for.
struct Late<T> {
    value: RefCell<Option<T>>,
    /// What was removed (true) and put back (false) since.
    pending: RefCell<Vec<(Candidate, bool)>>,
}

impl<T> Late<T> {
    fn new() -> Self {
        Self { value: RefCell::new(None), pending: RefCell::new(Vec::new()) }
    }

    fn note(&self, candidate: Candidate, gone: bool) {
        let mut pending = self.pending.borrow_mut();
        // What was only tried leaves nothing to do.
        if pending.last() == Some(&(candidate, !gone)) {
            pending.pop();
        } else {
            pending.push((candidate, gone));
        }
    }

    fn read<V>(
        &self,
        make: impl FnOnce() -> T,
        change: impl Fn(&mut T, Candidate, bool),
        value: impl Fn(&T) -> V,
    ) -> V {
        let mut current = self.value.borrow_mut();
        let current = current.get_or_insert_with(make);
        self.pending.borrow_mut().drain(..).for_each(|(candidate, gone)| change(current, candidate, gone));
        value(current)
    }
}

impl<'a> RunningTotals<'a> {
    pub fn new(network: &'a Network) -> Self {
        Self { network, cost: Late::new(), activations: Late::new(), latency: Late::new(), original: OnceCell::new() }
    }

    pub fn network(&self) -> &'a Network {
        self.network
    }

    pub fn remove(&self, channel: ChannelId) {
        self.note(Candidate::Channel(channel), true);
    }

    pub fn restore(&self, channel: ChannelId) {
        self.note(Candidate::Channel(channel), false);
    }

    pub fn leave_out(&self, block: usize) {
        self.note(Candidate::Block(block), true);
    }

    pub fn put_back(&self, block: usize) {
        self.note(Candidate::Block(block), false);
    }

    fn note(&self, candidate: Candidate, gone: bool) {
        self.cost.note(candidate, gone);
        self.activations.note(candidate, gone);
        self.latency.note(candidate, gone);
    }

    fn block(&self, index: usize) -> &'a Block {
        &self.network.blocks()[index]
    }

    fn cost(&self, value: impl Fn(&RunningCost<'a>) -> u64) -> u64 {
        let change = |cost: &mut RunningCost<'a>, candidate, gone| match (candidate, gone) {
            (Candidate::Channel(channel), true) => cost.remove(channel),
            (Candidate::Channel(channel), false) => cost.restore(channel),
            (Candidate::Block(block), true) => cost.leave_out(self.block(block)),
            (Candidate::Block(block), false) => cost.put_back(self.block(block)),
        };
        self.cost.read(|| RunningCost::of(self.network), change, value)
    }

    fn held<V>(&self, value: impl Fn(&RunningActivations<'a>) -> V) -> V {
        let change = |held: &mut RunningActivations<'a>, candidate, gone| match (candidate, gone) {
            (Candidate::Channel(channel), true) => held.remove(channel),
            (Candidate::Channel(channel), false) => held.restore(channel),
            (Candidate::Block(block), true) => held.leave_out(self.block(block)),
            (Candidate::Block(block), false) => held.put_back(self.block(block)),
        };
        self.activations.read(|| RunningActivations::of(self.network), change, value)
    }
}

impl Totals for RunningTotals<'_> {
    fn macs(&self) -> u64 {
        self.cost(RunningCost::macs)
    }
    fn parameters(&self) -> u64 {
        self.cost(RunningCost::parameters)
    }
    fn bytes(&self) -> u64 {
        self.cost(RunningCost::bytes)
    }
    fn activations(&self, samples: usize) -> u64 {
        self.held(|held| held.peak(samples))
    }
    fn smooth_activations(&self) -> f64 {
        self.held(RunningActivations::smooth_peak)
    }
    fn latency(&self, table: &Arc<LayerLatencies>) -> f64 {
        let change = |latency: &mut RunningLatency<'_>, candidate, gone| match (candidate, gone) {
            (Candidate::Channel(channel), true) => latency.remove(channel),
            (Candidate::Channel(channel), false) => latency.restore(channel),
            (Candidate::Block(block), true) => latency.leave_out(self.block(block)),
            (Candidate::Block(block), false) => latency.put_back(self.block(block)),
        };
        self.latency.read(|| RunningLatency::of(self.network, table.clone()), change, RunningLatency::seconds)
    }
    fn original(&self) -> &dyn Totals {
        &**self.original.get_or_init(|| Box::new(Self::new(self.network)))
    }
}
