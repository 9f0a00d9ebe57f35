//! AFCC: applied filter's cluster connections (METHOD section 4).

use burn_sfp_core::network::Layer;

use super::{Connections, PolicyContext, Ranking, RankingPolicy};
use crate::PruneError;

/// Keeps the connections between filters that recognise a common label, and of the classifier the weights from a
/// filter to its own labels (Tzach et al. 2025, section "AFCC").
///
/// Nodes of linear layers are filters with one position, or one a token: between linear layers, those of a transformer's
/// feed-forward part among them, the same rule is what arXiv 2501.12900 calls *applied nodal diagonal connections* (ANDC).
/// Normalisations in between change nothing. In a residual stream a channel has the labels of all layers that add to it. Where
/// something unknown adds to the inputs of a layer (an input of the network; the stream of a mixer, where its tokens are nodes),
/// the layer keeps its connections, and asking for it by name is an error.
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
        let analysis = context.require_analysis(&self.name())?;
        cluster_connections(context, &self.name(), self.layers.as_deref(), self.shared, &|path| {
            analysis.layer(path).map(|layer| layer.performance.iter().map(|filter| filter.labels()).collect())
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
    let words = context.network.classes().div_ceil(64);
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
        match verdict(context, layer, policy, shared, labels_of, &bits) {
            Ok(verdict) => {
                ranking.connections.insert(layer.path.clone(), verdict);
            }
            // Layers that were not asked for by name are left alone where something about them is not known.
            Err(PruneError::NotAnalysed { .. } | PruneError::NotPrunable { .. }) if chosen.is_none() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(ranking)
}

fn verdict(
    context: &PolicyContext<'_>,
    layer: &Layer,
    policy: &str,
    shared: usize,
    labels_of: &dyn Fn(&str) -> Option<Vec<Vec<usize>>>,
    bits: &dyn Fn(&[usize]) -> Vec<u64>,
) -> Result<Connections, PruneError> {
    let refuse = |reason: &str| PruneError::NotPrunable { path: layer.path.clone(), reason: reason.into() };
    if layer.groups > 1 {
        return Err(refuse("it is a grouped convolution"));
    }
    let inputs = context.input_labels(layer, policy, labels_of)?.ok_or_else(|| {
        refuse(if context.network.producers(layer).is_empty() {
            "no analysed layer feeds it"
        } else {
            "part of its input is made by no layer whose filters it reads"
        })
    })?;
    let inputs: Vec<Vec<u64>> = inputs.iter().map(|labels| bits(labels)).collect();
    let outputs: Vec<Vec<u64>> = if layer.is_classifier {
        (0..layer.filters).map(|label| bits(&[label])).collect()
    } else {
        let sets = labels_of(&layer.path).ok_or_else(|| PruneError::NotAnalysed {
            policy: policy.into(),
            path: layer.path.clone(),
            needed: layer.path.clone(),
        })?;
        sets.iter().map(|labels| bits(labels)).collect()
    };
    // The classifier's output unit is one label: with it, one shared label is all there can be.
    let needed = if layer.is_classifier { 1 } else { shared as u32 };
    Ok(Connections::from_fn(layer.filters, layer.inputs, |output, input| {
        let common: u32 = outputs[output].iter().zip(&inputs[input]).map(|(a, b)| (a & b).count_ones()).sum();
        common >= needed
    }))
}
