//! The late part of the network as a module that reads the outputs of the early part, which no row changes.

use burn::module::Module;
use burn::tensor::Tensor;
use burn_sfp::prelude::{Connections, GraphModule, PolicyContext, PruneError, Ranking, RankingPolicy};

use crate::model::Vgg11;

/// The network from the output of [`Vgg11::front`] on; it holds the early part all the same.
#[derive(Module, Debug)]
pub struct Late {
    /// The whole network.
    pub net: Vgg11,
}

impl GraphModule for Late {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;

    fn run(&self, features: Tensor<4>) -> Tensor<2> {
        self.net.back(features)
    }
}

/// Keep masks that were chosen on the whole network.
pub(super) struct Chosen<'a>(pub &'a [(String, Connections)]);

impl RankingPolicy for Chosen<'_> {
    fn name(&self) -> String {
        "chosen".into()
    }

    fn rank(&self, _: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        let connections = self.0.iter().map(|(path, keep)| (format!("net.{path}"), keep.clone())).collect();
        Ok(Ranking { connections, ..Ranking::default() })
    }
}
