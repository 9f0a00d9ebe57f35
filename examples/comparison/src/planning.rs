//! What planning costs: seconds of [`Planner::plan`] beside a forward pass over one image.
//!
//! The network is captured and analysed, and the filters are ranked, before the clock starts. Plans and passes run in turn, and times are
//! medians.

use std::path::Path;

use burn::prelude::*;
use burn_sfp::graph::latency::{compare, forward};
use burn_sfp::prelude::*;
use serde::Serialize;
use support::write_rows;

use crate::networks::{Name, Size, Visit, visit};
use crate::table::{markdown, why_not};

/// Classes of the networks: an analysis needs an image of each.
const CLASSES: usize = 10;

/// Planning of one network under one budget.
#[derive(Clone, Debug, Serialize)]
pub struct PlanningRow {
    /// Name of the network.
    pub network: &'static str,
    /// The budget.
    pub budget: &'static str,
    /// Filters that stay are a multiple of this.
    pub multiple_of: usize,
    /// Seconds of planning.
    pub seconds: f64,
    /// Seconds of a forward pass over one image.
    pub pass_seconds: f64,
    /// `seconds / pass_seconds`.
    pub ratio: f64,
    /// Why the budget could not be met; the seconds are those until that was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Measures all networks, writes the rows under `planning` in place of earlier ones, and returns the table.
///
/// # Errors
/// Those of analysis and planning other than a budget that cannot be met, and of the file.
pub fn run(
    size: Size,
    runs: usize,
    file: Option<&Path>,
    device: &Device,
    progress: &dyn Progress,
) -> Result<String, DataError> {
    let mut measured = Measured { runs, rows: Vec::new(), progress };
    for name in [Name::ResNet50, Name::DenseNet121, Name::VitSmall] {
        visit(name, size, Some(CLASSES), device, &mut measured)?;
    }
    if let Some(file) = file {
        write_rows(file, "planning", &measured.rows, |_| true)?;
    }
    Ok(table(&measured.rows))
}

fn table(rows: &[PlanningRow]) -> String {
    let mut table = markdown(&["network", "budget", "multiple of", "ms", "pass, ms", "ratio", "why not"], 2);
    for row in rows {
        table.add_row([
            row.network.to_string(),
            row.budget.to_string(),
            row.multiple_of.to_string(),
            format!("{:.1}", 1e3 * row.seconds),
            format!("{:.1}", 1e3 * row.pass_seconds),
            format!("{:.2}", row.ratio),
            why_not(row.error.as_deref()),
        ]);
    }
    table.to_string()
}

/// All budgets that need no measuring, at half.
fn planners() -> Vec<(&'static str, usize, Planner)> {
    let all = |planner: Planner| {
        [
            ("channels", planner.clone().budget(Budget::PerLayer(0.5))),
            ("channels, global", planner.clone().budget(Budget::Global(0.5))),
            ("channels, per class", planner.clone().budget(Budget::PerClass(0.5))),
            ("macs", planner.clone().budget(Keep::macs(0.5))),
            ("parameters", planner.clone().budget(Keep::parameters(0.5))),
            ("bytes", planner.clone().budget(Keep::bytes(0.5))),
            ("activations", planner.budget(Keep::activations(0.5))),
        ]
    };
    let multiples = [(1, Planner::new()), (8, Planner::new().layers(LayerRule::all().multiple_of(8)))];
    let named = |(multiple, planner)| all(planner).map(move |(name, planner)| (name, multiple, planner));
    multiples.into_iter().flat_map(named).collect()
}

/// A ranking that was made before.
struct Ranked(Ranking);

impl RankingPolicy for Ranked {
    fn name(&self) -> String {
        "magnitude-l2".into()
    }

    fn rank(&self, _: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        Ok(self.0.clone())
    }
}

struct Measured<'a> {
    runs: usize,
    rows: Vec<PlanningRow>,
    progress: &'a dyn Progress,
}

impl Visit for Measured<'_> {
    fn visit<M: SfpModule<Inputs = Tensor<4>>>(
        &mut self,
        name: &'static str,
        model: M,
        image: Tensor<4>,
    ) -> Result<(), DataError> {
        let dims = image.dims();
        let images =
            Tensor::random([CLASSES, dims[1], dims[2], dims[3]], burn::tensor::Distribution::Default, &image.device());
        let calibration = TensorCalibration::new(images, (0..CLASSES).collect(), 1);
        // The grid changes nothing that a plan reads.
        let config = AnalyzeConfig::new().with_grid(Grid::AtMost(1));
        let (network, analysis) = analyze_network(&model, &calibration, &config, self.progress)?;
        let ranked = Ranked(Magnitude::l2().rank(&PolicyContext::new(&network, &analysis))?);
        let planners = planners();
        let mut errors = Vec::new();
        for (_, _, planner) in &planners {
            errors.push(match planner.plan(&network, &analysis, &ranked) {
                Err(error @ PruneError::BudgetNotMet { .. }) => Some(error.to_string()),
                plan => plan.map(|_| None)?,
            });
        }
        self.progress.start(&format!("{name}: plans"), None);
        let pass = || Ok::<(), PruneError>(forward(&model, &image)?);
        let plans: Vec<_> = planners
            .iter()
            .map(|(_, _, planner)| {
                || match planner.plan(&network, &analysis, &ranked) {
                    Err(PruneError::BudgetNotMet { .. }) => Ok(()),
                    plan => plan.map(drop),
                }
            })
            .collect();
        let mut all: Vec<&dyn Fn() -> Result<(), PruneError>> = vec![&pass];
        all.extend(plans.iter().map(|plan| plan as &dyn Fn() -> Result<(), PruneError>));
        let seconds = compare(&LatencyConfig::new().with_warm_up(1).with_runs(self.runs), &all)?;
        self.progress.finish();
        let pass = seconds[0].median;
        for (((budget, multiple_of, _), error), latency) in planners.iter().zip(errors).zip(&seconds[1..]) {
            let (seconds, ratio) = (latency.median, latency.median / pass);
            self.rows.push(PlanningRow {
                network: name,
                budget,
                multiple_of: *multiple_of,
                seconds,
                pass_seconds: pass,
                ratio,
                error,
            });
        }
        Ok(())
    }
}
