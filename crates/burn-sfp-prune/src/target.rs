//! [`Target`]: what is pruned.

use burn_sfp_graph::{ForwardPass, GraphModule, Network};

/// A module, its captured network and the forward passes that it was captured on.
pub(crate) struct Target<'a, M: GraphModule> {
    pub network: &'a Network,
    pub model: &'a M,
    pub inputs: &'a M::Inputs,
    pub also: &'a [ForwardPass<M>],
}
