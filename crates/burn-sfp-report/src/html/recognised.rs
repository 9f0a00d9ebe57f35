//! What the filters of each layer recognise.

use maud::{Markup, html};

use super::parts::figure;
use crate::ReportError;
use crate::content::{Content, LabelCounts, Recognised, UnitRow};
use crate::plots::{self, Plot};
use crate::text::{count, number, percent};

/// Width and height of a chart in a table.
const CHART: (f64, f64) = (100.0, 30.0);

pub(super) fn section(content: &Content, recognised: &Recognised) -> Result<Markup, ReportError> {
    let mut figures = Vec::new();
    for plot in plots::all(content) {
        if !matches!(plot, Plot::Sizes(_) | Plot::Filters(_)) {
            figures.push(figure(&plot)?);
        }
    }
    let no_accuracy = recognised.layers.iter().any(|row| row.accuracy.is_none());
    Ok(html! {
        section #recognised {
            h2 { "What filters recognise" }
            p {
                (count(recognised.samples)) " calibration samples, " (recognised.classes) " labels, threshold " (recognised.threshold)
                ", top-1 of the original on them " (percent(recognised.top1)) "."
            }
            p.quiet {
                "A filter recognises the labels of its clusters: groups of labels that it supports together. Noise counts what it supports besides. "
                "The signal-to-noise ratio (SNR) compares both over a layer."
                @if no_accuracy {
                    " The accuracy of fitted readouts was not measured in all layers: " code { "AnalyzeConfig::with_accuracy(true)" } "."
                }
            }
            div.plots { @for figure in &figures { (figure) } }
            div.scroll.tall tabindex="0" { (table(recognised)) }
        }
    })
}

fn table(recognised: &Recognised) -> Markup {
    html! {
        table {
            thead { tr {
                th.n { "#" } th { "layer" } th.n { "filters" } th.n { "silent" } th.n { "clusters per filter" }
                th.n { "labels per cluster" } th { "cluster sizes" } th { "filters of each label" } th.n { "labels without a filter" }
                th.n { "noise" } th.n { "SNR" } th { "readout" } th.n { "accuracy" }
            } }
            tbody { @for (at, row) in recognised.layers.iter().enumerate() { (line(at, row)) } }
        }
    }
}

fn line(at: usize, row: &UnitRow) -> Markup {
    html! {
        tr {
            td.n { (at + 1) }
            td.path { (row.path) }
            td.n { (row.filters) }
            td.n { (row.silent) }
            td.n { (number(Some(row.clusters_per_filter), 2)) }
            td.n { (number(Some(row.cluster_size), 2)) }
            td { (sizes(&row.sizes)) }
            td { (labels(&row.labels)) }
            td.n { (row.labels.missing) }
            td.n { (number(Some(row.noise), 1)) }
            td.n { (number(row.snr, 2)) }
            td { (row.readout) }
            td.n { (row.accuracy.map_or("–".into(), percent)) }
        }
    }
}

/// A histogram of cluster sizes.
fn sizes(bars: &[(usize, usize, usize)]) -> Markup {
    let range =
        |&(low, high, _): &(usize, usize, usize)| if low == high { low.to_string() } else { format!("{low}–{high}") };
    let told: Vec<String> =
        bars.iter().filter(|bar| bar.2 > 0).map(|bar| format!("{} of size {}", bar.2, range(bar))).collect();
    let heights: Vec<f64> = bars.iter().map(|bar| bar.2 as f64).collect();
    chart(&heights, &format!("clusters: {}", told.join(", ")), bars.last().map(range))
}

fn labels(counts: &LabelCounts) -> Markup {
    let text = format!("between {} and {} filters recognise a label", counts.least, counts.most);
    chart(&counts.bars, &text, None)
}

/// Small bars, and the largest value on the axis below.
fn chart(heights: &[f64], text: &str, last: Option<String>) -> Markup {
    let (width, height) = CHART;
    let highest = heights.iter().copied().fold(0.0, f64::max);
    let step = width / heights.len().max(1) as f64;
    let gap = if step > 3.0 { 1.0 } else { 0.0 };
    let mut path = String::new();
    for (at, value) in heights.iter().enumerate().filter(|(_, value)| **value > 0.0) {
        let tall = (height * value / highest).max(1.0);
        path.push_str(&format!("M{:.1} {height}v-{tall:.1}h{:.1}v{tall:.1}z", at as f64 * step, (step - gap).max(0.5)));
    }
    html! {
        @if path.is_empty() { span.quiet { "–" } } @else {
            svg.small role="img" aria-label=(text) width=(width) height=(height + 1.0) viewBox=(format!("0 0 {width} {}", height + 1.0)) {
                title { (text) }
                path.bars d=(path) {}
                path.axis d=(format!("M0 {0}h{width}", height + 0.5)) {}
            }
            @if let Some(last) = last { div.tiny.quiet { span { "1" } span { (last) } } }
        }
    }
}
