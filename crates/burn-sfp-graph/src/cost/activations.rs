//! [`RunningActivations`]: the memory of activations while channels are removed one by one.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap, HashSet};

use burn::backend::ir::{OperationIr, TensorId, TensorIr};

use super::shapes::RunningShapes;
use crate::blocks::Block;
use crate::channels::ids::ChannelId;
use crate::network::Network;
use crate::op::name::name;

/// Operations whose output is the input's memory, seen in another way.
const VIEWS: [&str; 4] = ["Reshape", "SwapDims", "Permute", "Expand"];

/// Bytes of all activations that a forward pass holds at the same time, at its peak, while channels are removed and put back one by one.
///
/// An activation (an input of the network, or what an operation computes) takes its memory from the operation that makes it to the last
/// one that reads it. Reshapes and exchanges of axes take none. A backend that writes element-wise results over their inputs needs less,
/// one that unfolds patches more. Parameters do not count.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::GraphModule;
/// use burn_sfp_graph::{Network, RunningActivations};
/// # #[derive(Module, Debug)]
/// # struct Mlp { a: Linear, b: Linear }
/// # impl GraphModule for Mlp {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<2>) -> Tensor<2> { self.b.forward(self.a.forward(x)) }
/// # }
/// # let device = Device::flex();
/// # let linear = |from, to| LinearConfig::new(from, to).with_bias(false).init(&device);
/// # let mlp = Mlp { a: linear(4, 8), b: linear(8, 3) };
/// let network = Network::capture(&mlp, &Tensor::zeros([2, 4], &device))?;
/// let mut activations = RunningActivations::of(&network);
/// // While `a` runs: its input of 4 features and its output of 8, four bytes each.
/// assert_eq!(activations.peak(1), (8 + 4) * 4);
/// assert_eq!(activations.peak(64), 64 * (8 + 4) * 4);
/// activations.remove(network.layers()[0].output_channels()[0]);
/// assert_eq!(activations.peak(1), (7 + 4) * 4);
/// # Ok::<(), burn_sfp_graph::GraphError>(())
/// ```
#[derive(Clone, Debug)]
pub struct RunningActivations<'a> {
    shapes: RunningShapes<'a>,
    all: Vec<Activation>,
    /// For each axis the activations that it is one of.
    on_axis: Vec<Vec<usize>>,
    /// For each operation how many bytes more are held than during the one before, and the same behind the last.
    change: Vec<i64>,
    batch: u64,
    /// Tensors that blocks which are left out would have computed.
    gone: HashSet<TensorId>,
    known: Known,
    /// The atom that was removed last, and what was known before.
    last: Option<(ChannelId, Known)>,
}

/// What was computed since something changed.
#[derive(Clone, Debug, Default)]
struct Known {
    peak: Cell<Option<u128>>,
    smooth_peak: Cell<Option<f64>>,
}

#[derive(Clone, Debug)]
struct Activation {
    tensor: TensorId,
    shape: Vec<usize>,
    /// Bytes of an element.
    size: u64,
    /// The axes along which channels run, and the bytes of a channel along all of them.
    axes: Vec<usize>,
    each: u64,
    bytes: u64,
    /// The operation that makes it; `None` of inputs.
    made_by: Option<usize>,
    /// The first and the last operation during which it is there.
    from: usize,
    to: usize,
}

impl<'a> RunningActivations<'a> {
    /// The activations of the network's main forward pass.
    pub fn of(network: &'a Network) -> Self {
        let operations = &network.graph.operations[..network.graph.main];
        let all = live(operations, &network.graph.inputs, &network.graph.outputs);
        let batch = network.graph.batch.max(1) as u64;
        let mut found = Self {
            shapes: RunningShapes::new(&network.flow),
            all,
            on_axis: Vec::new(),
            change: vec![0; operations.len() + 1],
            batch,
            gone: HashSet::new(),
            known: Known::default(),
            last: None,
        };
        for index in 0..found.all.len() {
            let axes = found.shapes.axes_of(found.all[index].tensor);
            found.on_axis.resize(found.shapes.len(), Vec::new());
            axes.iter().for_each(|&axis| found.on_axis[axis].push(index));
            let own = &mut found.all[index];
            own.each = own.size * found.shapes.without_channels(own.tensor, &own.shape) as u64;
            own.axes = axes;
            found.recount(index);
        }
        found
    }

    /// Removes an atom (see [`Flow`](crate::Flow)), and with it every product that it is part of.
    pub fn remove(&mut self, atom: ChannelId) {
        if self.shapes.removed().contains(&atom) {
            return;
        }
        let shorter = self.shapes.shorten(atom);
        self.recount_axes(&shorter);
        self.last = Some((atom, std::mem::take(&mut self.known)));
    }

    /// Puts a removed atom back.
    pub fn restore(&mut self, atom: ChannelId) {
        if !self.shapes.removed().contains(&atom) {
            return;
        }
        let longer = self.shapes.lengthen(atom);
        self.recount_axes(&longer);
        // What was only tried changes nothing.
        self.known = self.last.take().filter(|(last, _)| *last == atom).map(|(_, known)| known).unwrap_or_default();
    }

    /// Leaves a block out. The stream in front of it takes the memory that the one behind it took.
    pub fn leave_out(&mut self, block: &Block) {
        self.change(block, true);
    }

    /// Puts a block back.
    pub fn put_back(&mut self, block: &Block) {
        self.change(block, false);
    }

    fn change(&mut self, block: &Block, gone: bool) {
        for index in 0..self.all.len() {
            let of = &self.all[index];
            let inside = of.made_by.is_some_and(|operation| block.operations.contains(&operation));
            let tensor = of.tensor;
            if inside && !block.stands_for.contains_key(&tensor) {
                if gone {
                    self.gone.insert(tensor);
                } else {
                    self.gone.remove(&tensor);
                }
                self.recount(index);
            }
        }
        (self.known, self.last) = Default::default();
    }

    /// Bytes at the peak for a batch of so many samples, without the channels removed so far.
    pub fn peak(&self, samples: usize) -> u64 {
        let peak = self.captured_peak() * samples as u128 / u128::from(self.batch);
        u64::try_from(peak).unwrap_or(u64::MAX)
    }

    /// Bytes of all activations together, for the captured batch, without the channels removed so far.
    pub fn total(&self) -> u64 {
        self.all.iter().map(|activation| activation.bytes).sum()
    }

    /// A number that falls with the peak, and with everything that is nearly as high: the norm of order 32 of the bytes over the operations,
    /// for the captured batch. Where two operations hold as much, the peak falls only once both hold less.
    pub fn smooth_peak(&self) -> f64 {
        if let Some(known) = self.known.smooth_peak.get() {
            return known;
        }
        let peak = self.captured_peak().max(1) as f64;
        let smooth = peak * self.held().map(|bytes| (bytes as f64 / peak).powi(32)).sum::<f64>().powf(1.0 / 32.0);
        self.known.smooth_peak.set(Some(smooth));
        smooth
    }

    /// Bytes at the peak for the captured batch.
    fn captured_peak(&self) -> u128 {
        let peak = self.known.peak.get().unwrap_or_else(|| self.held().max().unwrap_or_default());
        self.known.peak.set(Some(peak));
        peak
    }

    /// Bytes during each operation, for the captured batch.
    fn held(&self) -> impl Iterator<Item = u128> {
        self.change.iter().scan(0, |now: &mut i64, change| {
            *now += change;
            Some(u128::try_from(*now).unwrap_or_default())
        })
    }

    fn recount_axes(&mut self, axes: &BTreeSet<usize>) {
        let mut changed: Vec<usize> = axes.iter().flat_map(|&axis| &self.on_axis[axis]).copied().collect();
        changed.sort_unstable();
        changed.dedup();
        changed.into_iter().for_each(|index| self.recount(index));
    }

    fn recount(&mut self, index: usize) {
        let of = &mut self.all[index];
        let left = of.each * of.axes.iter().map(|&axis| self.shapes.left(axis) as u64).product::<u64>();
        let bytes = if self.gone.contains(&of.tensor) { 0 } else { left };
        let more = bytes as i64 - of.bytes as i64;
        of.bytes = bytes;
        self.change[of.from] += more;
        self.change[of.to + 1] -= more;
    }
}

/// The activations of these operations, views counted as the tensor that they show.
fn live(operations: &[OperationIr], inputs: &[TensorId], outputs: &[TensorId]) -> Vec<Activation> {
    let mut all: Vec<Activation> = Vec::new();
    // The activation that a tensor is, or is a view of.
    let mut place: HashMap<TensorId, usize> = HashMap::new();
    for (at, op) in operations.iter().enumerate() {
        for input in op.inputs() {
            match place.get(&input.id) {
                Some(&index) => all[index].to = at,
                None if inputs.contains(&input.id) => {
                    place.insert(input.id, all.len());
                    all.push(Activation { from: 0, made_by: None, ..Activation::new(input, at) });
                }
                // Parameters and constants.
                None => {}
            }
        }
        let shown = op.inputs().next().filter(|_| VIEWS.contains(&name(op).as_str()));
        let source = shown.and_then(|input| place.get(&input.id)).copied();
        for output in op.outputs() {
            place.insert(output.id, source.unwrap_or(all.len()));
            if source.is_none() {
                all.push(Activation::new(output, at));
            }
        }
    }
    for output in outputs {
        if let Some(&index) = place.get(output) {
            all[index].to = operations.len().saturating_sub(1);
        }
    }
    all
}

impl Activation {
    fn new(tensor: &TensorIr, at: usize) -> Self {
        let shape = tensor.shape.iter().copied().collect();
        Self {
            tensor: tensor.id,
            shape,
            size: tensor.dtype.size() as u64,
            axes: Vec::new(),
            each: 0,
            bytes: 0,
            made_by: Some(at),
            from: at,
            to: at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GraphModule;
    use burn::module::Module;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::activation::relu;
    use burn::tensor::{Device, Tensor};

    #[derive(Module, Debug)]
    struct Residual {
        a: Linear,
        b: Linear,
        c: Linear,
    }

    impl GraphModule for Residual {
        type Inputs = Tensor<2>;
        type Outputs = Tensor<2>;
        fn run(&self, x: Tensor<2>) -> Tensor<2> {
            let x = self.a.forward(x);
            let y = self.b.forward(relu(x.clone()));
            self.c.forward(x + y)
        }
    }

    #[test]
    fn what_is_read_later_is_held() {
        let device = Device::flex();
        let linear = |from, to| LinearConfig::new(from, to).with_bias(false).init(&device);
        let model = Residual { a: linear(2, 10), b: linear(10, 10), c: linear(10, 1) };
        let network = Network::capture(&model, &Tensor::zeros([3, 2], &device)).unwrap();
        let mut activations = RunningActivations::of(&network);
        // The stream, the activation and the branch, and then the stream, the branch and their sum.
        assert_eq!(activations.peak(1), 30 * 4);
        let stream: Vec<ChannelId> = network.layers()[0].output_channels().iter().copied().take(4).collect();
        stream.iter().for_each(|&channel| activations.remove(channel));
        assert_eq!(activations.peak(5), 5 * 18 * 4);
        let smooth = activations.smooth_peak();
        activations.restore(stream[0]);
        assert_eq!(activations.peak(1), 21 * 4);
        // What was tried and put back leaves the numbers as they were, and anything else does not.
        let before = (activations.peak(1), activations.smooth_peak());
        activations.remove(stream[0]);
        assert_eq!((activations.peak(1), activations.smooth_peak()), (18 * 4, smooth));
        activations.restore(stream[0]);
        assert_eq!((activations.peak(1), activations.smooth_peak()), before);
        activations.remove(stream[0]);
        activations.remove(stream[0]);
        activations.restore(stream[1]);
        assert_eq!((activations.peak(1), activations.smooth_peak()), before);
    }
}
