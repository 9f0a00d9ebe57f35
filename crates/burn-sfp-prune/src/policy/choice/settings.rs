//! [`ConnectionChoice`]: how many connections stay, of which layers.

use std::collections::BTreeMap;

use burn_sfp_graph::{Layer, Network};
use burn_sfp_nn::ConfigError;

use super::pattern::Pattern;
use crate::{PruneError, PrunePlan};

/// How the connections that stay are spread over outputs and layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Spread {
    /// Every output of a layer keeps the same number, those of its own with the highest scores.
    PerOutput,
    /// A layer keeps those of its connections with the highest scores, whichever outputs they belong to.
    PerLayer,
    /// All layers together keep those with the highest scores, made comparable by
    /// [`ConnectionPolicy::normalizer`](super::ConnectionPolicy::normalizer), for each weight that they hold (for each multiply-add where
    /// multiply-adds are asked for).
    Global,
}

/// How many connections are asked for.
#[derive(Clone, Debug, PartialEq)]
enum Amount {
    /// This share is removed.
    Share(f64),
    /// The share that another plan removes, layer by layer, and the parameters of its model.
    Like { shares: BTreeMap<String, f64>, model: BTreeMap<String, Vec<usize>> },
    /// So many weights stay.
    Weights(u64),
    /// So many multiply-adds stay.
    Macs(u64),
}

/// How many connections stay, of which layers and in which pattern: the settings that all policies over connections have.
///
/// Each of these methods is one of the policies too, so it is needed only for a [`ConnectionPolicy`](super::ConnectionPolicy) of one's own.
///
/// ```
/// use burn_sfp_prune::{ConnectionChoice, MagnitudeConnections, Spread};
///
/// let choice = ConnectionChoice::new().layers(["convs.9", "fc"]).removing(0.9).spread(Spread::Global);
/// let policy = MagnitudeConnections::l2().layers(["convs.9", "fc"]).removing(0.9).spread(Spread::Global);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectionChoice {
    layers: Option<Vec<String>>,
    amount: Amount,
    spread: Option<Spread>,
    pattern: Pattern,
}

impl Default for ConnectionChoice {
    fn default() -> Self {
        Self::new()
    }
}

impl ConnectionChoice {
    /// Removes half of the connections of each layer.
    pub fn new() -> Self {
        Self { layers: None, amount: Amount::Share(0.5), spread: None, pattern: Pattern::Single }
    }

    /// Restricts the choice to the incoming connections of these layers.
    pub fn layers<S: Into<String>>(mut self, paths: impl IntoIterator<Item = S>) -> Self {
        self.layers = Some(paths.into_iter().map(Into::into).collect());
        self
    }

    /// Sets the share of connections that is removed, between 0 and 1: of each layer; under [`Spread::Global`] the share of the
    /// weights of all chosen layers together.
    pub fn removing(mut self, share: f64) -> Self {
        self.amount = Amount::Share(share);
        self
    }

    /// Removes the same share of connections in each layer as another plan (under [`Spread::Global`] as many weights as it does in all
    /// of them together), and none in layers that it left whole. Planning fails with [`PruneError::ModelMismatch`] where that is
    /// the plan of another model.
    pub fn like(mut self, plan: &PrunePlan) -> Self {
        let layers = plan.layers.iter().filter(|layer| layer.connections_before > 0);
        let share = |before: u64, after: u64| 1.0 - after as f64 / before as f64;
        let shares = layers
            .map(|layer| (layer.path.clone(), share(layer.connections_before, layer.connections_after)))
            .collect();
        let model = plan.model.iter().map(|p| (p.path.clone(), p.shape.clone())).collect();
        self.amount = Amount::Like { shares, model };
        self
    }

    /// Sets how many weights the chosen layers keep together. Unless they are compared ([`Spread::Global`]) all lose the same share.
    pub fn keeping_weights(mut self, weights: u64) -> Self {
        self.amount = Amount::Weights(weights);
        self
    }

    /// Sets how many multiply-adds of one sample the chosen layers keep together, those of removed connections not counted. Unless
    /// they are compared ([`Spread::Global`]) all lose the same share.
    pub fn keeping_macs(mut self, macs: u64) -> Self {
        self.amount = Amount::Macs(macs);
        self
    }

    /// Sets how the connections that stay are spread over outputs and layers. Without it a policy has its own way.
    pub fn spread(mut self, spread: Spread) -> Self {
        self.spread = Some(spread);
        self
    }

    /// Sets which connections stay or go together; each by itself without it.
    pub fn pattern(mut self, pattern: Pattern) -> Self {
        self.pattern = pattern;
        self
    }

    /// The layers that were named; `None` for all.
    pub fn chosen_layers(&self) -> Option<&[String]> {
        self.layers.as_deref()
    }

    /// The spread that was set.
    pub fn chosen_spread(&self) -> Option<Spread> {
        self.spread
    }

    /// The pattern.
    pub fn chosen_pattern(&self) -> Pattern {
        self.pattern
    }

    /// Whether multiply-adds are counted, and not weights.
    pub(super) fn counts_macs(&self) -> bool {
        matches!(self.amount, Amount::Macs(_))
    }

    /// The share of connections that each of these layers loses, before layers are compared.
    pub(super) fn shares(&self, layers: &[&Layer]) -> Result<Vec<f64>, PruneError> {
        let part = |count: u64, whole: u64| match whole {
            0 => 0.0,
            _ => (1.0 - count as f64 / whole as f64).max(0.0),
        };
        let same = match &self.amount {
            Amount::Like { shares, .. } => {
                return Ok(layers.iter().map(|layer| shares.get(&layer.path).copied().unwrap_or_default()).collect());
            }
            Amount::Share(share) if (0.0..=1.0).contains(share) => *share,
            Amount::Share(share) => {
                let (found, expected) = (share.to_string(), "between 0 and 1");
                return Err(ConfigError { name: "share", found, expected }.into());
            }
            Amount::Weights(count) => part(*count, layers.iter().map(|layer| weights_of(layer)).sum()),
            Amount::Macs(count) => part(*count, layers.iter().map(|layer| layer.macs).sum()),
        };
        Ok(vec![same; layers.len()])
    }

    /// Checks that the layers are those of the model whose plan [`like`](Self::like) got.
    pub(super) fn check_model(&self, network: &Network, layers: &[&Layer]) -> Result<(), PruneError> {
        let Amount::Like { model, .. } = &self.amount else { return Ok(()) };
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

/// Weights of all connections of a layer without groups.
fn weights_of(layer: &Layer) -> u64 {
    (layer.filters * layer.inputs * layer.kernel_elements()) as u64
}

/// The methods of [`ConnectionChoice`] for a policy that holds one in its field `choice`.
macro_rules! connection_settings {
    () => {
        /// Restricts the policy to the incoming connections of these layers.
        pub fn layers<S: Into<String>>(mut self, paths: impl IntoIterator<Item = S>) -> Self {
            self.choice = self.choice.layers(paths);
            self
        }

        /// Sets the share of connections that is removed, between 0 and 1; half of them without it. See
        /// [`ConnectionChoice::removing`](crate::ConnectionChoice::removing).
        pub fn removing(mut self, share: f64) -> Self {
            self.choice = self.choice.removing(share);
            self
        }

        /// Removes the same share of connections in each layer as another plan, and none in layers that it left whole. Planning fails
        /// with [`PruneError::ModelMismatch`](crate::PruneError::ModelMismatch) where that is the plan of another model. See
        /// [`ConnectionChoice::like`](crate::ConnectionChoice::like).
        pub fn like(mut self, plan: &crate::PrunePlan) -> Self {
            self.choice = self.choice.like(plan);
            self
        }

        /// Sets how many weights the chosen layers keep together; see
        /// [`ConnectionChoice::keeping_weights`](crate::ConnectionChoice::keeping_weights).
        pub fn keeping_weights(mut self, weights: u64) -> Self {
            self.choice = self.choice.keeping_weights(weights);
            self
        }

        /// Sets how many multiply-adds of one sample the chosen layers keep together; see
        /// [`ConnectionChoice::keeping_macs`](crate::ConnectionChoice::keeping_macs).
        pub fn keeping_macs(mut self, macs: u64) -> Self {
            self.choice = self.choice.keeping_macs(macs);
            self
        }

        /// Sets how the connections that stay are spread over outputs and layers.
        pub fn spread(mut self, spread: crate::Spread) -> Self {
            self.choice = self.choice.spread(spread);
            self
        }

        /// Sets which connections stay or go together; each by itself without it.
        pub fn pattern(mut self, pattern: crate::Pattern) -> Self {
            self.choice = self.choice.pattern(pattern);
            self
        }
    };
}
pub(in crate::policy) use connection_settings;
