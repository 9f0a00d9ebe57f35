//! [`MagnitudeConnections`]: connections by the norm of their kernels, the second control of docs/method.md, section 4.

use burn_sfp_graph::Layer;

use super::choice::{ConnectionChoice, ConnectionPolicy, Wanted, choose_connections, connection_settings};
use super::context::PolicyContext;
use super::norm::Norm;
use super::ranking::{Ranking, RankingPolicy};
use crate::PruneError;
use crate::normalize::Normalizer;

/// Keeps the connections with the largest norms: of each layer as many as another plan keeps, or a fixed share; or of all layers together
/// ([`Spread::Global`](crate::Spread::Global)), compared by the formula of LAMP (Lee et al. 2021, arXiv 2010.07611).
///
/// ```
/// use burn_sfp_prune::MagnitudeConnections;
/// let control = MagnitudeConnections::l1().layers(["convs.9", "fc"]).removing(0.8);
/// ```
#[derive(Clone, Debug)]
pub struct MagnitudeConnections {
    norm: Norm,
    choice: ConnectionChoice,
}

impl MagnitudeConnections {
    /// Creates the policy that removes half of the connections of each layer, those with the lowest L1 norms.
    pub fn l1() -> Self {
        Self { norm: Norm::L1, choice: ConnectionChoice::new() }
    }

    /// Creates the policy that removes half of the connections of each layer, those with the lowest L2 norms.
    pub fn l2() -> Self {
        Self { norm: Norm::L2, ..Self::l1() }
    }

    connection_settings!();
}

impl ConnectionPolicy for MagnitudeConnections {
    fn choice(&self) -> &ConnectionChoice {
        &self.choice
    }

    fn scores(
        &self,
        context: &PolicyContext<'_>,
        layer: &Layer,
        _: &Wanted<'_>,
    ) -> Result<Option<Vec<f64>>, PruneError> {
        let kernels = context.kernels(layer)?;
        let (outputs, inputs) = kernels.shape();
        let norms = (0..outputs * inputs).map(|k| self.norm.of(kernels.kernel(k / inputs, k % inputs)));
        Ok(Some(norms.collect()))
    }

    fn normalizer(&self) -> Normalizer {
        Normalizer::Lamp
    }
}

impl RankingPolicy for MagnitudeConnections {
    fn name(&self) -> String {
        format!("magnitude-connections-{:?}", self.norm).to_lowercase()
    }

    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        choose_connections(self, context)
    }
}
