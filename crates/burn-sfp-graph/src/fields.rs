//! What has to change besides the shapes of parameters when channels are removed: plain fields, the scale of parameters, and means that are
//! taken out of them.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;

use burn_sfp_nn::{FieldEdit, Scope, Shrink};

use crate::channels::ids::ChannelId;
use crate::layers::mean_factor::{Epsilon, MeanFactor, NEGLIGIBLE};
use crate::layers::stream::Stream;
use crate::network::Network;
use crate::plain_field::{PlainField, is_known};

/// A factor of a parameter, or of some indices of one of its axes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ScaledPart {
    /// Index of the parameter in [`Network::parameters`].
    pub parameter: usize,
    /// The axis and its indices before any are removed; all of the parameter where there is none.
    pub part: Option<(usize, Range<usize>)>,
    /// The factor.
    pub factor: f64,
}

/// A normalisation that divides by a root of a mean of squares and loses channels.
struct Shrunk {
    gamma: Option<usize>,
    /// The operation that adds epsilon, and what it adds.
    add: usize,
    epsilon: f64,
    /// Channels before over channels after.
    ratio: f64,
    /// The stream that is scaled in place of another epsilon.
    rescaled: Option<usize>,
}

impl Network {
    /// The normalisations that lose channels (`removed` closed).
    fn shrunk(&self, removed: &BTreeSet<ChannelId>) -> Vec<Shrunk> {
        let shrunk = self.all_norms().into_iter().filter_map(|(norm, channels)| {
            let after = channels.iter().filter(|id| !removed.contains(id)).count();
            let ratio = channels.len() as f64 / after as f64;
            (after < channels.len() && after > 0).then_some(Shrunk { ratio, ..norm })
        });
        shrunk.collect()
    }

    /// Root-mean-square normalisations, and layer normalisations that can become such, with their channels.
    fn all_norms(&self) -> Vec<(Shrunk, &[ChannelId])> {
        let along = |tensor, axis: usize| {
            let axes = self.flow.tensors.get(&tensor);
            axes.and_then(|axes| axes.get(axis)?.as_deref()).unwrap_or_default()
        };
        let means = self.flow.means.iter().map(|norm| {
            let rescaled = norm.stream.filter(|stream| self.flow.rescaled.contains(stream));
            let own = Shrunk { gamma: norm.gamma, add: norm.add, epsilon: norm.epsilon, ratio: 1.0, rescaled };
            (own, along(norm.input, norm.axis))
        });
        let layer_norms = self.flow.centered.iter().flat_map(|stream| &stream.norms).map(|norm| {
            let (gamma, add) = (Some(norm.gamma), norm.operation);
            let channels = along(self.graph.parameters[norm.gamma].tensor, 0);
            (Shrunk { gamma, add, epsilon: norm.epsilon, ratio: 1.0, rescaled: None }, channels)
        });
        means.chain(layer_norms).collect()
    }

    /// Normalisations whose epsilon changes when channels are removed (`removed` closed): the operation that adds it, and its new value.
    pub(crate) fn new_epsilons(&self, removed: &BTreeSet<ChannelId>) -> BTreeMap<usize, f64> {
        let shrunk = self.shrunk(removed).into_iter().filter(|norm| norm.rescaled.is_none());
        let norms = shrunk.map(|norm| (norm.add, norm.epsilon * norm.ratio));
        norms.chain(self.shrunk_epsilons(removed).map(|(epsilon, value)| (epsilon.operation, value))).collect()
    }

    /// The numbers that means over fewer channels meet, with their new values.
    fn shrunk_epsilons(&self, removed: &BTreeSet<ChannelId>) -> impl Iterator<Item = (&Epsilon, f64)> {
        self.flow.mean_factors.iter().filter_map(|mean| {
            let (epsilon, ratio) = (mean.epsilon.as_ref()?, self.ratio(mean, removed));
            let value = epsilon.value * ratio.sqrt().powi(epsilon.exponent);
            (ratio != 1.0 && !epsilon.literal).then_some((epsilon, value))
        })
    }

    /// Layer normalisations over the channels of streams that lose some of them (`removed` closed): they have to compute
    /// root-mean-square normalisation then.
    fn centered_streams(&self, removed: &BTreeSet<ChannelId>) -> impl Iterator<Item = &Stream> {
        let shrinks = |gamma: usize| {
            let before: usize = self.graph.parameters[gamma].shape.iter().product();
            self.parameter_size_without(gamma, removed) < before as u64
        };
        self.flow.centered.iter().filter(move |stream| stream.norms.iter().any(|norm| shrinks(norm.gamma)))
    }

    /// The parameters whose mean along an axis has to be subtracted from them when channels are removed (`removed` closed), by index, with
    /// that axis: everything that writes to a stream that only [`CenteredLayerNorm`](burn_sfp_nn::CenteredLayerNorm)s read.
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_graph::{GraphModule, Network};
    /// # use burn_sfp_nn::{CenteredLayerNorm, CenteredLayerNormConfig};
    /// # #[derive(Module, Debug)]
    /// # struct Net { a: Linear, norm: CenteredLayerNorm, b: Linear }
    /// # impl GraphModule for Net {
    /// #     type Inputs = Tensor<2>;
    /// #     type Outputs = Tensor<2>;
    /// #     fn run(&self, x: Tensor<2>) -> Tensor<2> { self.b.forward(self.norm.forward(self.a.forward(x))) }
    /// # }
    /// # let device = Device::flex();
    /// # let linear = |from, to| LinearConfig::new(from, to).init(&device);
    /// # let net = Net { a: linear(4, 8), norm: CenteredLayerNormConfig::new(8).init(&device), b: linear(8, 3) };
    /// let network = Network::capture(&net, &Tensor::zeros([2, 4], &device))?;
    /// let removed = network.flow().closed(&[network.layers()[0].output_channels()[0]].into());
    /// let centered = network.centered(&removed);
    /// let paths: Vec<_> = centered.iter().map(|&(index, axis)| (&*network.parameters()[index].path, axis)).collect();
    /// assert_eq!(paths, [("a.weight", 1), ("a.bias", 0)]);
    /// assert!(network.centered(&Default::default()).is_empty());
    /// # Ok::<(), burn_sfp_graph::GraphError>(())
    /// ```
    pub fn centered(&self, removed: &BTreeSet<ChannelId>) -> Vec<(usize, usize)> {
        let mut writers: Vec<(usize, usize)> =
            self.centered_streams(removed).flat_map(|stream| stream.writers.iter().copied()).collect();
        writers.sort_unstable();
        writers
    }

    /// The channels (atoms) that can only leave if the mean over them is taken out of what writes to them; see
    /// [`centered`](Network::centered).
    pub fn centered_channels(&self) -> BTreeSet<ChannelId> {
        let norms = self.flow.centered.iter().flat_map(|stream| &stream.norms);
        let axes = norms.flat_map(|norm| self.flow.parameter(norm.gamma));
        axes.flat_map(|axis| &axis.channels).flat_map(|id| self.flow.atoms_of(id)).copied().collect()
    }

    /// The parameters that have to be multiplied by a factor when channels are removed (`removed` closed), by index, and the factor: the
    /// gammas of root-mean-square normalisations and of layer normalisations that become such, and what writes to streams where epsilon
    /// cannot change.
    pub fn scales(&self, removed: &BTreeSet<ChannelId>) -> Vec<(usize, f64)> {
        let mut factors: BTreeMap<usize, f64> = BTreeMap::new();
        let (mut gammas, mut streams) = (BTreeSet::new(), BTreeSet::new());
        for Shrunk { gamma, ratio, rescaled, .. } in self.shrunk(removed) {
            match (rescaled, gamma) {
                (Some(stream), _) if streams.insert(stream) => {
                    for (&parameter, &exponent) in &self.flow.rescalings[stream].exponents {
                        *factors.entry(parameter).or_insert(1.0) *= ratio.sqrt().powi(-exponent);
                    }
                }
                (None, Some(gamma)) if gammas.insert(gamma) => {
                    *factors.entry(gamma).or_insert(1.0) *= ratio.sqrt();
                }
                _ => {}
            }
        }
        factors.into_iter().filter(|(_, factor)| *factor != 1.0).collect()
    }

    /// The factors of parts of parameters that undo those of means over channels (`removed` closed): the index of the parameter, an axis with
    /// some of its indices, or none where it is all of the parameter, and the factor.
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_graph::{GraphModule, Network};
    /// # #[derive(Module, Debug)]
    /// # struct Net { a: Linear, b: Linear }
    /// # impl GraphModule for Net {
    /// #     type Inputs = Tensor<2>;
    /// #     type Outputs = Tensor<2>;
    /// #     fn run(&self, x: Tensor<2>) -> Tensor<2> { self.b.forward(self.a.forward(x).abs().mean_dim(1)) }
    /// # }
    /// # let device = Device::flex();
    /// # let net = Net { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(1, 3).init(&device) };
    /// let network = Network::capture(&net, &Tensor::zeros([2, 4], &device))?;
    /// // Without two of eight channels that are zero, their mean is 8 / 6 times what it was.
    /// let removed = network.flow().closed(&network.layers()[0].output_channels()[..2].iter().copied().collect());
    /// let scaled = &network.part_scales(&removed)[0];
    /// assert_eq!(network.parameters()[scaled.parameter].path, "b.weight");
    /// assert!((scaled.factor - 6.0 / 8.0).abs() < 1e-12 && scaled.part.is_none());
    /// # Ok::<(), burn_sfp_graph::GraphError>(())
    /// ```
    pub fn part_scales(&self, removed: &BTreeSet<ChannelId>) -> Vec<ScaledPart> {
        let mut scaled = Vec::new();
        for mean in &self.flow.mean_factors {
            let root = self.ratio(mean, removed).sqrt();
            scaled.extend(mean.scales.iter().filter(|_| root != 1.0).map(|scale| ScaledPart {
                parameter: scale.parameter,
                part: scale.part.clone(),
                factor: root.powi(scale.exponent),
            }));
        }
        scaled
    }

    /// Channels of a mean before over those that are left.
    fn ratio(&self, mean: &MeanFactor, removed: &BTreeSet<ChannelId>) -> f64 {
        let axes = self.flow.tensors.get(&mean.input);
        let channels = axes.and_then(|axes| axes.get(mean.axis)?.as_deref()).unwrap_or_default();
        let after = channels.iter().filter(|id| !removed.contains(id)).count();
        if after == 0 { 1.0 } else { channels.len() as f64 / after as f64 }
    }

    /// Whether channels leave that a sum, a mean or a maximum runs along (`removed` closed): they have to count as zero then.
    pub fn sums_shrink(&self, removed: &BTreeSet<ChannelId>) -> bool {
        !self.flow.summed.is_disjoint(&removed.iter().copied().collect())
    }

    /// The axes of parameters, by index, that keep their values in the original with zeros that a smaller model is compared with: something
    /// is divided by what is computed from them, which may not be zero. What they make is zero, or read by nothing but zeros, all the same.
    pub fn unzeroed(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.flow.unzeroed.iter().copied()
    }

    /// Finds out which plain fields a module gives no access to: streams in front of normalisations whose epsilon cannot change are
    /// scaled, and all other fields are [`fixed_fields`](Network::fixed_fields).
    pub(crate) fn with_access(mut self, module: Option<&mut dyn Shrink>) -> Self {
        let bare = self.flow.means.iter().filter(|norm| norm.gamma.is_none()).filter_map(|norm| norm.stream);
        self.flow.rescaled = bare.collect();
        let fields = self.plain_fields();
        // Edits that change nothing: which of them does the module ask for?
        let edits: Vec<FieldEdit> = fields.iter().map(|field| field.field.clone()).collect();
        let mut scope = Scope::new(&edits, &[]);
        if let Some(module) = module {
            module.shrink(&mut scope);
        }
        self.removable = scope.removable().to_vec();
        let name = |edit: &FieldEdit| (edit.path.clone(), edit.field.clone());
        let missed: HashSet<(String, String)> = scope.missed().into_iter().map(name).collect();
        for field in fields.iter().filter(|field| missed.contains(&name(&field.field))) {
            match (field.stream, field.mean) {
                (Some(stream), _) => drop(self.flow.rescaled.insert(stream)),
                (None, Some(_)) if field.field.before.abs() <= NEGLIGIBLE => {}
                _ => self.fixed.push(field.clone()),
            }
        }
        let settable: HashSet<usize> = fields
            .iter()
            .filter(|field| !missed.contains(&name(&field.field)))
            .filter_map(|field| field.mean)
            .collect();
        for (index, mean) in self.flow.mean_factors.iter_mut().enumerate() {
            if let Some(epsilon) = &mut mean.epsilon {
                epsilon.literal = !settable.contains(&index) && epsilon.value.abs() <= NEGLIGIBLE;
            }
        }
        self
    }

    /// The plain fields that the captured module gives no access to ([`Shrink`]): the channels that they count have to stay.
    pub fn fixed_fields(&self) -> &[PlainField] {
        &self.fixed
    }

    /// The plain fields that change when channels are removed (`removed` closed), which the model's
    /// [`Shrink`](burn_sfp_nn::Shrink) has to set.
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::conv::{Conv2d, Conv2dConfig};
    /// # use burn_sfp_graph::{GraphModule, Network};
    /// # #[derive(Module, Debug)]
    /// # struct Net { a: Conv2d, depthwise: Conv2d, b: Conv2d }
    /// # impl GraphModule for Net {
    /// #     type Inputs = Tensor<4>;
    /// #     type Outputs = Tensor<4>;
    /// #     fn run(&self, x: Tensor<4>) -> Tensor<4> { self.b.forward(self.depthwise.forward(self.a.forward(x))) }
    /// # }
    /// # let device = Device::flex();
    /// # let conv = |from, to, groups| Conv2dConfig::new([from, to], [3, 3]).with_groups(groups).init(&device);
    /// # let net = Net { a: conv(3, 8, 1), depthwise: conv(8, 8, 8), b: conv(8, 2, 1) };
    /// let network = Network::capture(&net, &Tensor::zeros([1, 3, 9, 9], &device))?;
    /// let removed = network.flow().closed(&[network.layers()[0].output_channels()[0]].into());
    /// let edit = &network.field_edits(&removed)[0];
    /// assert_eq!((edit.path.as_str(), edit.field.as_str(), edit.before, edit.after), ("depthwise", "groups", 8.0, 7.0));
    /// # Ok::<(), burn_sfp_graph::GraphError>(())
    /// ```
    pub fn field_edits(&self, removed: &BTreeSet<ChannelId>) -> Vec<FieldEdit> {
        let edit = |parameter: usize, field: &str, before: f64, after: f64| {
            let parameter = &self.graph.parameters[parameter];
            let (path, container) = (parameter.module().to_string(), parameter.container.clone());
            FieldEdit { path, container, field: field.to_string(), before, after }
        };
        let mut edits: Vec<FieldEdit> = Vec::new();
        let mut seen = HashSet::new();
        for counted in &self.flow.fields {
            let (before, after) = (counted.of.len(), counted.of.iter().filter(|id| !removed.contains(id)).count());
            let module = self.graph.parameters[counted.parameter].module();
            if after != before && seen.insert((module, counted.field)) {
                edits.push(edit(counted.parameter, counted.field, before as f64, after as f64));
            }
        }
        for Shrunk { gamma, epsilon, ratio, rescaled, .. } in self.shrunk(removed) {
            if let (Some(gamma), None) = (gamma, rescaled)
                && seen.insert((self.graph.parameters[gamma].module(), "epsilon"))
            {
                edits.push(edit(gamma, "epsilon", epsilon, epsilon * ratio));
            }
        }
        for (epsilon, value) in self.shrunk_epsilons(removed) {
            if let Some(gamma) = epsilon.gamma
                && seen.insert((self.graph.parameters[gamma].module(), "epsilon"))
            {
                edits.push(edit(gamma, "epsilon", epsilon.value, value));
            }
        }
        for norm in self.centered_streams(removed).flat_map(|stream| &stream.norms) {
            if seen.insert((self.graph.parameters[norm.gamma].module(), "centered")) {
                edits.push(edit(norm.gamma, "centered", 0.0, 1.0));
            }
        }
        edits
    }

    /// The plain fields that may have to change when channels leave, whichever they are, and the channels that have to stay where a field
    /// cannot be set.
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::conv::{Conv2d, Conv2dConfig};
    /// # use burn_sfp_graph::{GraphModule, Network};
    /// # #[derive(Module, Debug)]
    /// # struct Net { a: Conv2d, depthwise: Conv2d, b: Conv2d }
    /// # impl GraphModule for Net {
    /// #     type Inputs = Tensor<4>;
    /// #     type Outputs = Tensor<4>;
    /// #     fn run(&self, x: Tensor<4>) -> Tensor<4> { self.b.forward(self.depthwise.forward(self.a.forward(x))) }
    /// # }
    /// # let device = Device::flex();
    /// # let conv = |from, to, groups| Conv2dConfig::new([from, to], [3, 3]).with_groups(groups).init(&device);
    /// # let net = Net { a: conv(3, 8, 1), depthwise: conv(8, 8, 8), b: conv(8, 2, 1) };
    /// let network = Network::capture(&net, &Tensor::zeros([1, 3, 9, 9], &device))?;
    /// let fields = network.plain_fields();
    /// assert_eq!((fields[0].field.path.as_str(), fields[0].field.field.as_str()), ("depthwise", "groups"));
    /// assert_eq!(fields[0].channels.len(), 8);
    /// # Ok::<(), burn_sfp_graph::GraphError>(())
    /// ```
    pub fn plain_fields(&self) -> Vec<PlainField> {
        let atoms = |ids: &[ChannelId]| ids.iter().flat_map(|id| self.flow.atoms_of(id)).copied().collect();
        let mut names_in: HashMap<&str, Vec<&str>> = HashMap::new();
        for parameter in &self.graph.parameters {
            names_in.entry(parameter.module()).or_default().extend(parameter.path.rsplit('.').next());
        }
        let field = |parameter: usize, field: &str, value: f64, channels: BTreeSet<ChannelId>, stream| {
            let parameter = &self.graph.parameters[parameter];
            let names = names_in.get(parameter.module()).map(Vec::as_slice).unwrap_or_default();
            let known = is_known(&parameter.container, names, field);
            let (path, container) = (parameter.module().to_string(), parameter.container.clone());
            PlainField {
                field: FieldEdit { path, container, field: field.to_string(), before: value, after: value },
                channels,
                stream,
                mean: None,
                known,
            }
        };
        let counted = self.flow.fields.iter();
        let counted = counted
            .map(|counted| field(counted.parameter, counted.field, counted.of.len() as f64, atoms(&counted.of), None));
        let epsilons = self.flow.means.iter().zip(self.all_norms()).filter_map(|(norm, (own, channels))| {
            own.rescaled.is_none().then_some(())?;
            Some(field(norm.gamma?, "epsilon", norm.epsilon, atoms(channels), norm.stream))
        });
        let centered = self.flow.centered.iter().flat_map(|stream| &stream.norms).map(|norm| {
            let channels = self.flow.parameter(norm.gamma).iter().flat_map(|axis| &axis.channels).copied();
            field(norm.gamma, "centered", 0.0, atoms(&channels.collect::<Vec<_>>()), None)
        });
        let means = self.flow.mean_factors.iter().enumerate().filter_map(|(index, mean)| {
            let epsilon = mean.epsilon.as_ref()?;
            let axes = self.flow.tensors.get(&mean.input)?;
            let channels = atoms(axes.get(mean.axis)?.as_deref()?);
            let field = field(epsilon.gamma?, "epsilon", epsilon.value, channels, None);
            Some(PlainField { mean: Some(index), ..field })
        });
        // A layer that runs twice has each field once.
        let mut all: Vec<PlainField> = Vec::new();
        let mut known: HashMap<(String, String), usize> = HashMap::new();
        for one in counted.chain(epsilons).chain(centered).chain(means) {
            match known.entry((one.field.path.clone(), one.field.field.clone())) {
                Entry::Occupied(at) => all[*at.get()].channels.extend(one.channels),
                Entry::Vacant(free) => {
                    free.insert(all.len());
                    all.push(one);
                }
            }
        }
        all
    }
}
