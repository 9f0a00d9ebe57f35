//! What to keep: the [`RankingPolicy`] trait and the policies that come with the library, a file each.

mod afcc;
mod magnitude;
mod magnitude_connections;
mod random_afcc;
mod sfp_ranking;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use burn_sfp_core::network::{Heads, Layer, Network};
use burn_sfp_core::{Analysis, LayerAnalysis};

pub use afcc::Afcc;
pub use magnitude::{Magnitude, Norm};
pub use magnitude_connections::MagnitudeConnections;
pub use random_afcc::RandomAfcc;
pub use sfp_ranking::SfpRanking;

use crate::PruneError;

/// Decides what is worth keeping, from the analysis, the graph and the weights.
///
/// A policy of one's own is a struct with this trait. This one scores a filter by how many labels it recognises:
///
/// ```
/// use burn_sfp_prune::{PolicyContext, PruneError, Ranking, RankingPolicy};
///
/// struct MostLabels;
///
/// impl RankingPolicy for MostLabels {
///     fn name(&self) -> String { "most labels".into() }
///     fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
///         let mut ranking = Ranking::default();
///         for layer in context.prunable_layers() {
///             if let Some(found) = context.analysis_of(layer) {
///                 let scores = found.performance.iter().map(|filter| filter.labels().len() as f64).collect();
///                 ranking.filters.insert(layer.path.clone(), scores);
///             }
///         }
///         Ok(ranking)
///     }
/// }
/// ```
pub trait RankingPolicy {
    /// Name for plans and reports.
    fn name(&self) -> String;

    /// Scores filters, judges connections, or both.
    ///
    /// # Errors
    /// Whatever keeps the policy from a verdict; [`PruneError::NotAnalysed`] and [`PruneError::UnknownLayer`] are there for it.
    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError>;
}

impl<P: RankingPolicy + ?Sized> RankingPolicy for &P {
    fn name(&self) -> String {
        (**self).name()
    }
    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        (**self).rank(context)
    }
}

impl<P: RankingPolicy + ?Sized> RankingPolicy for Box<P> {
    fn name(&self) -> String {
        (**self).name()
    }
    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        (**self).rank(context)
    }
}

/// What a policy returns.
#[derive(Clone, Debug, Default)]
pub struct Ranking {
    /// For layers by path, a score for each filter: the budget removes the lowest. Layers without scores keep their filters.
    ///
    /// Under the path of [`Heads`] there may be a score for each head. Where whole heads go ([`Blocks::Whole`](crate::Blocks)),
    /// these scores alone rank them; without them a head counts as the mean of its nodes in the layers that make queries, keys
    /// and values.
    pub filters: BTreeMap<String, Vec<f64>>,
    /// For layers by path, which of their incoming connections stay. Layers without a verdict keep all.
    pub connections: BTreeMap<String, Connections>,
}

/// Which connections of a layer stay: one bit for each pair of output unit (filter) and input (channel or feature).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connections {
    outputs: usize,
    inputs: usize,
    keep: Vec<bool>,
}

impl Connections {
    /// A verdict from a function of `(output, input)`.
    pub fn from_fn(outputs: usize, inputs: usize, mut keep: impl FnMut(usize, usize) -> bool) -> Self {
        let mut bits = Vec::with_capacity(outputs * inputs);
        for output in 0..outputs {
            for input in 0..inputs {
                bits.push(keep(output, input));
            }
        }
        Self { outputs, inputs, keep: bits }
    }

    /// Output units and inputs.
    pub fn shape(&self) -> (usize, usize) {
        (self.outputs, self.inputs)
    }

    /// Whether a connection stays. Out of range: no.
    pub fn keeps(&self, output: usize, input: usize) -> bool {
        output < self.outputs && input < self.inputs && self.keep[output * self.inputs + input]
    }

    /// How many stay.
    pub fn kept(&self) -> usize {
        self.keep.iter().filter(|keep| **keep).count()
    }

    pub(crate) fn remove(&mut self, output: usize, input: usize) {
        if output < self.outputs && input < self.inputs {
            self.keep[output * self.inputs + input] = false;
        }
    }
}

/// What a policy can look at.
#[derive(Clone, Copy)]
pub struct PolicyContext<'a> {
    /// The captured network.
    pub network: &'a Network,
    /// What its filters recognise, where that was measured.
    pub analysis: Option<&'a Analysis>,
}

impl<'a> PolicyContext<'a> {
    /// The analysis of a layer, where it was analysed.
    pub fn analysis_of(&self, layer: &Layer) -> Option<&'a LayerAnalysis> {
        self.analysis?.layer(&layer.path)
    }

    /// The analysis of an attention's heads, where they were analysed: an entry of `performance` for each head.
    ///
    /// A policy that ranks whole heads by how many labels they recognise:
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

    /// The analysis, for policies that cannot do without.
    ///
    /// # Errors
    /// [`PruneError::NeedsAnalysis`] where there is none.
    pub fn require_analysis(&self, policy: &str) -> Result<&'a Analysis, PruneError> {
        self.analysis.ok_or_else(|| PruneError::NeedsAnalysis { policy: policy.into() })
    }

    /// Layers of which at least one filter may go.
    pub fn prunable_layers(&self) -> impl Iterator<Item = &'a Layer> {
        self.network.layers().iter().filter(|layer| layer.not_prunable.is_none())
    }

    /// The layer's weight as rows of numbers, one for each `(output, input)` pair: a kernel of a convolution, one
    /// number of a linear layer. Of a grouped convolution the inputs of the output's own group.
    ///
    /// # Errors
    /// [`PruneError::BadRanking`] where the weight is not a float tensor.
    pub fn kernels(&self, layer: &Layer) -> Result<Kernels<'a>, PruneError> {
        let data = self.network.parameter_data_at(layer.weight());
        let numbers = match data.map(|data| (data, data.as_slice::<f32>())) {
            Some((_, Ok(numbers))) => Some(Cow::Borrowed(numbers)),
            Some((data, Err(_))) => data.clone().convert::<f32>().try_into_vec::<f32>().ok().map(Cow::Owned),
            None => None,
        };
        let numbers = numbers.ok_or_else(|| PruneError::BadRanking {
            policy: "any".into(),
            path: layer.path.clone(),
            what: format!("its weight `{}` holds no floats", self.network.parameters()[layer.weight()].path),
        })?;
        let groups = layer.groups.max(1);
        let inputs = layer.inputs / groups;
        let size = numbers.len() / (layer.filters * inputs).max(1);
        let inputs_first = layer.kind.output_axis() == 1;
        Ok(Kernels { numbers, outputs: layer.filters, inputs, size, per_group: layer.filters / groups, inputs_first })
    }

    /// The labels that reach each input of a layer: for each input index the union of the label sets of the filters (or nodes)
    /// that make it, in a residual stream of all summands. `labels_of(layer path)` gives the sets, filter by filter. `None` where
    /// filters of layers are not all that makes the inputs (see [`Sources`](burn_sfp_core::network::Sources)): the layer reads an
    /// input of the network, or something is added whose channels run along another axis.
    ///
    /// # Errors
    /// [`PruneError::NotAnalysed`] where `labels_of` knows nothing of a source.
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
                return Err(PruneError::NotAnalysed {
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

    pub(crate) fn chosen_layers(&self, chosen: Option<&[String]>) -> Result<Vec<&'a Layer>, PruneError> {
        let all = self.network.layers();
        match chosen {
            None => Ok(all.iter().collect()),
            Some(paths) => paths
                .iter()
                .map(|path| {
                    self.network.layer(path).ok_or_else(|| PruneError::UnknownLayer {
                        path: path.clone(),
                        available: all.iter().map(|layer| layer.path.clone()).collect(),
                    })
                })
                .collect(),
        }
    }
}

/// A layer's weight, addressed by `(output, input)`.
#[derive(Clone, Debug)]
pub struct Kernels<'a> {
    numbers: Cow<'a, [f32]>,
    outputs: usize,
    inputs: usize,
    size: usize,
    /// Outputs of one group.
    per_group: usize,
    /// Whether the weight counts inputs before outputs.
    inputs_first: bool,
}

impl Kernels<'_> {
    /// Output units and inputs (of one group).
    pub fn shape(&self) -> (usize, usize) {
        (self.outputs, self.inputs)
    }

    /// The numbers of one kernel. Out of range: empty.
    pub fn kernel(&self, output: usize, input: usize) -> &[f32] {
        if output >= self.outputs || input >= self.inputs {
            return &[];
        }
        let at = if self.inputs_first {
            let (group, member) = (output / self.per_group, output % self.per_group);
            (group * self.inputs + input) * self.per_group + member
        } else {
            output * self.inputs + input
        };
        &self.numbers[at * self.size..(at + 1) * self.size]
    }

    /// The norm of each output's numbers, added up in their order. Several sums run side by side: one alone would wait for
    /// each addition.
    pub(crate) fn norms(&self, norm: Norm) -> Vec<f64> {
        const ROWS: usize = 8;
        let mut sums = vec![0.0; self.outputs];
        if self.inputs_first {
            // Neighbours in memory are numbers of one kernel, then kernels of other outputs of the group.
            let row = self.per_group * self.size;
            for (group, sums) in sums.chunks_mut(self.per_group.max(1)).enumerate() {
                for row in self.numbers[group * self.inputs * row..].chunks(row.max(1)).take(self.inputs) {
                    if self.size == 1 {
                        sums.iter_mut().zip(row).for_each(|(sum, &number)| *sum += norm.term(number));
                        continue;
                    }
                    for (sum, kernel) in sums.iter_mut().zip(row.chunks(self.size.max(1))) {
                        kernel.iter().for_each(|&number| *sum += norm.term(number));
                    }
                }
            }
        } else {
            let row = self.inputs * self.size;
            for (rows, sums) in self.numbers.chunks(ROWS * row.max(1)).zip(sums.chunks_mut(ROWS)) {
                if sums.len() < ROWS {
                    for (sum, row) in sums.iter_mut().zip(rows.chunks(row)) {
                        row.iter().for_each(|&number| *sum += norm.term(number));
                    }
                    continue;
                }
                let rows: [&[f32]; ROWS] = std::array::from_fn(|k| &rows[k * row..(k + 1) * row]);
                let mut all = [0.0; ROWS];
                for at in 0..row {
                    for (sum, row) in all.iter_mut().zip(&rows) {
                        *sum += norm.term(row[at]);
                    }
                }
                sums.copy_from_slice(&all);
            }
        }
        sums.into_iter().map(|sum| norm.of_sum(sum)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norms_are_those_of_the_kernels_bit_by_bit() {
        // Outputs, inputs of a group, size of a kernel, groups, inputs before outputs.
        for (outputs, inputs, size, groups, inputs_first) in [
            (19, 5, 9, 1, false),
            (8, 7, 1, 1, false),
            (3, 1, 4, 3, false),
            (13, 6, 1, 1, true),
            (12, 4, 9, 3, true),
            (6, 1, 1, 6, true),
        ] {
            let numbers = (0..outputs * inputs * size).map(|k| ((k * 37 % 101) as f32 * 0.731).sin()).collect();
            let kernels = Kernels { numbers, outputs, inputs, size, per_group: outputs / groups, inputs_first };
            for norm in [Norm::L1, Norm::L2] {
                let each = |output| norm.of((0..inputs).flat_map(|input| kernels.kernel(output, input)));
                let expected: Vec<u64> = (0..outputs).map(|output| f64::to_bits(each(output))).collect();
                let found: Vec<u64> = kernels.norms(norm).into_iter().map(f64::to_bits).collect();
                assert_eq!(found, expected, "{outputs} x {inputs} x {size}, {groups} groups, {inputs_first}");
            }
        }
    }
}
