//! [`PolicyContext`]: what a policy can consult.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use burn_sfp_core::{Analysis, LayerAnalysis};
use burn_sfp_graph::{GraphError, Heads, Layer, Network};

use super::kernels::Kernels;
use crate::PruneError;
use crate::evidence::{Evidence, Needs};

/// What a policy can consult: the captured network with the values of its parameters, and the analysis.
///
/// Policies by weights read [`kernels`](PolicyContext::kernels), policies by what filters recognise
/// [`analysis_of`](PolicyContext::analysis_of), and policies over connections [`input_labels`](PolicyContext::input_labels).
#[derive(Clone, Copy)]
pub struct PolicyContext<'a> {
    /// The captured network.
    pub network: &'a Network,
    /// What the filters recognise; `None` if no analysis was made.
    pub analysis: Option<&'a Analysis>,
    /// Further sums over calibration data; `None` if none were gathered.
    pub evidence: Option<&'a Evidence>,
}

impl fmt::Debug for PolicyContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (layers, analyzed) = (self.network.layers().len(), self.analysis.map(|analysis| analysis.layers.len()));
        let gathered = self.evidence.map(Evidence::gathered);
        let mut shown = f.debug_struct("PolicyContext");
        shown.field("layers", &layers).field("analyzed", &analyzed).field("gathered", &gathered);
        shown.finish_non_exhaustive()
    }
}

impl<'a> PolicyContext<'a> {
    /// Creates a context without evidence; the analysis may be `None`.
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_graph::{GraphModule, Network};
    /// # use burn_sfp_core::{NoProgress, TensorCalibration};
    /// use burn_sfp_prune::{Apoz, Evidence, Magnitude, PolicyContext, RankingPolicy};
    /// # #[derive(Module, Debug)]
    /// # struct Mlp { a: Linear, b: Linear }
    /// # impl GraphModule for Mlp {
    /// #     type Inputs = Tensor<2>;
    /// #     type Outputs = Tensor<2>;
    /// #     fn run(&self, x: Tensor<2>) -> Tensor<2> { self.b.forward(burn::tensor::activation::relu(self.a.forward(x))) }
    /// # }
    /// # let device = Device::flex();
    /// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 2).init(&device) };
    /// let samples = Tensor::<2>::from_floats([[1., 0., 0., 1.], [0., 1., 1., 0.]], &device);
    /// let network = Network::capture(&mlp, &samples)?;
    /// let context = PolicyContext::new(&network, None);
    /// assert_eq!(Magnitude::l2().rank(&context)?.filters["a"].len(), 8);
    /// assert!(Apoz::new().rank(&context).is_err());
    ///
    /// let calibration = TensorCalibration::new(samples, vec![0, 1], 2);
    /// let evidence = Evidence::gather(&mlp, &calibration, Apoz::new().needs(), &NoProgress)?;
    /// assert_eq!(Apoz::new().rank(&context.with_evidence(&evidence))?.filters["a"].len(), 8);
    /// # Ok::<(), burn_sfp_prune::PruneError>(())
    /// ```
    pub fn new(network: &'a Network, analysis: impl Into<Option<&'a Analysis>>) -> Self {
        Self { network, analysis: analysis.into(), evidence: None }
    }

    /// Returns this context with evidence in place of what it had.
    pub fn with_evidence(self, evidence: &'a Evidence) -> Self {
        Self { evidence: Some(evidence), ..self }
    }

    /// Returns the evidence, for policies that need some; [`RankingPolicy::needs`](crate::RankingPolicy::needs) has an example.
    ///
    /// # Errors
    /// [`PruneError::NeedsEvidence`] if these passes were not made, and [`PruneError::ModelMismatch`] if they were made with other values of
    /// the parameters.
    pub fn require_evidence(&self, policy: &str, needs: Needs) -> Result<&'a Evidence, PruneError> {
        let Some(evidence) = self.evidence.filter(|evidence| evidence.gathered().covers(&needs)) else {
            return Err(PruneError::NeedsEvidence { policy: policy.into(), needs: needs.to_string() });
        };
        evidence.check(self.network)?;
        Ok(evidence)
    }

    /// Returns the analysis of a layer, or `None` if the layer was not analysed.
    pub fn analysis_of(&self, layer: &Layer) -> Option<&'a LayerAnalysis> {
        self.analysis?.layer(&layer.path)
    }

    /// Returns the analysis of an attention's heads, with an entry of `performance` for each head, or `None` if they were not
    /// analysed.
    ///
    /// This policy ranks whole heads by how many labels they recognise:
    /// ```
    /// use burn_sfp_prune::{PolicyContext, PruneError, Ranking, RankingPolicy};
    ///
    /// struct WidestHeads;
    ///
    /// impl RankingPolicy for WidestHeads {
    ///     fn name(&self) -> String { "widest heads".into() }
    ///     fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
    ///         let mut ranking = Ranking::default();
    ///         for heads in context.network.heads() {
    ///             if let Some(found) = context.analysis_of_heads(heads) {
    ///                 let scores = found.performance.iter().map(|head| head.labels().len() as f64).collect();
    ///                 ranking.filters.insert(heads.path.clone(), scores);
    ///             }
    ///         }
    ///         Ok(ranking)
    ///     }
    /// }
    /// ```
    pub fn analysis_of_heads(&self, heads: &Heads) -> Option<&'a LayerAnalysis> {
        self.analysis?.layer(&heads.path)
    }

    /// Returns the analysis, for policies that need one.
    ///
    /// # Errors
    /// [`PruneError::NeedsAnalysis`] if there is none, [`PruneError::Analysis`] if it contradicts itself ([`Analysis::check`]), and
    /// [`PruneError::ModelMismatch`] if it lists other filters than the network has.
    pub fn require_analysis(&self, policy: &str) -> Result<&'a Analysis, PruneError> {
        let analysis = self.analysis.ok_or_else(|| PruneError::NeedsAnalysis { policy: policy.into() })?;
        analysis.check()?;
        let layers = self.network.layers().iter().map(|layer| (&layer.path, layer.filters));
        let heads = self.network.heads().iter().map(|heads| (&heads.path, heads.heads));
        let filters: HashMap<&String, usize> = layers.chain(heads).collect();
        let differs =
            |found: &&LayerAnalysis| filters.get(&found.path).is_some_and(|filters| *filters != found.filters);
        match analysis.layers.iter().find(differs) {
            None => Ok(analysis),
            Some(LayerAnalysis { path, filters: found, .. }) => {
                let what = format!("`{path}` has {} filters or heads, in the analysis {found}", filters[path]);
                Err(PruneError::ModelMismatch { what })
            }
        }
    }

    /// Returns the layers that have a filter that can be removed.
    pub fn prunable_layers(&self) -> impl Iterator<Item = &'a Layer> {
        self.network.layers().iter().filter(|layer| layer.not_prunable.is_none())
    }

    /// Returns the weight of a layer as a kernel for each `(output, input)` pair; a kernel of a linear layer has one element. For
    /// a grouped convolution the inputs are those of the output's own group. A weight that the forward pass computes from several
    /// parameters is computed.
    ///
    /// # Errors
    /// [`PruneError::Graph`] if a computed weight does not come out on the model's device, and [`PruneError::NoFloatWeight`] if the weight is not a float tensor (a quantised one, for example).
    pub fn kernels(&self, layer: &Layer) -> Result<Kernels<'a>, PruneError> {
        let values = match self.network.weight_data(layer)? {
            Cow::Borrowed(data) => match data.as_slice::<f32>() {
                Ok(values) => Some(Cow::Borrowed(values)),
                Err(_) => data.clone().convert::<f32>().try_into_vec::<f32>().ok().map(Cow::Owned),
            },
            Cow::Owned(data) => data.convert::<f32>().try_into_vec::<f32>().ok().map(Cow::Owned),
        };
        let values = values.ok_or_else(|| PruneError::NoFloatWeight {
            path: layer.path.clone(),
            parameter: self.network.parameters()[layer.weight()].path.clone(),
        })?;
        let groups = layer.groups.max(1);
        let inputs = layer.inputs / groups;
        let size = values.len() / (layer.filters * inputs).max(1);
        let inputs_first = layer.kind.output_axis() == 1;
        Ok(Kernels { values, outputs: layer.filters, inputs, size, per_group: layer.filters / groups, inputs_first })
    }

    /// Returns the labels that reach each input of a layer: for each input index the union of the label sets of the filters (or
    /// nodes) that produce it, in a residual stream those of all summands. `labels_of(layer path)` returns the sets, filter by
    /// filter. `None` if something else than filters of layers contributes to the inputs (see
    /// [`Sources`](burn_sfp_graph::Sources)): an input of the network, or a summand whose channels run along another axis. For all
    /// layers of a deep network, [`Network::gather`] is faster.
    ///
    /// # Errors
    /// [`PruneError::NotAnalyzed`] if `labels_of` returns `None` for a source.
    pub fn input_labels(
        &self,
        layer: &Layer,
        policy: &str,
        labels_of: &dyn Fn(&str) -> Option<Vec<Vec<usize>>>,
    ) -> Result<Option<Vec<Vec<usize>>>, PruneError> {
        let sources = self.network.sources(layer);
        if !sources.complete {
            return Ok(None);
        }
        let mut of_channel: BTreeMap<u32, BTreeSet<usize>> = BTreeMap::new();
        for producer in sources.layers {
            let Some(sets) = labels_of(&producer.path) else {
                return Err(PruneError::NotAnalyzed {
                    policy: policy.into(),
                    path: layer.path.clone(),
                    needed: producer.path.clone(),
                });
            };
            for (&channel, labels) in producer.output_channels().iter().zip(sets) {
                of_channel.entry(channel).or_default().extend(labels);
            }
        }
        let labels = layer.input_channels().iter().map(|channel| {
            let labels = channel.and_then(|channel| of_channel.get(&channel));
            labels.into_iter().flatten().copied().collect()
        });
        Ok(Some(labels.collect()))
    }

    /// Returns the layers with these paths, or all layers whose connections can be masked: those whose weight is stored as it is
    /// applied.
    pub(super) fn chosen_layers(&self, chosen: Option<&[String]>) -> Result<Vec<&'a Layer>, PruneError> {
        let all = self.network.layers();
        match chosen {
            None => Ok(all.iter().filter(|layer| layer.is_stored()).collect()),
            Some(paths) => paths
                .iter()
                .map(|path| {
                    let available = || all.iter().map(|layer| layer.path.clone()).collect();
                    let unknown = || GraphError::UnknownLayer { path: path.clone(), available: available() };
                    self.network.layer(path).ok_or_else(|| PruneError::from(unknown()))
                })
                .collect(),
        }
    }
}
