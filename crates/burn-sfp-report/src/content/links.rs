//! Connections between consecutive layers before and after.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use burn_sfp_graph::Network;
use burn_sfp_prune::{AxisCut, LayerPlan, Mask, ParameterCut};
use serde::Serialize;

use super::shown::listed;
use crate::given::Given;
use crate::limits;
use crate::text::shortened;

/// The connections of a layer to those before it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Link {
    /// Position of the layer.
    pub layer: usize,
    /// Module paths of the layers that it reads; empty where that is not known or an input of the network.
    pub from: Vec<String>,
    /// Number of further layers that it reads.
    pub more: usize,
    pub before: u64,
    pub after: u64,
    /// Connections between filters that stay on both sides, which were removed one by one.
    pub masked: u64,
    pub map: Option<Map>,
}

/// Which connections stay: outputs from top to bottom, inputs from left to right.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Map {
    pub outputs: usize,
    pub inputs: usize,
    pub rows: usize,
    pub columns: usize,
    /// A byte for each cell, row by row: the share of its connections that stays, 255 for all. Base64.
    pub shares: String,
}

pub(super) fn links(given: &Given<'_>, left_out: &mut Vec<String>) -> Vec<Link> {
    let plan = given.plan;
    let cuts: HashMap<&str, &ParameterCut> = plan.cuts.iter().map(|cut| (cut.path.as_str(), cut)).collect();
    let masks: HashMap<&str, &Mask> = plan.masks.iter().map(|mask| (mask.layer.as_str(), mask)).collect();
    let (mut maps, mut skipped) = (0, 0);
    let mut found = Vec::new();
    for (position, layer) in plan.layers.iter().take(listed(plan.layers.len())).enumerate() {
        let (from, more) = given.network.map(|network| sources(network, &layer.path)).unwrap_or_default();
        let mask = masks.get(layer.path.as_str()).copied();
        let sides = Sides::of(layer, cuts.get(layer.weight.as_str()).copied(), mask);
        let map = sides.filter(|_| {
            let room = maps < limits::MAPS;
            (maps, skipped) = (maps + usize::from(room), skipped + usize::from(!room));
            room
        });
        found.push(Link {
            layer: position,
            from,
            more,
            before: layer.connections_before,
            after: layer.connections_after,
            masked: mask.map_or(0, |mask| masked(layer, cuts.get(layer.weight.as_str()).copied(), mask)),
            map: map.map(|sides| sides.map(mask)),
        });
    }
    if skipped > 0 {
        left_out.push(format!("maps of connections: those of the first {maps} of {} layers are shown", maps + skipped));
    }
    found
}

/// The layers whose filters are a layer's inputs.
fn sources(network: &Network, path: &str) -> (Vec<String>, usize) {
    let Some(layer) = network.layer(path) else { return Default::default() };
    let all = network.sources(layer).layers;
    let from: Vec<String> = all.iter().rev().take(limits::SOURCES).map(|layer| shortened(&layer.path)).collect();
    let more = all.len() - from.len();
    (from, more)
}

/// Which indices of both sides of a weight stay.
struct Sides {
    outputs: Vec<bool>,
    inputs: Vec<bool>,
}

/// The indices of an axis that stay.
fn staying(cut: Option<&AxisCut>, length: usize) -> Vec<bool> {
    let Some(cut) = cut else { return vec![true; length] };
    let mut stay = vec![false; cut.length];
    for &index in &cut.keep {
        if let Some(stay) = stay.get_mut(index) {
            *stay = true;
        }
    }
    stay
}

impl Sides {
    /// `None` where nothing goes, or where the weight's axes are not known.
    fn of(layer: &LayerPlan, cut: Option<&ParameterCut>, mask: Option<&Mask>) -> Option<Self> {
        let axis = |axis: usize| cut.and_then(|cut| cut.axes.iter().find(|of| of.axis == axis));
        if mask.is_none() && axis(layer.kind.output_axis()).is_none() && axis(layer.kind.input_axis()).is_none() {
            return None;
        }
        let outputs = staying(axis(layer.kind.output_axis()), layer.filters_before);
        let before = usize::try_from(layer.connections_before).unwrap_or(0);
        let of_an_output = before.checked_div(layer.filters_before).unwrap_or(0);
        let inputs = staying(axis(layer.kind.input_axis()), mask.map_or(of_an_output, |mask| mask.inputs));
        (!outputs.is_empty() && !inputs.is_empty()).then_some(Self { outputs, inputs })
    }

    fn map(&self, mask: Option<&Mask>) -> Map {
        let (rows, columns) = (self.outputs.len().min(limits::MAP_SIDE), self.inputs.len().min(limits::MAP_SIDE));
        let row = |output: usize| output * rows / self.outputs.len();
        let column = |input: usize| input * columns / self.inputs.len();
        let count = |flags: &[bool], cells: usize, cell: &dyn Fn(usize) -> usize| {
            let mut counts = vec![(0_u64, 0_u64); cells];
            for (index, &stays) in flags.iter().enumerate() {
                let (all, staying) = &mut counts[cell(index)];
                (*all, *staying) = (*all + 1, *staying + u64::from(stays));
            }
            counts
        };
        let (down, along) = (count(&self.outputs, rows, &row), count(&self.inputs, columns, &column));
        let mut left: Vec<u64> = down.iter().flat_map(|(_, a)| along.iter().map(move |(_, b)| a * b)).collect();
        if let Some(mask) = mask {
            left.fill(0);
            for (output, keep) in
                mask.keep.iter().enumerate().filter(|(output, _)| self.outputs.get(*output) == Some(&true))
            {
                for input in keep.iter().map(|&input| input as usize) {
                    if self.inputs.get(input) == Some(&true) {
                        left[row(output) * columns + column(input)] += 1;
                    }
                }
            }
        }
        let all = down.iter().flat_map(|(a, _)| along.iter().map(move |(b, _)| a * b));
        let shares: Vec<u8> = left.iter().zip(all).map(|(left, all)| (255 * left / all.max(1)) as u8).collect();
        Map { outputs: self.outputs.len(), inputs: self.inputs.len(), rows, columns, shares: STANDARD.encode(shares) }
    }
}

/// Connections between indices that stay on both sides and are removed all the same.
fn masked(layer: &LayerPlan, cut: Option<&ParameterCut>, mask: &Mask) -> u64 {
    let Some(Sides { outputs, inputs }) = Sides::of(layer, cut, Some(mask)) else { return 0 };
    let staying = |flags: &[bool]| flags.iter().filter(|stays| **stays).count() as u64;
    (staying(&outputs) * staying(&inputs)).saturating_sub(layer.connections_after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_counts_what_stays_in_each_cell() {
        let sides = Sides { outputs: vec![true, false, true, true], inputs: vec![true, true, false] };
        let map = sides.map(None);
        assert_eq!((map.rows, map.columns, map.outputs, map.inputs), (4, 3, 4, 3));
        let bytes = STANDARD.decode(&map.shares).unwrap();
        assert_eq!(bytes, [255, 255, 0, 0, 0, 0, 255, 255, 0, 255, 255, 0]);
    }

    #[test]
    fn large_sides_share_cells() {
        let half = (0..4_800).map(|index| index % 2 == 0).collect();
        let map = Sides { outputs: half, inputs: vec![true; 96] }.map(None);
        assert_eq!((map.rows, map.columns), (limits::MAP_SIDE, limits::MAP_SIDE));
        let bytes = STANDARD.decode(&map.shares).unwrap();
        assert!(bytes.iter().all(|&share| share == 127), "{bytes:?}");
    }
}
