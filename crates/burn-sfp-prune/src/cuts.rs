//! How parameters shrink, and their sizes afterwards.

use std::collections::BTreeSet;

use burn_sfp_graph::{ChannelId, Network, Parameter};

use crate::plan::{AxisCut, ParameterCut, Scale, ScaledPart, Unzeroed};

/// Returns the parameters that shrink, in the order of the network's parameters.
pub(crate) fn cuts(network: &Network, removed: &BTreeSet<ChannelId>) -> Vec<ParameterCut> {
    let mut cuts = Vec::new();
    for (index, parameter) in network.parameters().iter().enumerate() {
        let axes: Vec<AxisCut> = network
            .flow()
            .parameter(index)
            .iter()
            .map(|axis| AxisCut {
                axis: axis.axis,
                length: axis.channels.len(),
                keep: (0..axis.channels.len()).filter(|&k| !removed.contains(&axis.channels[k])).collect(),
            })
            .filter(|cut| cut.keep.len() < cut.length)
            .collect();
        if !axes.is_empty() {
            cuts.push(ParameterCut { path: parameter.path.clone(), axes });
        }
    }
    cuts
}

/// Returns the number of elements of each parameter after the cuts, which are in the order of the parameters.
pub(crate) fn sizes_after(network: &Network, cuts: &[ParameterCut]) -> Vec<u64> {
    let mut cuts = cuts.iter().peekable();
    let size = |parameter: &Parameter| {
        let mut shape = parameter.shape.clone();
        let cut = cuts.next_if(|cut| cut.path == parameter.path);
        cut.into_iter().flat_map(|cut| &cut.axes).for_each(|axis| shape[axis.axis] = axis.keep.len());
        shape.iter().product::<usize>() as u64
    };
    network.parameters().iter().map(size).collect()
}

/// The factors of parameters that removed channels (closed) ask for.
pub(crate) fn scales(network: &Network, removed: &BTreeSet<ChannelId>) -> Vec<Scale> {
    let path = |index: usize| network.parameters()[index].path.clone();
    let whole =
        network.scales(removed).into_iter().map(|(index, factor)| Scale { path: path(index), factor, part: None });
    let parts = network.part_scales(removed).into_iter().map(|scaled| Scale {
        path: path(scaled.parameter),
        factor: scaled.factor,
        part: scaled.part.map(|(axis, indices)| ScaledPart { axis, start: indices.start, end: indices.end }),
    });
    whole.chain(parts).collect()
}

/// The axes of parameters that lose indices and keep their values in the masked original.
pub(crate) fn unzeroed(network: &Network, removed: &BTreeSet<ChannelId>) -> Vec<Unzeroed> {
    let size = |index: usize| network.parameters()[index].shape.iter().product::<usize>() as u64;
    let shrinks = |index: usize| network.parameter_size_without(index, removed) < size(index);
    let path = |index: usize| network.parameters()[index].path.clone();
    let all = network.unzeroed().filter(|(index, _)| shrinks(*index));
    all.map(|(index, axis)| Unzeroed { path: path(index), axis }).collect()
}
