//! A report as one HTML page.

mod data;
mod graph;
mod parts;
mod picker;
mod recognised;
mod sizes;
mod tables;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::ReportError;
use crate::content::Content;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");
/// Nothing is loaded, from nowhere.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:";

pub(crate) fn page(content: &Content) -> Result<String, ReportError> {
    let recognised = match &content.recognised {
        Some(recognised) => Some(recognised::section(content, recognised)?),
        None => None,
    };
    let body = html! {
        header {
            div {
                h1 { (content.title) }
                p.quiet { "Policy: " (content.policy) }
            }
            button #theme type="button" { "Theme: auto" }
        }
        nav {
            a href="#sizes" { "Sizes" }
            a href="#network" { "Network" }
            a href="#layers" { "Layers" }
            a href="#kept" { "Why filters stay" }
            a href="#connections" { "Connections" }
            @if recognised.is_some() {
                a href="#recognised" { "What filters recognise" }
                a href="#filters" { "Single filters" }
            }
        }
        main {
            (left_out(content))
            (sizes::section(content)?)
            (graph::section(content))
            (tables::layers(content))
            (tables::kept(content))
            (tables::links(content))
            @if let Some(recognised) = &recognised { (recognised) (picker::section()) } @else { (no_analysis()) }
        }
        footer.quiet {
            "Made by burn-sfp-report " (env!("CARGO_PKG_VERSION")) ". The method: Y. Tzach et al., "
            i { "Advanced deep architecture pruning using single-filter performance" } ", Physical Review E 111, 065307 (2025)."
        }
        span #probe hidden {}
        script #data type="application/json" { (PreEscaped(data::json(content))) }
        script { (PreEscaped(SCRIPT)) }
    };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title { (content.title) }
                style { (PreEscaped(STYLE)) }
            }
            body { (body) }
        }
    };
    Ok(page.into_string())
}

fn left_out(content: &Content) -> Markup {
    html! {
        @if !content.left_out.is_empty() {
            details.note open {
                summary { "The network is large: parts of it are left out here" }
                ul { @for line in &content.left_out { li { (line) } } }
            }
        }
    }
}

fn no_analysis() -> Markup {
    html! {
        section #recognised {
            h2 { "What filters recognise" }
            p { "The report was made without an analysis. " code { "Report::analysis" } " adds one." }
        }
    }
}
