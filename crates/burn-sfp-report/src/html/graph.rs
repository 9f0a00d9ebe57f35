//! The network as a graph: a row for each node, in the order in which they run; edges that skip rows run in lanes beside them.

use std::fmt::Write;

use maud::{Markup, html};

use super::parts::{key, share_class};
use crate::content::{Content, Drawing, NodeKind};
use crate::text::{count, percent};

const ROW: usize = 42;
const LANE: usize = 12;
/// Lanes at most; edges without one are counted below the drawing.
const LANES: usize = 24;
const BOX: usize = 72;
/// Characters of a path that are drawn.
const NAME: usize = 40;

/// The edges of a drawing.
struct Edges {
    /// Nodes that are read by the next one.
    straight: Vec<usize>,
    /// A node, its lane, and the nodes that read it beyond the next one.
    lanes: Vec<(usize, usize, Vec<usize>)>,
    width: usize,
    omitted: usize,
}

impl Edges {
    fn of(drawing: &Drawing) -> Self {
        let mut readers: Vec<Vec<usize>> = vec![Vec::new(); drawing.nodes.len()];
        for (reader, node) in drawing.nodes.iter().enumerate() {
            for &read in &node.reads {
                readers[read].push(reader);
            }
        }
        let mut edges = Self { straight: Vec::new(), lanes: Vec::new(), width: 0, omitted: 0 };
        // The row at which each lane is free again.
        let mut free: Vec<usize> = Vec::new();
        for (node, readers) in readers.into_iter().enumerate() {
            let (next, far): (Vec<usize>, Vec<usize>) = readers.into_iter().partition(|reader| *reader == node + 1);
            if !next.is_empty() {
                edges.straight.push(node);
            }
            let Some(&last) = far.last() else { continue };
            let lane = free.iter().position(|free| *free < node).unwrap_or(free.len());
            if lane == LANES {
                edges.omitted += far.len();
                continue;
            }
            if lane == free.len() {
                free.push(0);
            }
            free[lane] = last;
            edges.lanes.push((node, lane, far));
        }
        edges.width = free.len();
        edges
    }
}

pub(super) fn section(content: &Content) -> Markup {
    let drawing = &content.drawing;
    html! {
        section #network {
            h2 { "The network" }
            p.quiet {
                "A box is a layer; its filled part are the filters that stay."
                @if drawing.captured { " A circle is an operation in which branches come together." } @else {
                    " The layers are in the order in which they run. Branches are drawn with the captured network ("
                    code { "Report::network" } ")."
                }
            }
            p.legend {
                (key("all", "all stay")) (key("most", "over 75 %")) (key("more", "over 50 %")) (key("less", "over 25 %"))
                (key("least", "25 % or less"))
            }
            div.scroll.tall.graph tabindex="0" { (svg(content)) }
        }
    }
}

fn middle(node: usize) -> usize {
    node * ROW + ROW / 2
}

fn svg(content: &Content) -> Markup {
    let drawing = &content.drawing;
    let edges = Edges::of(drawing);
    let left = 10 + edges.width * LANE;
    let (width, height) = (left + BOX + 12 + NAME * 8, drawing.nodes.len() * ROW + 8);
    html! {
        svg role="img" aria-label="the network as a graph" width=(width) height=(height) viewBox=(format!("0 0 {width} {height}")) {
            defs {
                marker #arrow viewBox="0 0 6 6" refX="5" refY="3" markerWidth="6" markerHeight="6" orient="auto" {
                    path.head d="M0 0L6 3L0 6z" {}
                }
            }
            path.edge d=(straight(&edges, drawing, left)) {}
            @for (node, lane, far) in &edges.lanes {
                @for &reader in far { path.edge.lane marker-end="url(#arrow)" d=(around(*node, *lane, reader, left, drawing)) {} }
            }
            @for (at, node) in drawing.nodes.iter().enumerate() { (draw(content, at, &node.kind, left)) }
        }
        @if edges.omitted > 0 { p.quiet { (edges.omitted) " edges have no room and are not drawn." } }
    }
}

/// The column in which nodes are centred.
fn centre(left: usize) -> usize {
    left + BOX / 2
}

/// Half the height of a node.
fn half(kind: &NodeKind) -> usize {
    if matches!(kind, NodeKind::Layer(_)) { 10 } else { 8 }
}

fn straight(edges: &Edges, drawing: &Drawing, left: usize) -> String {
    let mut path = String::new();
    for &node in &edges.straight {
        let from = middle(node) + half(&drawing.nodes[node].kind);
        let to = middle(node + 1) - half(&drawing.nodes[node + 1].kind);
        let _ = write!(path, "M{} {from}V{to}", centre(left));
    }
    path
}

/// An edge from a node to a lane, down the lane, and to a reader.
fn around(node: usize, lane: usize, reader: usize, left: usize, drawing: &Drawing) -> String {
    let x = left - 6 - lane * LANE;
    let side = |node: usize| match drawing.nodes[node].kind {
        NodeKind::Layer(_) => left,
        _ => centre(left) - half(&drawing.nodes[node].kind),
    };
    // Edges leave below the middle of a node and arrive above it, so that an end and a start in one row stay apart.
    let (from, to) = (middle(node) + 4, middle(reader) - 4);
    format!(
        "M{} {from}H{}Q{x} {from} {x} {}V{}Q{x} {to} {} {to}H{}",
        side(node),
        x + 5,
        from + 5,
        to - 5,
        x + 5,
        side(reader) - 1
    )
}

fn draw(content: &Content, at: usize, kind: &NodeKind, left: usize) -> Markup {
    let (y, x) = (middle(at), centre(left));
    let text = left + BOX + 12;
    let symbol = |name: &str| match name {
        "Add" => "+".to_string(),
        "Sub" => "−".into(),
        "Mul" => "×".into(),
        "Div" => "÷".into(),
        _ => "•".into(),
    };
    html! {
        @match kind {
            NodeKind::Layer(row) => { @if let Some(row) = content.layers.get(*row) { (layer(row, left, y)) } },
            NodeKind::Join(name) => {
                circle.join cx=(x) cy=(y) r="8" {}
                text.symbol x=(x) y=(y + 4) { (symbol(name)) }
                text.detail x=(text) y=(y + 4) { (name.to_lowercase()) }
            },
            NodeKind::Input => { circle.end cx=(x) cy=(y) r="7" {} text.detail x=(text) y=(y + 4) { "input" } },
            NodeKind::Output => { circle.end cx=(x) cy=(y) r="7" {} text.detail x=(text) y=(y + 4) { "output" } },
        }
    }
}

fn layer(row: &crate::content::LayerRow, left: usize, y: usize) -> Markup {
    let share = row.left();
    // A layer that keeps something shows it.
    let filled = ((BOX as f64 * share).round() as usize).max(usize::from(row.filters[1] > 0)).min(BOX);
    let [before, after] = row.filters.map(|filters| count(filters as u64));
    let filters =
        if before == after { format!("{before} filters, all stay") } else { format!("{before} → {after} filters") };
    html! {
        g {
            title { (row.path) ": " (row.kind) ", " (filters) ", " (percent(share)) " left" }
            rect.ground x=(left) y=(y - 10) width=(BOX) height="20" rx="4" {}
            rect class=(share_class(share)) x=(left) y=(y - 10) width=(filled) height="20" rx="4" {}
            rect.frame x=(left) y=(y - 10) width=(BOX) height="20" rx="4" {}
            text.name x=(left + BOX + 12) y=(y - 2) { (end(&row.path)) }
            text.detail x=(left + BOX + 12) y=(y + 13) { (row.kind) ", " (filters) }
        }
    }
}

/// The end of a long path, which tells layers apart.
fn end(path: &str) -> String {
    let length = path.chars().count();
    if length <= NAME {
        return path.to_string();
    }
    let end: String = path.chars().skip(length - NAME + 1).collect();
    format!("…{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawing(reads: &[&[usize]]) -> Drawing {
        let node = |reads: &&[usize]| crate::content::Node { kind: NodeKind::Input, reads: reads.to_vec() };
        Drawing { captured: true, nodes: reads.iter().map(node).collect() }
    }

    #[test]
    fn lanes_are_used_again() {
        // Two residual blocks one after the other, and one branch over both.
        let edges = Edges::of(&drawing(&[&[], &[0], &[0, 1], &[2], &[2, 3], &[0, 4]]));
        assert_eq!(edges.straight, [0, 1, 2, 3, 4]);
        assert_eq!(edges.lanes, [(0, 0, vec![2, 5]), (2, 1, vec![4])]);
        let edges = Edges::of(&drawing(&[&[], &[0], &[0, 1], &[2], &[3], &[3, 4]]));
        assert_eq!((edges.lanes.as_slice(), edges.width), ([(0, 0, vec![2]), (3, 0, vec![5])].as_slice(), 1));
    }

    #[test]
    fn edges_without_a_lane_are_counted() {
        // Sixty nodes that are all read by the last one.
        let mut reads: Vec<Vec<usize>> = vec![Vec::new(); 60];
        reads.push((0..60).collect());
        let reads: Vec<&[usize]> = reads.iter().map(Vec::as_slice).collect();
        let edges = Edges::of(&drawing(&reads));
        assert_eq!((edges.lanes.len(), edges.width, edges.omitted), (LANES, LANES, 59 - LANES));
    }

    #[test]
    fn long_paths_keep_their_end() {
        let path = end(&format!("{}conv2", "block.".repeat(20)));
        assert!(path.starts_with('…') && path.ends_with("block.conv2") && path.chars().count() == NAME);
    }
}
