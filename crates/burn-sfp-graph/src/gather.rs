//! [`Network::gather`]: what the filters that make the inputs of each layer have together, for all layers in one pass.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use burn::backend::ir::TensorId;

use crate::channels::ids::ChannelId;
use crate::layers::layer::Layer;
use crate::network::Network;
use crate::sources::Foreign;

/// What reaches the inputs of a layer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Gathered<T> {
    /// For each input, what the filters that make it have together; `None` where no filter makes it.
    pub inputs: Vec<Option<T>>,
    /// Whether every input comes from filters alone; see [`Sources::complete`](crate::Sources::complete).
    pub complete: bool,
    /// Whether the output of some layer reaches the layer at all.
    pub fed: bool,
}

/// What is gathered for the channels that reach a tensor.
type Reached<T> = Rc<HashMap<ChannelId, T>>;

impl Network {
    /// Gathers, for each layer, something of the filters that its inputs are ([`sources`](Network::sources)). `of` gives a value for each
    /// filter of a layer, `join` adds the value of another filter that makes the same channel: those of all summands of a residual stream.
    ///
    /// It takes one pass over the network, in which sums of a residual stream are carried on, while the sources of each layer by itself
    /// would be all layers before it.
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_graph::{GraphModule, Network};
    /// # #[derive(Module, Debug)]
    /// # struct Net { a: Linear, b: Linear, c: Linear }
    /// # impl GraphModule for Net {
    /// #     type Inputs = Tensor<2>;
    /// #     type Outputs = Tensor<2>;
    /// #     fn run(&self, x: Tensor<2>) -> Tensor<2> {
    /// #         let x = self.a.forward(x);
    /// #         self.c.forward(x.clone() + self.b.forward(x))
    /// #     }
    /// # }
    /// # let device = Device::flex();
    /// # let linear = |from, to| LinearConfig::new(from, to).init(&device);
    /// # let net = Net { a: linear(4, 2), b: linear(2, 2), c: linear(2, 3) };
    /// let network = Network::capture(&net, &Tensor::zeros([2, 4], &device))?;
    /// // How many filters make each input: of `c`, one of `a` and one of `b`.
    /// let gathered = network.gather(|layer| vec![1; layer.filters], |sum, more| *sum += more);
    /// assert_eq!(gathered[2].inputs, [Some(2), Some(2)]);
    /// assert!(gathered[2].complete && !gathered[0].complete);
    /// # Ok::<(), burn_sfp_graph::GraphError>(())
    /// ```
    pub fn gather<T: Clone>(
        &self,
        mut of: impl FnMut(&Layer) -> Vec<T>,
        join: impl Fn(&mut T, &T),
    ) -> Vec<Gathered<T>> {
        let start =
            |layer: &Layer| Gathered { inputs: vec![None; layer.input_channels.len()], complete: false, fed: false };
        let mut gathered: Vec<Gathered<T>> = self.layers.iter().map(start).collect();
        let mut made: HashMap<usize, Reached<T>> = HashMap::new();
        let mut reached: HashMap<TensorId, Reached<T>> = HashMap::new();
        for (index, op) in self.graph.operations.iter().enumerate() {
            let arriving = distinct(op.inputs().filter_map(|input| reached.get(&input.id)));
            let mut through: Option<Reached<T>> = None;
            for output in op.outputs() {
                let value = match self.layer_of.get(&output.id) {
                    Some(&layer) => {
                        let own =
                            made.entry(layer).or_insert_with(|| Rc::new(filters(&self.layers[layer], &mut of, &join)));
                        Some(own.clone())
                    }
                    None => {
                        through = through.or_else(|| together(&arriving, &join));
                        through.clone()
                    }
                };
                let Some(value) = value else { continue };
                for &layer in self.index.readers(output.id) {
                    gathered[layer].add(&self.layers[layer], &value, &join);
                }
                reached.insert(output.id, value);
            }
            // Nothing reads them any more.
            for input in op.inputs().filter(|input| self.graph.consumers(input.id).last() == Some(&index)) {
                reached.remove(&input.id);
            }
        }
        let mut foreign = Foreign::new(self);
        for (layer, own) in self.layers.iter().zip(&mut gathered) {
            let channels: HashSet<ChannelId> = layer.input_channels.iter().copied().flatten().collect();
            own.complete = own.inputs.iter().all(Option::is_some)
                && !layer.inputs_of_calls.iter().any(|&input| foreign.meets(input, &channels));
        }
        gathered
    }
}

impl<T: Clone> Gathered<T> {
    /// Adds what reaches one call of a layer.
    fn add(&mut self, layer: &Layer, value: &HashMap<ChannelId, T>, join: &impl Fn(&mut T, &T)) {
        self.fed = true;
        for (own, channel) in self.inputs.iter_mut().zip(&layer.input_channels) {
            let Some(more) = channel.as_ref().and_then(|channel| value.get(channel)) else { continue };
            match own {
                Some(own) => join(own, more),
                None => *own = Some(more.clone()),
            }
        }
    }
}

/// The values of a layer's filters, by channel.
fn filters<T>(
    layer: &Layer,
    of: &mut impl FnMut(&Layer) -> Vec<T>,
    join: &impl Fn(&mut T, &T),
) -> HashMap<ChannelId, T> {
    let mut own: HashMap<ChannelId, T> = HashMap::new();
    for (&channel, value) in layer.output_channels.iter().zip(of(layer)) {
        match own.get_mut(&channel) {
            Some(known) => join(known, &value),
            None => drop(own.insert(channel, value)),
        }
    }
    own
}

/// The values without repetitions, the one of most channels first.
fn distinct<'a, T: 'a>(all: impl Iterator<Item = &'a Reached<T>>) -> Vec<Reached<T>> {
    let mut found: Vec<Reached<T>> = Vec::new();
    for value in all {
        if !found.iter().any(|other| Rc::ptr_eq(other, value)) {
            found.push(value.clone());
        }
    }
    found.sort_by_key(|value| std::cmp::Reverse(value.len()));
    found
}

/// What reaches the result of an operation.
fn together<T: Clone>(arriving: &[Reached<T>], join: &impl Fn(&mut T, &T)) -> Option<Reached<T>> {
    let (first, rest) = arriving.split_first()?;
    if rest.is_empty() {
        return Some(first.clone());
    }
    let mut sum = (**first).clone();
    for (&channel, value) in rest.iter().flat_map(|more| more.iter()) {
        match sum.get_mut(&channel) {
            Some(own) => join(own, value),
            None => drop(sum.insert(channel, value.clone())),
        }
    }
    Some(Rc::new(sum))
}
