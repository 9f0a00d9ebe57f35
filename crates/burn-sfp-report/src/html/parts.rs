//! Small parts of the page.

use maud::{Markup, PreEscaped, html};

use crate::ReportError;
use crate::plots::{self, Plot};

/// A plot with its caption.
pub(super) fn figure(plot: &Plot<'_>) -> Result<Markup, ReportError> {
    let svg = plots::svg(plot)?;
    Ok(html! {
        figure.plot id=(format!("plot-{}", plot.name())) {
            figcaption { (plot.caption()) }
            (PreEscaped(svg))
        }
    })
}

/// A bar that shows which share is left.
pub(super) fn bar(left: f64) -> Markup {
    let width = format!("width:{:.1}%", 100.0 * left.clamp(0.0, 1.0));
    html! { span.bar { span class=(share_class(left)) style=(width) {} } }
}

/// The class of a share that is left, for its colour.
pub(super) fn share_class(left: f64) -> &'static str {
    match left {
        left if left >= 1.0 => "all",
        left if left > 0.75 => "most",
        left if left > 0.5 => "more",
        left if left > 0.25 => "less",
        _ => "least",
    }
}

/// A coloured square and what it means.
pub(super) fn key(class: &str, text: &str) -> Markup {
    html! { span { span class=(format!("key {class}")) {} " " (text) } " " }
}
