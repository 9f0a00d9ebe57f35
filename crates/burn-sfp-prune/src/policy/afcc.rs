//! [`Afcc`]: applied filter's cluster connections (docs/method.md, section 4).

use std::collections::HashMap;

use burn_sfp_graph::{Gathered, Layer, Network};
use burn_sfp_nn::ConfigError;
use fixedbitset::FixedBitSet;

use super::connections::Connections;
use super::context::PolicyContext;
use super::ranking::{Ranking, RankingPolicy};
use crate::PruneError;

/// Keeps the connections between filters that recognise a common label, and the classifier's weights from a filter to its own
/// labels (Tzach et al. 2025, section "AFCC").
///
/// Nodes of linear layers are filters with one position, or one a token: between linear layers, those of a transformer's
/// feed-forward part among them, the same rule is what arXiv 2501.12900 calls *applied nodal diagonal connections* (ANDC).
/// Normalisations in between change nothing. In a residual stream a channel has the labels of all layers that add to it. If
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
    /// Creates the policy for all layers whose producers were analysed, with one shared label.
    pub fn new() -> Self {
        Self { layers: None, shared: 1 }
    }

    /// Restricts the policy to the incoming connections of these layers.
    pub fn layers<S: Into<String>>(mut self, paths: impl IntoIterator<Item = S>) -> Self {
        self.layers = Some(paths.into_iter().map(Into::into).collect());
        self
    }

    /// Sets k, the number of labels that two filters must share; at least 1.
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
        let labels_of = |path: &str| -> Option<Vec<Vec<usize>>> {
            Some(analysis.layer(path)?.performance.iter().map(|filter| filter.labels()).collect())
        };
        let rule =
            ClusterRule { policy: &self.name(), classes: analysis.classes, shared: self.shared, labels_of: &labels_of };
        rule.rank(context, self.layers.as_deref())
    }
}

/// What reaches an input of a layer.
#[derive(Clone)]
struct Reach {
    labels: FixedBitSet,
    /// The first layer that makes it whose labels are not known, by index.
    missing: Option<usize>,
}

/// The rule of AFCC for any assignment of label sets to filters.
pub(super) struct ClusterRule<'a> {
    /// Name of the policy, for errors.
    pub policy: &'a str,
    /// Number of classes.
    pub classes: usize,
    /// Labels that two filters must share.
    pub shared: usize,
    /// Returns the label sets of a layer by its path, filter by filter; `None` if the layer was not analysed.
    pub labels_of: &'a dyn Fn(&str) -> Option<Vec<Vec<usize>>>,
}

impl ClusterRule<'_> {
    /// Makes the keep masks of these layers, or of all whose label sets are known.
    pub fn rank(&self, context: &PolicyContext<'_>, chosen: Option<&[String]>) -> Result<Ranking, PruneError> {
        if self.shared == 0 || self.shared > self.classes {
            return Err(PruneError::Config(ConfigError {
                name: "shared labels",
                found: self.shared.to_string(),
                expected: "at least 1 and at most the number of classes",
            }));
        }
        let mut ranking = Ranking::default();
        let chosen_layers = context.chosen_layers(chosen)?;
        let reaching = self.reaching(context.network);
        for layer in chosen_layers {
            let Some(reaching) = reaching.get(layer.path.as_str()) else { continue };
            match self.keep_mask(context, layer, reaching) {
                Ok(keep) => {
                    ranking.connections.insert(layer.path.clone(), keep);
                }
                // Layers that were not asked for by name are left alone if something about them is not known.
                Err(PruneError::NotAnalyzed { .. } | PruneError::NotPrunable { .. }) if chosen.is_none() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(ranking)
    }

    /// The labels that reach the inputs of each layer, by path.
    fn reaching<'n>(&self, network: &'n Network) -> HashMap<&'n str, Gathered<Reach>> {
        let layers = network.layers().iter().enumerate();
        let place: HashMap<&str, usize> = layers.rev().map(|(index, layer)| (layer.path.as_str(), index)).collect();
        let of = |layer: &Layer| match (self.labels_of)(&layer.path) {
            Some(sets) => sets.iter().map(|labels| Reach { labels: self.bits(labels), missing: None }).collect(),
            None => {
                let missing = place.get(layer.path.as_str()).copied();
                vec![Reach { labels: FixedBitSet::new(), missing }; layer.filters]
            }
        };
        let join = |reach: &mut Reach, more: &Reach| {
            reach.labels.union_with(&more.labels);
            reach.missing = reach.missing.into_iter().chain(more.missing).min();
        };
        let gathered = network.gather(of, join);
        network.layers().iter().zip(gathered).rev().map(|(layer, reach)| (layer.path.as_str(), reach)).collect()
    }

    fn keep_mask(
        &self,
        context: &PolicyContext<'_>,
        layer: &Layer,
        reaching: &Gathered<Reach>,
    ) -> Result<Connections, PruneError> {
        let refuse = |reason: &str| PruneError::NotPrunable { path: layer.path.clone(), reason: reason.into() };
        if layer.groups > 1 {
            return Err(refuse("it is a grouped convolution"));
        }
        if !reaching.fed {
            return Err(refuse("no analysed layer feeds it"));
        }
        if !reaching.complete {
            return Err(refuse("part of its input is made by no layer whose filters it reads"));
        }
        let not_analysed = |needed: &str| {
            let (policy, path) = (self.policy.into(), layer.path.clone());
            PruneError::NotAnalyzed { policy, needed: needed.into(), path }
        };
        let inputs: Vec<&Reach> = reaching.inputs.iter().flatten().collect();
        if let Some(missing) = inputs.iter().filter_map(|reach| reach.missing).min() {
            return Err(not_analysed(&context.network.layers()[missing].path));
        }
        // A network may return the output of an inner layer first; only a layer that was not analysed is the classifier.
        let own = (self.labels_of)(&layer.path);
        let classifier = layer.is_classifier && own.is_none();
        let outputs: Vec<FixedBitSet> = match own {
            Some(sets) => sets.iter().map(|labels| self.bits(labels)).collect(),
            None if classifier => (0..layer.filters).map(|label| self.bits(&[label])).collect(),
            None => return Err(not_analysed(&layer.path)),
        };
        // An output of the classifier is one label, so it can share only one.
        let needed = if classifier { 1 } else { self.shared };
        Ok(Connections::from_fn(layer.filters, layer.inputs, |output, input| {
            outputs[output].intersection_count(&inputs[input].labels) >= needed
        }))
    }

    fn bits(&self, labels: &[usize]) -> FixedBitSet {
        let mut set = FixedBitSet::with_capacity(self.classes);
        labels.iter().filter(|label| **label < self.classes).for_each(|&label| set.insert(label));
        set
    }
}
