//! What was asked and what came of it.

use maud::{Markup, html};

use super::parts::figure;
use crate::ReportError;
use crate::content::{Content, Measure};
use crate::plots::Plot;
use crate::text::{Unit, bytes, count, duration, percent, short, value};

pub(super) fn section(content: &Content) -> Result<Markup, ReportError> {
    let filters = if content.layers.is_empty() { None } else { Some(figure(&Plot::Filters(&content.layers))?) };
    let shares = figure(&Plot::Sizes(&content.measures))?;
    Ok(html! {
        section #sizes {
            h2 { "What was asked and what came of it" }
            p {
                @if let Some(asked) = content.asked {
                    "Asked for " (count(asked.asked as u64)) " of " (count(asked.filters as u64)) " filters, removed "
                    (count(asked.removed as u64)) ". "
                }
                (content.layers_pruned) " of " (content.layers_in_all) " layers lost filters."
            }
            div.tiles { @for measure in &content.measures { (tile(measure)) } }
            (table(content))
            @if let Some(blocks) = content.about_blocks() { p { (blocks) } }
            @if let Some(note) = content.about_masks() { p.quiet { (note) } }
            (latency(content))
            div.plots { (shares) @if let Some(filters) = filters { (filters) } }
        }
    })
}

fn tile(measure: &Measure) -> Markup {
    let steps = [measure.before, measure.pruned, measure.tuned];
    let steps: Vec<String> = steps.iter().flatten().map(|&of| value(of, measure.unit)).collect();
    let large = match measure.left() {
        Some(left) => percent(left),
        None => steps.last().cloned().unwrap_or_default(),
    };
    html! {
        div.tile {
            div.quiet { (measure.name) }
            div.large { (large) }
            @if steps.len() > 1 { div { (steps.join(" → ")) } }
        }
    }
}

fn table(content: &Content) -> Markup {
    let exact = |of: Option<f64>, unit| match (of, unit) {
        (None, _) => "–".into(),
        (Some(of), Unit::Count | Unit::Bytes) => count(of as u64),
        (Some(of), unit) => value(of, unit),
    };
    let is_tuned = content.measures.iter().any(|measure| measure.tuned.is_some());
    html! {
        div.scroll tabindex="0" {
            table {
                thead { tr {
                    th { "" } th.n { "before" } th.n { "pruned" }
                    @if is_tuned { th.n { "fine-tuned" } }
                    th.n { "left" }
                } }
                tbody { @for measure in &content.measures { tr {
                    td { (measure.name) }
                    td.n { (exact(measure.before, measure.unit)) }
                    td.n { (exact(measure.pruned, measure.unit)) }
                    @if is_tuned { td.n { (exact(measure.tuned, measure.unit)) } }
                    td.n { (measure.left().map_or("–".into(), percent)) }
                } } }
            }
        }
    }
}

fn latency(content: &Content) -> Markup {
    html! {
        @if !content.latency.is_empty() {
            h3 { "Latency" }
            div.scroll tabindex="0" {
                table {
                    thead { tr {
                        th { "model" } th.n { "batch" } th.n { "median" } th.n { "shortest" } th.n { "longest" } th.n { "speed-up" }
                        th.n { "multiply-adds" } th.n { "parameters" }
                    } }
                    tbody { @for line in &content.latency { tr {
                        td { (line.model) }
                        td.n { (line.batch) }
                        td.n { (duration(line.median)) }
                        td.n { (duration(line.min)) }
                        td.n { (duration(line.max)) }
                        td.n { (line.speedup.map_or("–".into(), |speedup| format!("{speedup:.2}×"))) }
                        td.n { (line.macs.map_or("–".into(), short)) }
                        td.n { (line.bytes.map_or("–".into(), bytes)) }
                    } } }
                }
            }
        }
    }
}
