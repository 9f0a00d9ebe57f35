//! A report in a few lines.

use std::fmt;

use crate::content::{Measure, asked, measures};
use crate::given::Given;
use crate::text::{percent, shortened, value};

pub(crate) fn print(given: &Given<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let plan = given.plan;
    writeln!(f, "{}: {}", shortened(&given.title), shortened(&plan.policy))?;
    let measures = measures(given);
    let width = measures.iter().map(|measure| measure.name.chars().count()).max().unwrap_or(0);
    for measure in &measures {
        writeln!(f, "  {:width$}  {}", measure.name, line(measure))?;
    }
    let lost = plan.layers.iter().filter(|layer| layer.filters_after < layer.filters_before).count();
    write!(f, "{lost} of {} layers lost filters", plan.layers.len())?;
    if let Some(asked) = asked(plan) {
        write!(f, "; asked for {} of {} filters of the groups, removed {}", asked.asked, asked.filters, asked.removed)?;
    }
    writeln!(f)?;
    if !plan.blocks.is_empty() {
        writeln!(f, "{} blocks are left out whole", plan.blocks.len())?;
    }
    let stay = plan.unpruned.len();
    if stay > 0 {
        writeln!(f, "{stay} keep all their filters; `plan.unpruned` and the full report say why")?;
    }
    Ok(())
}

fn line(measure: &Measure) -> String {
    let steps = [measure.before, measure.pruned, measure.tuned];
    let steps: Vec<String> = steps.iter().flatten().map(|&of| value(of, measure.unit)).collect();
    let left = measure.left().map_or(String::new(), |left| format!(" ({})", percent(left)));
    steps.join(" -> ") + &left
}
