//! Which indices of which parameters carry the same channel, and which channels must stay.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use burn::backend::ir::{TensorId, TensorIr};

use super::context::{Context, CountedField};
use super::fields::RootMeanSquare;
use super::labels::Axes;
use super::{ChannelId, Network, fields, op};

/// The channels along one axis of a parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamAxis {
    /// The axis.
    pub axis: usize,
    /// For each index the set of indices it can only leave with.
    pub channels: Vec<ChannelId>,
}

/// How channels run through the network: equal [`ChannelId`]s leave together, wherever they stand.
///
/// An id is an *atom* or a *product* of atoms (of a head and a dimension, of a group and a member): an index leaves when any of its
/// atoms does, so what stays is rectangular whichever of them is cut.
#[derive(Clone, Debug, Default)]
pub struct Flow {
    pub(crate) parameters: BTreeMap<usize, Vec<ParamAxis>>,
    pub(crate) tensors: HashMap<TensorId, Axes>,
    pub(crate) pinned: HashMap<ChannelId, String>,
    products: BTreeMap<ChannelId, Vec<ChannelId>>,
    families: HashMap<ChannelId, u32>,
    pub(super) fields: Vec<CountedField>,
    pub(super) means: Vec<RootMeanSquare>,
}

impl Flow {
    /// The labelled axes of a parameter, by its index in [`Network::parameters`].
    pub fn parameter(&self, index: usize) -> &[ParamAxis] {
        self.parameters.get(&index).map(Vec::as_slice).unwrap_or_default()
    }

    /// Why a channel must stay, `None` where it may go. A product may go where one of its atoms may.
    pub fn pinned(&self, channel: ChannelId) -> Option<&str> {
        self.pinned.get(&channel).map(String::as_str)
    }

    /// The atoms of a channel, outermost coordinate first; of an atom, itself.
    pub fn atoms(&self, channel: ChannelId) -> Vec<ChannelId> {
        self.products.get(&channel).cloned().unwrap_or_else(|| vec![channel])
    }

    /// [`atoms`](Flow::atoms), borrowed.
    pub fn atoms_of<'a>(&'a self, channel: &'a ChannelId) -> &'a [ChannelId] {
        self.products.get(channel).map_or(std::slice::from_ref(channel), Vec::as_slice)
    }

    /// Which atoms first stood on the same axis: one family is one way to cut a layer.
    pub fn family(&self, atom: ChannelId) -> u32 {
        self.families.get(&atom).copied().unwrap_or_default()
    }

    /// Atoms that leave, and with them every product that they are part of.
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

    /// A tensor's shape without the channels in `removed` (closed).
    pub(crate) fn shape_without(&self, tensor: &TensorIr, removed: &BTreeSet<ChannelId>) -> Vec<usize> {
        let axes = self.tensors.get(&tensor.id);
        tensor
            .shape
            .iter()
            .enumerate()
            .map(|(axis, &length)| match axes.and_then(|axes| axes.get(axis)) {
                Some(Some(labels)) => labels.iter().filter(|label| !removed.contains(label)).count(),
                _ => length,
            })
            .collect()
    }

    pub(crate) fn of(network: &Network) -> Self {
        let mut context = Context::new(network);
        fields::fixed_layers(network, &mut context);
        let means = fields::root_mean_squares(network);
        context.divisible = means.iter().map(|norm| norm.mean).collect();
        for (index, operation) in network.operations.iter().enumerate() {
            op::flow(operation, index, &mut context);
        }
        for output in &network.outputs {
            let axes = context.tensors.get(output).cloned().unwrap_or_default();
            context.pin_axes(&axes, "it is an output of the network");
        }
        fields::normalizations(network, &mut context);
        Self { means, ..Self::finish(context, network) }
    }

    /// Every label becomes its set's representative.
    fn finish(mut context: Context, network: &Network) -> Self {
        let mut flow = Self::default();
        let mut canonical: HashMap<Vec<ChannelId>, ChannelId> = HashMap::new();
        // By root; there are as many labels as indices, and each is looked up often.
        let mut known: Vec<Option<ChannelId>> = vec![None; context.labels.len()];
        let mut name = |label: ChannelId, context: &mut Context, flow: &mut Self| {
            let root = context.labels.find(label);
            *known[root as usize].get_or_insert_with(|| {
                if !context.labels.is_product(root) {
                    flow.families.insert(root, context.labels.family(root));
                    return root;
                }
                let atoms = context.labels.atoms(root);
                if let [atom] = atoms[..] {
                    flow.families.insert(atom, context.labels.family(atom));
                    return atom;
                }
                for &atom in &atoms {
                    flow.families.insert(atom, context.labels.family(atom));
                }
                *canonical.entry(atoms.clone()).or_insert_with(|| {
                    flow.products.insert(root, atoms);
                    root
                })
            })
        };
        let mut tensors = std::mem::take(&mut context.tensors);
        for axes in tensors.values_mut() {
            for label in axes.iter_mut().flatten().flatten() {
                *label = name(*label, &mut context, &mut flow);
            }
        }
        let mut fields = std::mem::take(&mut context.fields);
        for label in fields.iter_mut().flat_map(|field| &mut field.of) {
            *label = name(*label, &mut context, &mut flow);
        }
        for (index, parameter) in network.parameters.iter().enumerate() {
            let Some(axes) = tensors.get(&parameter.tensor) else { continue };
            let axes: Vec<ParamAxis> = axes
                .iter()
                .enumerate()
                .filter_map(|(axis, labels)| Some(ParamAxis { axis, channels: labels.clone()? }))
                .collect();
            flow.parameters.insert(index, axes);
        }
        flow.pinned.clone_from(context.labels.pinned());
        flow.pin_products();
        flow.tensors = tensors;
        flow.fields = fields;
        flow
    }

    /// A product whose atoms all must stay must stay.
    pub(super) fn pin_products(&mut self) {
        for (&product, atoms) in &self.products {
            let reasons: Vec<&String> = atoms.iter().filter_map(|atom| self.pinned.get(atom)).collect();
            if reasons.len() == atoms.len() {
                let reason = reasons[0].clone();
                self.pinned.insert(product, reason);
            }
        }
    }

    /// Pins atoms that every filter of a layer has: without them nothing is left of it. Products follow by
    /// [`pin_products`](Flow::pin_products).
    pub(super) fn pin_indivisible(&mut self, filters: &[ChannelId]) {
        let Some((first, rest)) = filters.split_first() else { return };
        let mut common = self.atoms(*first);
        common.retain(|atom| !self.pinned.contains_key(atom));
        for filter in rest {
            if common.is_empty() {
                return;
            }
            let atoms = self.atoms(*filter);
            common.retain(|atom| atoms.contains(atom));
        }
        let reason =
            if rest.is_empty() { "it is its layer's only one" } else { "all filters of its layer leave together" };
        if !common.is_empty() {
            self.pinned.extend(common.into_iter().map(|atom| (atom, reason.to_string())));
        }
    }

    /// Why none of these channels may go, where none may.
    pub(super) fn why_not(&self, filters: &[ChannelId]) -> Option<String> {
        match filters.first() {
            None => Some("its output carries no channel that could be followed".to_string()),
            Some(first) if filters.iter().all(|&channel| self.pinned(channel).is_some()) => {
                self.pinned(*first).map(str::to_string)
            }
            _ => None,
        }
    }
}
