//! The plan's masks over connections.

use burn_sfp_graph::{Layer, Network};

use crate::Connections;
use crate::plan::Mask;

/// Returns the plan's mask for a layer's keep mask.
pub(super) fn mask(network: &Network, layer: &Layer, keep: &Connections) -> Mask {
    let (outputs, inputs) = keep.shape();
    Mask {
        layer: layer.path.clone(),
        parameter: network.parameters()[layer.weight()].path.clone(),
        output_axis: layer.kind.output_axis(),
        inputs,
        keep: (0..outputs)
            .map(|output| (0..inputs).filter(|&input| keep.keeps(output, input)).map(|input| input as u32).collect())
            .collect(),
    }
}
