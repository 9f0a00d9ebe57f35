//! The network as a graph.

use std::collections::HashMap;

use burn_sfp_graph::{Network, OutlineKind};
use serde::Serialize;

use super::shown::listed;
use crate::given::Given;
use crate::limits;

/// What a node stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NodeKind {
    Input,
    /// A layer, by its position in the list of layers.
    Layer(usize),
    /// An operation in which branches come together, by its name.
    Join(String),
    Output,
}

/// A node, and the positions of the nodes that it reads.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Node {
    pub kind: NodeKind,
    pub reads: Vec<usize>,
}

/// The network as a graph, in the order in which it runs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Drawing {
    /// Whether the edges are those of the captured network; without one, the layers are a plain list.
    pub captured: bool,
    pub nodes: Vec<Node>,
}

pub(super) fn drawing(given: &Given<'_>, left_out: &mut Vec<String>) -> Drawing {
    match given.network {
        Some(network) => captured(given, network, left_out),
        None => {
            let node = |layer| Node { kind: NodeKind::Layer(layer), reads: Vec::new() };
            Drawing { captured: false, nodes: (0..listed(given.plan.layers.len())).map(node).collect() }
        }
    }
}

fn captured(given: &Given<'_>, network: &Network, left_out: &mut Vec<String>) -> Drawing {
    let shown = listed(given.plan.layers.len());
    let rows: HashMap<&str, usize> =
        given.plan.layers[..shown].iter().enumerate().map(|(row, layer)| (layer.path.as_str(), row)).collect();
    let outline = network.outline();
    let mut nodes: Vec<Node> = Vec::new();
    // Where each node of the outline is drawn; what is not drawn stands for what it reads.
    let mut places: Vec<Vec<usize>> = Vec::with_capacity(outline.len());
    for node in &outline {
        let mut reads: Vec<usize> = node.reads.iter().flat_map(|&read| places[read].iter().copied()).collect();
        reads.sort_unstable();
        reads.dedup();
        let kind = match &node.kind {
            OutlineKind::Input(_) => NodeKind::Input,
            OutlineKind::Layer(layer) => match rows.get(network.layers()[*layer].path.as_str()) {
                Some(&row) => NodeKind::Layer(row),
                None => break,
            },
            OutlineKind::Join(name) => NodeKind::Join(name.clone()),
            OutlineKind::Output(_) => NodeKind::Output,
            _ => {
                places.push(reads);
                continue;
            }
        };
        if nodes.len() == limits::NODES {
            break;
        }
        places.push(vec![nodes.len()]);
        nodes.push(Node { kind, reads });
    }
    if places.len() < outline.len() {
        left_out.push(format!("graph: the first {} of {} nodes are drawn", nodes.len(), outline.len()));
    }
    Drawing { captured: true, nodes }
}
