//! [`Lamp`]: filters ranked by layer-adaptive magnitude.

use super::context::PolicyContext;
use super::magnitude::Magnitude;
use super::ranking::{Ranking, RankingPolicy};
use crate::PruneError;
use crate::normalize::Normalizer;

/// Ranks filters by their L2 norm, compared with that of the larger filters of their layer (Lee et al., "Layer-adaptive sparsity for
/// the magnitude-based pruning", ICLR 2021, arXiv 2010.07611).
///
/// `score(f) = s_f^2 / (sum of s_g^2 over all filters g of the layer with s_g >= s_f)`, where s_f is the L2 norm of the incoming
/// weights; the paper has single weights in place of filters. The largest filter of each layer scores 1, and a filter scores high if
/// little of its layer is left above it. Scores of different layers are compared as they are ([`Normalizer::None`]), which matters
/// under a budget over the whole network.
///
/// For the scores of any other policy: [`Normalizer::Lamp`].
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::GraphModule;
/// # use burn_sfp_prune::{Budget, Lamp, Planner};
/// # #[derive(Module, Debug)]
/// # struct Mlp { a: Linear, b: Linear, c: Linear }
/// # impl GraphModule for Mlp {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<2>) -> Tensor<2> { self.c.forward(self.b.forward(self.a.forward(x))) }
/// # }
/// # let device = Device::flex();
/// # let linear = |from, to| LinearConfig::new(from, to).init(&device);
/// # let (mlp, x) = (Mlp { a: linear(4, 8), b: linear(8, 8), c: linear(8, 2) }, Tensor::<2>::ones([1, 4], &device));
/// let smaller = Planner::new().budget(Budget::Global(0.5)).prune(&mlp, &x, &Lamp::new())?;
/// assert_eq!(smaller.model.a.weight.dims()[1] + smaller.model.b.weight.dims()[1], 8);
/// # Ok::<(), burn_sfp_prune::PruneError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Lamp;

impl Lamp {
    /// Creates the policy.
    pub fn new() -> Self {
        Self
    }
}

impl RankingPolicy for Lamp {
    fn name(&self) -> String {
        "lamp".into()
    }

    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        let mut ranking = Magnitude::l2().rank(context)?;
        ranking.filters.values_mut().for_each(|norms| *norms = Normalizer::Lamp.apply(norms));
        ranking.normalizer = Some(Normalizer::None);
        Ok(ranking)
    }
}
