//! Layers, reasons and connections.

use maud::{Markup, html};

use super::parts::{bar, key};
use crate::content::{Content, Kept, LayerRow, Link};
use crate::text::{count, percent, ratio};

fn pair([before, after]: [u64; 2]) -> Markup {
    html! { td.n { (count(before)) @if after != before { " → " b { (count(after)) } } } }
}

pub(super) fn layers(content: &Content) -> Markup {
    let has_formats = content.layers.iter().any(|row| row.format.is_some());
    html! {
        section #layers {
            h2 { "Layers" }
            div.scroll.tall tabindex="0" {
                table {
                    thead { tr {
                        th.n { "#" } th { "layer" } th { "kind" } th.n { "filters" } th { "left" } th.n { "connections" } th.n { "parameters" }
                        th.n { "multiply-adds" }
                        @if has_formats { th { "format" } }
                        th { "why" }
                    } }
                    tbody { @for (at, row) in content.layers.iter().enumerate() { (layer(content, at, row, has_formats)) } }
                }
            }
        }
    }
}

fn layer(content: &Content, at: usize, row: &LayerRow, has_formats: bool) -> Markup {
    html! {
        tr {
            td.n { (at + 1) }
            td.path { (row.path) }
            td { (row.kind) }
            (pair(row.filters.map(|filters| filters as u64)))
            td.left { (bar(row.left())) " " (percent(row.left())) }
            (pair(row.connections))
            (pair(row.parameters))
            (pair(row.macs))
            @if has_formats { td { (row.format.as_deref().unwrap_or("")) } }
            td {
                @for &reason in row.kept.iter().take(3) {
                    @if let Some(kept) = content.kept.get(reason) {
                        a href=(format!("#reason-{}", reason + 1)) title=(kept.reason) { "reason " (reason + 1) } " "
                    }
                }
                @if row.kept.len() > 3 { "and " (row.kept.len() - 3) " more" }
            }
        }
    }
}

pub(super) fn kept(content: &Content) -> Markup {
    html! {
        section #kept {
            h2 { "Why filters stay" }
            @if content.kept.is_empty() {
                p { "Nothing held filters back: what the policy and the budget chose was removed." }
            } @else {
                ol.reasons { @for (at, kept) in content.kept.iter().enumerate() { (reason(at, kept)) } }
            }
            @if !content.warnings.is_empty() {
                h3 { "Warnings of the plan" }
                ul.reasons { @for warning in &content.warnings { li { (warning) } } }
            }
        }
    }
}

fn reason(at: usize, kept: &Kept) -> Markup {
    html! {
        li id=(format!("reason-{}", at + 1)) {
            div { (kept.reason) }
            div.quiet {
                @match kept.filters {
                    None => "All filters stay: ",
                    Some(filters) => {
                        (filters) " filters stay"
                        @if let Some((all, asked, removed)) = kept.group {
                            " (of " (all) ", "
                            @if let Some(asked) = asked { (asked) " asked for, " }
                            (removed) " removed)"
                        }
                        ": "
                    }
                }
                @for (at, path) in kept.layers.iter().enumerate() { @if at > 0 { ", " } code { (path) } }
                @if kept.more > 0 { " and " (kept.more) " more layers" }
            }
        }
    }
}

pub(super) fn links(content: &Content) -> Markup {
    let has_maps = content.links.iter().any(|link| link.map.is_some());
    html! {
        section #connections {
            h2 { "Connections between consecutive layers" }
            p.quiet {
                "A connection is a pair of output and input: a kernel of a convolution, a weight of a linear layer. Those removed one by one lie "
                "between filters that stay."
                @if !content.drawing.captured {
                    " Which layers a layer reads is known with the captured network (" code { "Report::network" } ")."
                }
            }
            @if has_maps {
                div.panel {
                    label for="map-layer" { "Connections of " }
                    select #map-layer {}
                    div.canvas { canvas #map role="img" aria-label="map of connections" {} }
                    p #map-text.quiet {}
                    p.legend { (key("after", "stays")) (key("gone", "removed")) "from top to bottom outputs, from left to right inputs" }
                }
            }
            div.scroll.tall tabindex="0" {
                table {
                    thead { tr {
                        th.n { "#" } th { "layer" } th { "reads" } th.n { "before" } th.n { "after" } th { "left" }
                        th.n { "removed one by one" }
                    } }
                    tbody { @for link in &content.links { (row(content, link)) } }
                }
            }
        }
    }
}

fn row(content: &Content, link: &Link) -> Markup {
    let left = ratio(link.before, link.after);
    html! {
        tr {
            td.n { (link.layer + 1) }
            td.path { (content.layers.get(link.layer).map_or("", |row| row.path.as_str())) }
            td.path {
                @for (at, path) in link.from.iter().enumerate() { @if at > 0 { ", " } (path) }
                @if link.more > 0 { " and " (link.more) " more" }
                @if link.from.is_empty() { @if content.drawing.captured { "an input" } @else { "–" } }
            }
            td.n { (count(link.before)) }
            td.n { (count(link.after)) }
            td.left { (bar(left)) " " (percent(left)) }
            td.n { @if link.masked > 0 { (count(link.masked)) } @else { "–" } }
        }
    }
}
