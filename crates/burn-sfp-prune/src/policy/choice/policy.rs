//! [`ConnectionPolicy`]: a policy that scores connections.

use burn_sfp_graph::Layer;

use super::super::connections::Connections;
use super::super::context::PolicyContext;
use super::super::ranking::RankingPolicy;
use super::settings::{ConnectionChoice, Spread};
use crate::PruneError;
use crate::normalize::Normalizer;

/// What is going to be kept of a layer, for policies that score no further than that.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Wanted<'a> {
    /// Inputs that an output keeps, on average over the layer.
    pub count: usize,
    /// How connections are spread.
    pub spread: Spread,
    /// Connections that stay before all others, whatever their scores ([`PolicyExt::among`](crate::PolicyExt::among)).
    pub first: Option<&'a Connections>,
}

/// A policy that gives each connection of a layer a score. Which connections stay, and how many, is the same for all of them:
/// [`ConnectionChoice`] says it, [`choose_connections`](crate::choose_connections) carries it out.
///
/// This policy keeps the kernels with the largest elements:
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::{GraphModule, Layer};
/// use burn_sfp_prune::{
///     ConnectionChoice, ConnectionPolicy, Planner, PolicyContext, PruneError, Ranking, RankingPolicy, Wanted, choose_connections,
/// };
///
/// struct LargestElement { choice: ConnectionChoice }
///
/// impl RankingPolicy for LargestElement {
///     fn name(&self) -> String { "largest element".into() }
///     fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> { choose_connections(self, context) }
/// }
///
/// impl ConnectionPolicy for LargestElement {
///     fn choice(&self) -> &ConnectionChoice { &self.choice }
///     fn scores(&self, context: &PolicyContext<'_>, layer: &Layer, _: &Wanted<'_>) -> Result<Option<Vec<f64>>, PruneError> {
///         let kernels = context.kernels(layer)?;
///         let (outputs, inputs) = kernels.shape();
///         let largest = |kernel: &[f32]| kernel.iter().fold(0.0, |most: f64, w| most.max(f64::from(w.abs())));
///         Ok(Some((0..outputs * inputs).map(|k| largest(kernels.kernel(k / inputs, k % inputs))).collect()))
///     }
/// }
/// # #[derive(Module, Debug)]
/// # struct Mlp { a: Linear, b: Linear }
/// # impl GraphModule for Mlp {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<2>) -> Tensor<2> { self.b.forward(burn::tensor::activation::relu(self.a.forward(x))) }
/// # }
/// # let device = Device::flex();
/// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 2).init(&device) };
/// let policy = LargestElement { choice: ConnectionChoice::new().layers(["a"]).removing(0.75) };
/// let pruned = Planner::new().keep_empty(true).prune(&mlp, &Tensor::zeros([1, 4], &device), &policy)?;
/// assert_eq!(pruned.plan.totals().connections_after, 8 + 16);
/// # Ok::<(), PruneError>(())
/// ```
pub trait ConnectionPolicy: RankingPolicy {
    /// Returns how many connections stay, of which layers.
    fn choice(&self) -> &ConnectionChoice;

    /// Returns a finite score for each connection of a layer without groups, output by output, `[outputs * inputs]`; those with the lowest
    /// scores go. `None` leaves the layer whole.
    ///
    /// # Errors
    /// Those of [`RankingPolicy::rank`].
    fn scores(
        &self,
        context: &PolicyContext<'_>,
        layer: &Layer,
        wanted: &Wanted<'_>,
    ) -> Result<Option<Vec<f64>>, PruneError>;

    /// Returns how connections are spread where the [choice](Self::choice) does not say: over all outputs of a layer.
    fn own_spread(&self) -> Spread {
        Spread::PerLayer
    }

    /// Returns how scores of different layers are made comparable under [`Spread::Global`].
    fn normalizer(&self) -> Normalizer {
        Normalizer::Mean
    }
}
