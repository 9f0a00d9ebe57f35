//! [`MagnitudeConnections`]: connections by the norm of their kernels, the second control of docs/method.md, section 4.

use std::collections::BTreeMap;

use burn_sfp_graph::{Layer, Network};
use burn_sfp_nn::ConfigError;

use super::connections::Connections;
use super::context::PolicyContext;
use super::norm::Norm;
use super::ranking::{Ranking, RankingPolicy};
use crate::{PruneError, PrunePlan};

/// Keeps the connections with the largest norms of each layer: as many as another plan keeps, or a fixed share.
///
/// ```
/// use burn_sfp_prune::MagnitudeConnections;
/// let control = MagnitudeConnections::l1().layers(["convs.9", "fc"]).removing(0.8);
/// ```
#[derive(Clone, Debug)]
pub struct MagnitudeConnections {
    norm: Norm,
    layers: Option<Vec<String>>,
    share: f64,
    shares: BTreeMap<String, f64>,
    /// Parameters of the model whose plan [`like`](Self::like) got.
    model: Option<BTreeMap<String, Vec<usize>>>,
}

impl MagnitudeConnections {
    /// Creates the policy that removes half of the connections of each layer, those with the lowest L1 norms.
    pub fn l1() -> Self {
        Self { norm: Norm::L1, layers: None, share: 0.5, shares: BTreeMap::new(), model: None }
    }

    /// Creates the policy that removes half of the connections of each layer, those with the lowest L2 norms.
    pub fn l2() -> Self {
        Self { norm: Norm::L2, ..Self::l1() }
    }

    /// Restricts the policy to the incoming connections of these layers.
    pub fn layers<S: Into<String>>(mut self, paths: impl IntoIterator<Item = S>) -> Self {
        self.layers = Some(paths.into_iter().map(Into::into).collect());
        self
    }

    /// Sets the share of each layer's connections that is removed, between 0 and 1.
    pub fn removing(mut self, share: f64) -> Self {
        self.share = share;
        self
    }

    /// Removes the same share of connections in each layer as another plan, and none in layers that it left whole. Planning fails with
    /// [`PruneError::ModelMismatch`] where that is the plan of another model.
    pub fn like(mut self, plan: &PrunePlan) -> Self {
        self.shares = plan
            .layers
            .iter()
            .filter(|layer| layer.connections_before > 0)
            .map(|layer| (layer.path.clone(), 1.0 - layer.connections_after as f64 / layer.connections_before as f64))
            .collect();
        self.share = 0.0;
        self.model = Some(plan.model.iter().map(|p| (p.path.clone(), p.shape.clone())).collect());
        self
    }

    /// Checks that the layers are those of the model whose plan [`like`](Self::like) got.
    fn check_model(&self, network: &Network, layers: &[&Layer]) -> Result<(), PruneError> {
        let Some(model) = &self.model else { return Ok(()) };
        for layer in layers {
            let weight = &network.parameters()[layer.weight()];
            let what = match model.get(&weight.path) {
                Some(shape) if *shape == weight.shape => continue,
                Some(shape) => format!(
                    "the plan handed to `like` knows `{}` with shape {shape:?}, this model has it with {:?}",
                    weight.path, weight.shape
                ),
                None => format!("the plan handed to `like` knows no `{}`", weight.path),
            };
            return Err(PruneError::ModelMismatch { what });
        }
        Ok(())
    }
}

impl RankingPolicy for MagnitudeConnections {
    fn name(&self) -> String {
        format!("magnitude-connections-{:?}", self.norm).to_lowercase()
    }

    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        let mut ranking = Ranking::default();
        let layers = context.chosen_layers(self.layers.as_deref())?;
        self.check_model(context.network, &layers)?;
        for layer in layers {
            let share = self.shares.get(&layer.path).copied().unwrap_or(self.share);
            if !(0.0..=1.0).contains(&share) {
                return Err(PruneError::Config(ConfigError {
                    name: "share",
                    found: share.to_string(),
                    expected: "between 0 and 1",
                }));
            }
            if share == 0.0 || layer.groups > 1 {
                continue;
            }
            let kernels = context.kernels(layer)?;
            let (outputs, inputs) = kernels.shape();
            let norms: Vec<f64> =
                (0..outputs * inputs).map(|k| self.norm.of(kernels.kernel(k / inputs, k % inputs))).collect();
            let mut order: Vec<usize> = (0..norms.len()).collect();
            // Ties go by position, so that the plan does not depend on the sort.
            order.sort_by(|&a, &b| norms[a].total_cmp(&norms[b]).then(a.cmp(&b)));
            let mut keep = vec![true; norms.len()];
            let removed = (share * norms.len() as f64).round() as usize;
            order[..removed.min(norms.len())].iter().for_each(|&k| keep[k] = false);
            let keep = Connections::from_fn(outputs, inputs, |output, input| keep[output * inputs + input]);
            ranking.connections.insert(layer.path.clone(), keep);
        }
        Ok(ranking)
    }
}
