//! [`ReconstructionConnections`]: connections by how well those that stay explain what the layer returned.

use std::collections::BTreeMap;

use burn_sfp_graph::Layer;
use burn_sfp_nn::ConfigError;

use super::connections::Connections;
use super::context::PolicyContext;
use super::ranking::{Ranking, RankingPolicy};
use crate::evidence::Needs;
use crate::{PruneError, PrunePlan};

/// Share of the mean diagonal of a Gram matrix that is added to the diagonal.
const RIDGE: f64 = 1e-3;
/// Columns up to which a layer is pruned, by default: 512 inputs of a 3x3 kernel (170 MB a layer).
const COLUMNS: usize = 4608;

/// Keeps for each output of a layer the connections that explain best what it returned, their weights solved anew: orthogonal matching
/// pursuit over kernels (Y. C. Pati, R. Rezaiifar, P. S. Krishnaprasad, Asilomar 1993; for kernels of convolutions see
/// [`InputGram::pursue`](burn_sfp_core::InputGram::pursue)). Each output keeps the same number.
///
/// The choice holds for weights that are solved anew, as [`recover`](crate::recover()) does ([`Pruner`](crate::Pruner) by default). Means are taken
/// out where the layer has a bias or a batch normalisation directly behind it.
///
/// Layers with groups are left whole, and so are those that read no channels, or more than 4,608 columns (inputs times elements of the kernel;
/// [`columns`](Self::columns)).
///
/// Needs the [inputs](Needs::inputs) of layers. For n columns and k kept ones the choice takes about `n k^2 / 2 + k^3 / 3` multiply-adds for each
/// output, at most `64 n k` where more than 64 inputs are kept.
///
/// ```
/// use burn_sfp_prune::{RankingPolicy, ReconstructionConnections};
/// let policy = ReconstructionConnections::new().layers(["convs.9", "fc"]).removing(0.9);
/// assert_eq!((policy.name().as_str(), policy.needs().inputs_up_to()), ("reconstruction-connections", Some(4608)));
/// ```
#[derive(Clone, Debug)]
pub struct ReconstructionConnections {
    layers: Option<Vec<String>>,
    share: f64,
    shares: BTreeMap<String, f64>,
    columns: usize,
}

impl Default for ReconstructionConnections {
    fn default() -> Self {
        Self::new()
    }
}

impl ReconstructionConnections {
    /// Creates the policy that removes half of the connections of each layer.
    pub fn new() -> Self {
        Self { layers: None, share: 0.5, shares: BTreeMap::new(), columns: COLUMNS }
    }

    /// Restricts the policy to the incoming connections of these layers.
    pub fn layers<S: Into<String>>(mut self, paths: impl IntoIterator<Item = S>) -> Self {
        self.layers = Some(paths.into_iter().map(Into::into).collect());
        self
    }

    /// Sets the share of each output's connections that is removed, between 0 and 1.
    pub fn removing(mut self, share: f64) -> Self {
        self.share = share;
        self
    }

    /// Removes the same share of connections in each layer as another plan, and none in layers that it left whole.
    pub fn like(mut self, plan: &PrunePlan) -> Self {
        let layers = plan.layers.iter().filter(|layer| layer.connections_before > 0);
        let share = |before: u64, after: u64| 1.0 - after as f64 / before as f64;
        self.shares = layers
            .map(|layer| (layer.path.clone(), share(layer.connections_before, layer.connections_after)))
            .collect();
        self.share = 0.0;
        self
    }

    /// Sets up to how many columns a layer is pruned. A matrix of n columns takes `8 n^2` bytes, those of all layers at once.
    pub fn columns(mut self, columns: usize) -> Self {
        self.columns = columns;
        self
    }

    /// The share of connections that a layer loses.
    fn share_of(&self, layer: &Layer) -> Result<f64, PruneError> {
        let share = self.shares.get(&layer.path).copied().unwrap_or(self.share);
        match (0.0..=1.0).contains(&share) {
            true => Ok(share),
            false => Err(PruneError::Config(ConfigError {
                name: "share",
                found: share.to_string(),
                expected: "between 0 and 1",
            })),
        }
    }
}

impl RankingPolicy for ReconstructionConnections {
    fn name(&self) -> String {
        "reconstruction-connections".into()
    }

    fn needs(&self) -> Needs {
        Needs::none().inputs(self.columns)
    }

    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        let evidence = context.require_evidence(&self.name(), self.needs())?;
        let mut ranking = Ranking::default();
        for layer in context.chosen_layers(self.layers.as_deref())? {
            let share = self.share_of(layer)?;
            let Some(gram) = evidence.inputs.get(&layer.path).filter(|_| share > 0.0 && layer.groups == 1) else {
                continue;
            };
            let kernels = context.kernels(layer)?;
            let (outputs, inputs) = kernels.shape();
            let count = inputs - ((share * inputs as f64).round() as usize).min(inputs);
            let kernel = |output: usize, input: usize| kernels.kernel(output, input);
            // Whether something takes in the mean of what the layer returns.
            let has_intercept = layer.bias().is_some() || layer.running_mean.is_some();
            let Some(kept) = gram.pursue(&layer.path, outputs, &kernel, count, (RIDGE, has_intercept))? else {
                continue;
            };
            let keep =
                Connections::from_fn(outputs, inputs, |output, input| kept[output].binary_search(&input).is_ok());
            ranking.connections.insert(layer.path.clone(), keep);
        }
        Ok(ranking)
    }
}
