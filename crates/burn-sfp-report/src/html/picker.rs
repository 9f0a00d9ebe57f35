//! The picker for single filters; the script fills it.

use maud::{Markup, html};

use super::parts::key;

pub(super) fn section() -> Markup {
    html! {
        section #filters {
            h2 { "Single filters" }
            noscript { p.note { "Scripts are off: the picker for filters needs them." } }
            div.panel {
                div.controls {
                    label { "Layer " select #layer {} }
                    label { "Filter " select #filter {} }
                    span {
                        button #previous type="button" aria-label="previous filter" { "‹" }
                        " "
                        button #next type="button" aria-label="next filter" { "›" }
                    }
                }
                div #all role="group" aria-label="filters of the layer" {}
                p.legend {
                    (key("after", "stays")) (key("gone", "removed")) (key("unknown", "not known"))
                    (key("silent", "recognises nothing"))
                }
                div.columns {
                    div {
                        h3 #picked {}
                        p #facts.quiet {}
                        div.canvas { canvas #matrix tabindex="0" role="img" aria-label="performance matrix" {} }
                        output #cell {}
                        p #matrix-note.quiet {}
                    }
                    div {
                        h3 { "Clusters" }
                        ol #clusters {}
                        h3 { "Filters that recognise each label, in this layer" }
                        div.canvas { canvas #labels tabindex="0" role="img" aria-label="filters of each label" {} }
                        output #label {}
                    }
                }
            }
        }
    }
}
