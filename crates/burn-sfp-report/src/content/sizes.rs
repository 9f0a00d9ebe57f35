//! What was asked and what came of it.

use burn_sfp_prune::PrunePlan;
use serde::Serialize;

use crate::given::Given;
use crate::text::{Unit, shortened};

/// A quantity before pruning, after it and after fine-tuning.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measure {
    pub name: String,
    pub unit: Unit,
    pub before: Option<f64>,
    pub pruned: Option<f64>,
    pub tuned: Option<f64>,
}

impl Measure {
    /// What is left of a size; `None` of shares and where a part is missing.
    pub fn left(&self) -> Option<f64> {
        let (before, after) = (self.before?, self.tuned.or(self.pruned)?);
        (self.unit != Unit::Share && before > 0.0).then(|| after / before)
    }
}

/// What the stop rule asked of all groups that it names a number for.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Asked {
    /// Filters of these groups.
    pub filters: usize,
    pub asked: usize,
    pub removed: usize,
}

/// A row of the latency table.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LatencyLine {
    pub model: String,
    pub batch: usize,
    /// Seconds.
    pub median: f64,
    pub min: f64,
    pub max: f64,
    pub speedup: Option<f64>,
    pub macs: Option<u64>,
    pub bytes: Option<u64>,
}

pub(crate) fn asked(plan: &PrunePlan) -> Option<Asked> {
    let groups = plan.groups.iter().filter_map(|group| Some((group, group.asked?)));
    let sum = groups.fold(Asked { filters: 0, asked: 0, removed: 0 }, |sum, (group, asked)| Asked {
        filters: sum.filters + group.filters,
        asked: sum.asked + asked,
        removed: sum.removed + group.removed,
    });
    (sum.filters > 0).then_some(sum)
}

pub(crate) fn measures(given: &Given<'_>) -> Vec<Measure> {
    let totals = given.plan.totals();
    let size = |name: &str, unit, before: u64, after: u64| Measure {
        name: name.into(),
        unit,
        before: Some(before as f64),
        pruned: Some(after as f64),
        tuned: None,
    };
    let filters = |of: fn(&burn_sfp_prune::LayerPlan) -> usize| given.plan.layers.iter().map(of).sum::<usize>() as u64;
    let mut found = vec![
        size("parameters", Unit::Count, totals.parameters_before, totals.parameters_after),
        size("multiply-adds per sample", Unit::Count, totals.macs_before, totals.macs_after),
        size("filters", Unit::Count, filters(|layer| layer.filters_before), filters(|layer| layer.filters_after)),
        size("connections", Unit::Count, totals.connections_before, totals.connections_after),
    ];
    if let Some((before, after)) = given.bytes {
        found.push(size("bytes on disk", Unit::Bytes, before, after));
    }
    found.extend(latencies(given));
    let accuracy = given.accuracy;
    let share =
        |name: &str, before, pruned, tuned| Measure { name: name.into(), unit: Unit::Share, before, pruned, tuned };
    if [accuracy.before, accuracy.pruned, accuracy.tuned].iter().any(Option::is_some) {
        found.push(share("accuracy (top-1)", accuracy.before, accuracy.pruned, accuracy.tuned));
    } else if let Some(analysis) = given.analysis {
        found.push(share("accuracy (top-1) on the calibration data", Some(analysis.top1), None, None));
    }
    found
}

/// For each batch size the first model's latency and the fastest one's of the others.
fn latencies(given: &Given<'_>) -> Vec<Measure> {
    let rows = given.latency.map(|table| table.rows.as_slice()).unwrap_or_default();
    let mut sizes: Vec<usize> = rows.iter().map(|row| row.batch).collect();
    sizes.dedup();
    let mut found: Vec<Measure> = Vec::new();
    for batch in sizes {
        let name = format!("latency of a batch of {batch}");
        let mut of = rows.iter().filter(|row| row.batch == batch).map(|row| row.latency.median);
        let before = of.next();
        let after = of.min_by(f64::total_cmp);
        if found.iter().all(|measure| measure.name != name) && after.is_some() {
            found.push(Measure { name, unit: Unit::Seconds, before, pruned: after, tuned: None });
        }
    }
    found
}

pub(super) fn latency(given: &Given<'_>) -> Vec<LatencyLine> {
    let Some(table) = given.latency else { return Vec::new() };
    let line = |row: &burn_sfp_graph::latency::LatencyRow| LatencyLine {
        model: shortened(&row.model),
        batch: row.batch,
        median: row.latency.median,
        min: row.latency.min,
        max: row.latency.max,
        speedup: table.speedup(row).filter(|speedup| speedup.is_finite()),
        macs: row.macs,
        bytes: row.bytes,
    };
    table.rows.iter().take(crate::limits::REASONS).map(line).collect()
}
