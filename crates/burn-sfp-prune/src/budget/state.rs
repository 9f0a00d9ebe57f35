//! [`RemovalState`]: what a stop rule sees.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use burn_sfp_graph::latency::{LayerLatencies, RunningLatency};
use burn_sfp_graph::{ChannelId, Network, RunningActivations, RunningCost};

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

/// Something that is made, and brought up to date, when it is asked for.
struct Late<T> {
    value: RefCell<Option<T>>,
    /// Atoms removed (true) and put back (false) since.
    pending: RefCell<Vec<(ChannelId, bool)>>,
}

impl<T> Late<T> {
    fn new() -> Self {
        Self { value: RefCell::new(None), pending: RefCell::new(Vec::new()) }
    }

    fn note(&self, channel: ChannelId, gone: bool) {
        let mut pending = self.pending.borrow_mut();
        // What was only tried leaves nothing to do.
        if pending.last() == Some(&(channel, !gone)) {
            pending.pop();
        } else {
            pending.push((channel, gone));
        }
    }

    fn read<V>(
        &self,
        make: impl FnOnce() -> T,
        change: impl Fn(&mut T, ChannelId, bool),
        value: impl Fn(&T) -> V,
    ) -> V {
        let mut current = self.value.borrow_mut();
        let current = current.get_or_insert_with(make);
        self.pending.borrow_mut().drain(..).for_each(|(channel, gone)| change(current, channel, gone));
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
        self.cost.note(channel, true);
        self.activations.note(channel, true);
        self.latency.note(channel, true);
    }

    pub fn restore(&self, channel: ChannelId) {
        self.cost.note(channel, false);
        self.activations.note(channel, false);
        self.latency.note(channel, false);
    }

    fn cost(&self, value: impl Fn(&RunningCost<'a>) -> u64) -> u64 {
        let change =
            |cost: &mut RunningCost<'a>, channel, gone| if gone { cost.remove(channel) } else { cost.restore(channel) };
        self.cost.read(|| RunningCost::of(self.network), change, value)
    }

    fn held<V>(&self, value: impl Fn(&RunningActivations<'a>) -> V) -> V {
        let change = |held: &mut RunningActivations<'a>, channel, gone| {
            if gone { held.remove(channel) } else { held.restore(channel) }
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
        let change = |latency: &mut RunningLatency<'_>, channel, gone| {
            if gone { latency.remove(channel) } else { latency.restore(channel) }
        };
        self.latency.read(|| RunningLatency::of(self.network, table.clone()), change, RunningLatency::seconds)
    }
    fn original(&self) -> &dyn Totals {
        &**self.original.get_or_init(|| Box::new(Self::new(self.network)))
    }
}
