//! [`Flow`]: which indices of which parameters carry the same channel, and which channels must stay.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use burn::backend::ir::TensorId;

use super::context::CountedField;
use super::ids::{Axes, ChannelId};
use super::left::Left;
use super::pins::Pins;
use super::ties::Ties;
use crate::layers::mean_factor::MeanFactor;
use crate::layers::mean_square::MeanSquare;
use crate::layers::rescale::Rescaling;
use crate::layers::stream::Stream;

/// The channels along one axis of a parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamAxis {
    /// The axis.
    pub axis: usize,
    /// The channel of each index.
    pub channels: Vec<ChannelId>,
}

/// How channels run through the network: indices with equal [`ChannelId`]s are removed together, whichever tensor they belong to.
///
/// An id is an *atom* or a *product* of atoms (of a head and a dimension, of a group and a member): an index is removed when any of its
/// atoms is, so what stays is rectangular whichever of them is cut.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::{GraphModule, Network};
/// # #[derive(Module, Debug)]
/// # struct Mlp { a: Linear, b: Linear }
/// # impl GraphModule for Mlp {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<2>) -> Tensor<2> {
/// #         self.b.forward(burn::tensor::activation::relu(self.a.forward(x)))
/// #     }
/// # }
/// # let device = Device::flex();
/// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 3).init(&device) };
/// let network = Network::capture(&mlp, &Tensor::zeros([2, 4], &device))?;
/// let (flow, a, b) = (network.flow(), &network.layers()[0], &network.layers()[1]);
/// // The nodes of `a` are the rows of the weight of `b`; those of `b` are outputs of the network.
/// assert_eq!(flow.parameter(b.weight())[0].channels, a.output_channels());
/// assert!(flow.pinned(a.output_channels()[0]).is_none());
/// assert_eq!(flow.pinned(b.output_channels()[0]), Some("it is an output of the network"));
/// # Ok::<(), burn_sfp_graph::GraphError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Flow {
    pub(crate) parameters: BTreeMap<usize, Vec<ParamAxis>>,
    pub(crate) tensors: HashMap<TensorId, Axes>,
    pub(crate) pins: Pins,
    pub(crate) ties: Ties,
    pub(super) products: BTreeMap<ChannelId, Vec<ChannelId>>,
    pub(super) families: HashMap<ChannelId, u32>,
    pub(crate) fields: Vec<CountedField>,
    /// What slices into unequal parts say of channels (atoms) that they tie together.
    pub(super) uneven: HashMap<ChannelId, String>,
    pub(crate) means: Vec<MeanSquare>,
    /// Streams whose writers can be scaled.
    pub(crate) rescalings: Vec<Rescaling>,
    /// Those of them, by index, that are scaled when they lose channels. In front of others epsilon changes.
    pub(crate) rescaled: BTreeSet<usize>,
    /// Means over channels whose factor a parameter undoes.
    pub(crate) mean_factors: Vec<MeanFactor>,
    /// The channels that sums, means and maxima run along.
    pub(crate) summed: HashSet<ChannelId>,
    /// Axes of parameters, by index, that keep their values where channels are removed and nothing else does.
    pub(crate) unzeroed: BTreeSet<(usize, usize)>,
    /// Tensors without negative elements.
    pub(crate) non_negative: HashSet<TensorId>,
    /// Streams that layer normalisations read, whose mean can be taken out of what writes to them.
    pub(crate) centered: Vec<Stream>,
}

impl Flow {
    /// The axes of a parameter that carry channels, by its index in [`Network::parameters`](crate::Network::parameters).
    pub fn parameter(&self, index: usize) -> &[ParamAxis] {
        self.parameters.get(&index).map(Vec::as_slice).unwrap_or_default()
    }

    /// Why a channel must stay, `None` where it may be removed. A product may be removed where one of its atoms may.
    pub fn pinned(&self, channel: ChannelId) -> Option<&str> {
        self.pins.of(channel).first().map(|pin| self.pins.reason(pin))
    }

    /// The atoms of a channel, outermost coordinate first; of an atom, itself.
    pub fn atoms(&self, channel: ChannelId) -> Vec<ChannelId> {
        self.products.get(&channel).cloned().unwrap_or_else(|| vec![channel])
    }

    /// [`atoms`](Flow::atoms), borrowed.
    pub fn atoms_of<'a>(&'a self, channel: &'a ChannelId) -> &'a [ChannelId] {
        self.products.get(channel).map_or(std::slice::from_ref(channel), Vec::as_slice)
    }

    /// Number of the axis that an atom first ran along: the atoms of one family are one way to cut a layer.
    pub fn family(&self, atom: ChannelId) -> u32 {
        self.families.get(&atom).copied().unwrap_or_default()
    }

    /// The closure of removed `atoms`: these and every product that one of them is part of.
    pub fn closed(&self, atoms: &BTreeSet<ChannelId>) -> BTreeSet<ChannelId> {
        let mut all = atoms.clone();
        if !atoms.is_empty() {
            all.extend(
                self.products
                    .iter()
                    .filter(|(_, parts)| parts.iter().any(|atom| atoms.contains(atom)))
                    .map(|(product, _)| *product),
            );
        }
        all
    }

    /// Whether some axis of a parameter keeps its values where channels are removed, because something is divided by what it makes.
    pub(crate) fn keeps_values(&self, parameter: usize) -> bool {
        self.unzeroed.iter().any(|(other, _)| *other == parameter)
    }

    /// What is left without the channels in `removed` (closed).
    pub(crate) fn left<'a>(&'a self, removed: &'a BTreeSet<ChannelId>) -> Left<'a> {
        Left { tensors: &self.tensors, removed }
    }

    /// A product whose atoms all must stay must stay.
    pub(crate) fn pin_products(&mut self) {
        for (&product, atoms) in &self.products {
            if atoms.iter().all(|&atom| self.pins.contains(atom)) {
                self.pins.add_all(product, atoms);
            }
        }
    }

    /// Pins atoms that every filter of a layer has: without them nothing is left of it. Products follow by
    /// [`pin_products`](Flow::pin_products).
    pub(crate) fn pin_indivisible(&mut self, filters: &[ChannelId]) {
        let Some((first, rest)) = filters.split_first() else { return };
        let mut common = self.atoms(*first);
        common.retain(|&atom| !self.pins.contains(atom));
        for filter in rest {
            if common.is_empty() {
                return;
            }
            let atoms = self.atoms(*filter);
            common.retain(|atom| atoms.contains(atom));
        }
        for atom in common {
            let reason = match self.uneven.get(&atom) {
                _ if rest.is_empty() => "it is its layer's only one".to_string(),
                Some(tie) => format!("all filters of its layer leave together: {tie}"),
                None => "all filters of its layer leave together".to_string(),
            };
            self.pins.add_bare(atom, &reason);
        }
    }

    /// Why none of these channels may be removed, where none may.
    pub(crate) fn why_not(&self, filters: &[ChannelId]) -> Option<String> {
        let Some(&first) = filters.first() else {
            return Some("its output carries no channel that could be followed".to_string());
        };
        if !filters.iter().all(|&channel| self.pins.contains(channel)) {
            return None;
        }
        let pins = self.pins.of(first);
        // What an operation says comes before advice without a place.
        let pin = pins.iter().find(|pin| pin.place.is_some()).or(pins.first())?;
        Some(self.pins.reason(pin).to_string())
    }
}
