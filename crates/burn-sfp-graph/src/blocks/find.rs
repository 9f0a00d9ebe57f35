//! [`Network::blocks`]: the residual blocks of a network.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use burn::backend::ir::TensorId;
use burn_sfp_nn::{NnLayer, Removable};

use super::scan::Scan;
use crate::layers::layer::OutputTap;
use crate::network::Network;

/// A part of the module that may be left out whole, because it only adds to a stream.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Block {
    /// Where it stands in the module.
    pub part: Removable,
    /// Indices in [`Network::layers`] of the layers inside.
    pub layers: Vec<usize>,
    /// Why it has to stay; `None` if it can be left out.
    pub not_removable: Option<String>,
    /// The operations that go with it.
    pub(crate) operations: BTreeSet<usize>,
    /// Its parameters.
    pub(crate) parameters: BTreeSet<usize>,
    /// For each sum with the stream, and what does nothing to the stream behind it, the stream before.
    pub(crate) stands_for: HashMap<TensorId, TensorId>,
    /// What it adds to the stream.
    pub(crate) branches: Vec<TensorId>,
    /// The stream in front of the block and behind it.
    pub(crate) stream: Option<(TensorId, TensorId)>,
}

impl Block {
    /// Its module path.
    pub fn path(&self) -> &str {
        &self.part.path
    }
}

impl Network {
    /// The parts of the module that can be left out, by themselves or not: elements of lists and optional parts with parameters that the
    /// forward passes read. Where one such part lies in another, the inner one is listed if it can be left out.
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_graph::{GraphModule, Network};
    /// # use burn_sfp_nn::Shrink;
    /// #[derive(Module, Debug, Shrink)]
    /// struct Net { first: Linear, blocks: Vec<Linear>, last: Linear }
    ///
    /// impl GraphModule for Net {
    ///     type Inputs = Tensor<2>;
    ///     type Outputs = Tensor<2>;
    ///     fn run(&self, x: Tensor<2>) -> Tensor<2> {
    ///         let x = self.first.forward(x);
    ///         let block = |x: Tensor<2>, block: &Linear| x.clone() + burn::tensor::activation::relu(block.forward(x));
    ///         self.last.forward(self.blocks.iter().fold(x, block))
    ///     }
    ///     fn shrinkable(&mut self) -> Option<&mut dyn Shrink> { Some(self) }
    /// }
    /// # let device = Device::flex();
    /// # let linear = |from, to| LinearConfig::new(from, to).init(&device);
    /// # let blocks = || vec![linear(4, 4), linear(4, 4)];
    /// # let net = Net { first: linear(2, 4), blocks: blocks(), last: linear(4, 3) };
    /// let network = Network::capture(&net, &Tensor::zeros([1, 2], &device))?;
    /// let paths: Vec<&str> = network.blocks().iter().map(|block| block.path()).collect();
    /// assert_eq!(paths, ["blocks.0", "blocks.1"]);
    /// assert!(network.blocks().iter().all(|block| block.not_removable.is_none()));
    /// # Ok::<(), burn_sfp_graph::GraphError>(())
    /// ```
    pub fn blocks(&self) -> &[Block] {
        self.blocks.get_or_init(|| find(self))
    }

    /// The stream in front of a block and behind it, where to read them; `None` where it is not known along which single axis channels run.
    pub fn stream_taps(&self, block: &Block) -> Option<[OutputTap; 2]> {
        let (before, after) = block.stream?;
        Some([self.tap_of(before)?, self.tap_of(after)?])
    }

    fn tap_of(&self, tensor: TensorId) -> Option<OutputTap> {
        let made = self.graph.made_by(tensor)?.outputs().find(|output| output.id == tensor)?;
        let shape: Vec<usize> = made.shape.iter().copied().collect();
        let axes = self.flow.tensors.get(&tensor)?;
        let mut carrying = axes.iter().enumerate().filter(|(_, ids)| ids.is_some()).map(|(axis, _)| axis);
        let (Some(filter_axis @ 1..), None) = (carrying.next(), carrying.next()) else { return None };
        Some(OutputTap::bare(tensor, shape, filter_axis))
    }
}

fn find(network: &Network) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let made_of = if network.removable.is_empty() { HashMap::new() } else { network.graph.made_of() };
    for part in &network.removable {
        // What an option in a list holds asks twice, and leaves the list as it is.
        if !part.path.is_empty() && found.iter().all(|other| other.part.path != part.path) {
            found.extend(block(network, &made_of, part));
        }
    }
    let inside = |outer: &Block, inner: &Block| outer.path() != inner.path() && outer.part.holds(inner.path());
    let covered = |block: &Block| match block.not_removable {
        // Parts of it can go one by one.
        None => found.iter().any(|other| other.not_removable.is_none() && inside(block, other)),
        Some(_) => {
            found.iter().any(|other| inside(other, block) || (other.not_removable.is_none() && inside(block, other)))
        }
    };
    let stays: Vec<bool> = found.iter().map(|block| !covered(block)).collect();
    let mut stays = stays.into_iter();
    found.retain(|_| stays.next().unwrap_or_default());
    found
}

/// A part with parameters as a block.
fn block(network: &Network, made_of: &HashMap<TensorId, Rc<[usize]>>, part: &Removable) -> Option<Block> {
    let graph = &network.graph;
    let own = |(index, parameter): (usize, &crate::Parameter)| part.holds(&parameter.path).then_some(index);
    let parameters: BTreeSet<usize> = graph.parameters.iter().enumerate().filter_map(own).collect();
    let is_read = |&index: &usize| !graph.consumers(graph.parameters[index].tensor).is_empty();
    if !parameters.iter().any(is_read) {
        return None;
    }
    let layers = network.layers().iter().enumerate();
    let layers = layers.filter(|(_, layer)| layer.parameters_of_all().any(|index| parameters.contains(&index)));
    let mut block = Block {
        part: part.clone(),
        layers: layers.map(|(index, _)| index).collect(),
        not_removable: None,
        operations: BTreeSet::new(),
        parameters,
        stands_for: HashMap::new(),
        branches: Vec::new(),
        stream: None,
    };
    let sparse =
        |&index: &usize| matches!(graph.parameters[index].layer, Some(NnLayer::SparseConv2d | NnLayer::SparseLinear));
    block.not_removable = if block.parameters.iter().any(sparse) && network.skipped > 0 {
        Some("layers in it skip removed connections: leave blocks out before `sparsify`, or after `densify`".into())
    } else {
        Scan::run(network, made_of, &mut block).err()
    };
    Some(block)
}
