//! AFCC: applied filter's cluster connections (METHOD section 4).

use super::{Connections, PolicyContext, Ranking, RankingPolicy};
use crate::PruneError;

/// Keeps the connections between filters that recognise a common label, and of the classifier the weights from a
/// filter to its own labels (Tzach et al. 2025, section "AFCC").
///
/// ```
/// use burn_sfp_prune::Afcc;
/// let policy = Afcc::new().layers(["convs.8", "convs.9", "fc"]).shared_labels(1);
/// ```
#[derive(Clone, Debug)]
pub struct Afcc {
    layers: Option<Vec<String>>,
    shared: usize,
}

impl Default for Afcc {
    fn default() -> Self {
        Self::new()
    }
}

impl Afcc {
    /// All layers whose producers were analysed, one shared label.
    pub fn new() -> Self {
        Self { layers: None, shared: 1 }
    }

    /// Prunes the incoming connections of these layers only.
    pub fn layers<S: Into<String>>(mut self, paths: impl IntoIterator<Item = S>) -> Self {
        self.layers = Some(paths.into_iter().map(Into::into).collect());
        self
    }

    /// k: labels that two filters must share. At least 1.
    pub fn shared_labels(mut self, k: usize) -> Self {
        self.shared = k;
        self
    }
}

impl RankingPolicy for Afcc {
    fn name(&self) -> String {
        "afcc".into()
    }

    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        cluster_connections(context, &self.name(), self.layers.as_deref(), self.shared, &|path| {
            context.analysis.layer(path).map(|layer| layer.performance.iter().map(|filter| filter.labels()).collect())
        })
    }
}

/// The rule of AFCC for any assignment of label sets to filters: `labels_of(layer path)` gives them, filter by filter.
pub(super) fn cluster_connections(
    context: &PolicyContext<'_>,
    policy: &str,
    chosen: Option<&[String]>,
    shared: usize,
    labels_of: &dyn Fn(&str) -> Option<Vec<Vec<usize>>>,
) -> Result<Ranking, PruneError> {
    if shared == 0 {
        return Err(PruneError::Config { name: "shared labels", found: "0".into(), expected: "at least 1" });
    }
    let words = context.analysis.classes.div_ceil(64);
    let bits = |labels: &[usize]| {
        let mut set = vec![0u64; words];
        for &label in labels {
            if let Some(word) = set.get_mut(label / 64) {
                *word |= 1 << (label % 64);
            }
        }
        set
    };
    let mut ranking = Ranking::default();
    for layer in context.chosen_layers(chosen)? {
        let refuse = |reason: &str| PruneError::NotPrunable { path: layer.path.clone(), reason: reason.into() };
        if layer.groups > 1 || layer.producers.is_empty() {
            if chosen.is_some() {
                let reason =
                    if layer.groups > 1 { "it is a grouped convolution" } else { "no analysed layer feeds it" };
                return Err(refuse(reason));
            }
            continue;
        }
        // Label sets of the inputs: the union over the filters that make the channel.
        let mut of_channel = std::collections::BTreeMap::new();
        let mut missing = None;
        for path in &layer.producers {
            match (context.network.layer(path), labels_of(path)) {
                (Some(producer), Some(sets)) => {
                    for (&channel, labels) in producer.output_channels().iter().zip(&sets) {
                        let set = of_channel.entry(channel).or_insert_with(|| vec![0u64; words]);
                        set.iter_mut().zip(bits(labels)).for_each(|(word, new)| *word |= new);
                    }
                }
                _ => missing = Some(path.clone()),
            }
        }
        let outputs: Option<Vec<Vec<u64>>> = if layer.is_classifier {
            Some((0..layer.filters).map(|label| bits(&[label])).collect())
        } else {
            labels_of(&layer.path).map(|sets| sets.iter().map(|labels| bits(labels)).collect())
        };
        if outputs.is_none() && missing.is_none() {
            missing = Some(layer.path.clone());
        }
        let (Some(outputs), None) = (outputs, missing.clone()) else {
            if chosen.is_some() {
                return Err(PruneError::NotAnalysed {
                    policy: policy.into(),
                    path: layer.path.clone(),
                    needed: missing.unwrap_or_default(),
                });
            }
            continue;
        };
        let empty = vec![0u64; words];
        let inputs: Vec<&Vec<u64>> = layer
            .input_channels()
            .iter()
            .map(|channel| channel.and_then(|channel| of_channel.get(&channel)).unwrap_or(&empty))
            .collect();
        // The classifier's output unit is one label: with it, one shared label is all there can be.
        let needed = if layer.is_classifier { 1 } else { shared as u32 };
        let verdict = Connections::from_fn(layer.filters, layer.inputs, |output, input| {
            let common: u32 = outputs[output].iter().zip(inputs[input]).map(|(a, b)| (a & b).count_ones()).sum();
            common >= needed
        });
        ranking.connections.insert(layer.path.clone(), verdict);
    }
    Ok(ranking)
}
