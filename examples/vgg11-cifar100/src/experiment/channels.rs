//! Channels removed from the whole network, down to shares of its multiply-adds: fitted, and trained where epochs are asked for, the late
//! layers first and then all of them.

use std::fmt;
use std::time::Instant;

use burn_sfp::core::analyze_network;
use burn_sfp::prelude::{
    Analysis, AnalyzeConfig, Bars, Evidence, Keep, Magnitude, Needs, Network, NoProgress, Normalizer, Planner,
    PolicyExt, RankingPolicy, Recover, SfpRanking, Taylor, recover,
};
use serde::{Deserialize, Serialize};
use support::{read_rows, write_rows};

use super::rows::{Trained, is_yes, shown, yes};
use super::train::Training;
use super::{Args, BATCH};
use crate::cifar::{Cifar, CifarCalibration, top1};
use crate::error::ExampleError;
use crate::model::{FRONT, Vgg11};
use crate::weights;

/// Key of the rows.
const KEY: &str = "channels";

/// One policy at one share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChannelRow {
    /// What chooses the channels.
    pub policy: String,
    /// Share of the multiply-adds asked for.
    pub asked: f64,
    /// Share of the multiply-adds left.
    pub macs: f64,
    /// Share of the parameters left.
    pub parameters: f64,
    /// Top-1 of the original on the test images.
    pub top1_before: f64,
    /// Top-1 right after, with the weights as they were.
    pub top1_pruned: f64,
    /// Top-1 once what is left is fitted to the original, without training.
    pub top1_recovered: f64,
    /// Top-1 after the epochs of the late layers, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top1_late: Option<f64>,
    /// Top-1 at the end.
    pub top1_after: f64,
    /// Epochs of the late layers.
    pub epochs: f64,
    /// Epochs of all layers after them.
    pub epochs_all: f64,
    /// Seed.
    pub seed: u64,
    /// Training images of the analysis and the fit.
    pub samples: usize,
    /// Training, where there is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<Trained>,
    /// Whether training started from the fitted weights.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub fitted: bool,
    /// Seconds for the choice, the fit, training and the top-1.
    pub seconds: f64,
}

impl fmt::Display for ChannelRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cells().join(" | "))
    }
}

impl ChannelRow {
    fn cells(&self) -> Vec<String> {
        let percent = |share: f64| format!("{:.2}", 100.0 * share);
        vec![
            self.policy.clone(),
            format!("{:.1}", 100.0 * self.macs),
            format!("{:.1}", 100.0 * self.parameters),
            percent(self.top1_pruned),
            percent(self.top1_recovered),
            self.top1_late.map_or_else(|| "-".into(), percent),
            percent(self.top1_after),
            format!("{}{} + {}", if self.fitted { "" } else { "no fit, " }, self.epochs, self.epochs_all),
            format!("{:.0}", self.seconds),
        ]
    }
}

/// The policies that are compared.
pub(super) fn policies() -> [Box<dyn RankingPolicy>; 4] {
    [
        Box::new(Taylor::new()),
        Box::new(SfpRanking::new().times(Taylor::new())),
        Box::new(SfpRanking::new()),
        Box::new(Magnitude::l2()),
    ]
}

/// Measures what is not in the file yet and returns the table of all its rows.
pub(super) fn run(args: &Args) -> Result<String, ExampleError> {
    let failed = |error| args.rows_failed(error);
    let mut rows = read_rows::<ChannelRow>(&args.rows, KEY).map_err(failed)?;
    let policies = policies();
    args.check_names(|name| policies.iter().any(|policy| policy.name() == name))?;
    let training = Training::new(args)?;
    let trained = training.as_ref().map(|_| Trained::of(args));
    let device = args.device.device()?;
    let model = weights::load(&args.weights, &device)?;
    let samples = Cifar::load_exactly(&args.data, &[&args.train], args.samples)?.calibration(BATCH, &device);
    let test = Cifar::load(&args.data, &["test.bin"], None)?;
    let before = top1(&model, &test, BATCH, &device);
    let (network, analysis) = analyze_network(&model, &samples, &AnalyzeConfig::new(), &Bars::default())?;
    let needs = policies.iter().fold(Needs::none(), |needs, policy| needs.and(policy.needs()));
    let evidence = Evidence::gather(&model, &samples, needs, &Bars::default())?;
    let subject = Subject { args, model, samples, test, before, network, analysis, evidence, training };
    for &asked in &args.keep {
        for policy in &policies {
            let name = policy.name();
            let is_there = |row: &ChannelRow| {
                (row.policy == name && row.asked == asked && row.samples == args.samples)
                    && ((row.epochs, row.epochs_all) == (args.epochs, args.then) && row.training == trained)
                    && row.fitted != args.without_fit
            };
            if !args.only.is_empty() && !args.only.contains(&name) || rows.iter().any(is_there) {
                continue;
            }
            let row = subject.row(policy, asked)?;
            println!("{row}");
            write_rows(&args.rows, KEY, std::slice::from_ref(&row), |_| false).map_err(failed)?;
            rows.push(row);
        }
    }
    rows.sort_by(|a, b| b.asked.total_cmp(&a.asked).then_with(|| b.top1_after.total_cmp(&a.top1_after)));
    let header = [
        "policy",
        "macs, %",
        "parameters, %",
        "right after",
        "recovered",
        "late layers",
        "at the end",
        "epochs",
        "seconds",
    ];
    Ok(shown(&header, rows.iter().map(ChannelRow::cells)))
}

/// What all rows share.
struct Subject<'a> {
    args: &'a Args,
    model: Vgg11,
    samples: CifarCalibration,
    test: Cifar,
    /// Top-1 of the model.
    before: f64,
    network: Network,
    analysis: Analysis,
    evidence: Evidence,
    training: Option<Training>,
}

impl Subject<'_> {
    /// Prunes by a policy to a share of the multiply-adds, fits and trains.
    fn row(&self, policy: &dyn RankingPolicy, asked: f64) -> Result<ChannelRow, ExampleError> {
        let Self { args, model, samples, test, .. } = self;
        let (started, device) = (Instant::now(), args.device.device()?);
        let planner = Planner::new().budget(Keep::macs(asked)).normalizer(Normalizer::Lamp);
        let plan = planner.plan(&self.network, &self.analysis, &self.evidence.policy(policy))?;
        let pruned = plan.apply(model)?;
        let top1_pruned = top1(&pruned, test, BATCH, &device);
        let recovered = recover(model, &pruned, &plan, samples, &Recover::new(), &NoProgress)?.model;
        let top1_recovered = top1(&recovered, test, BATCH, &device);
        let (mut smaller, mut top1_after) =
            if args.without_fit { (pruned, top1_pruned) } else { (recovered, top1_recovered) };
        let mut top1_late = None;
        for (from, epochs) in [(FRONT, args.epochs), (0, args.then)] {
            let Some(training) = self.training.as_ref().filter(|_| epochs > 0.0) else { continue };
            smaller = training.run_alone(smaller, &plan, model, from, epochs)?;
            top1_after = top1(&smaller, test, BATCH, &device);
            top1_late = if from == FRONT { Some(top1_after) } else { top1_late };
        }
        let share = |after: u64, before: u64| after as f64 / before.max(1) as f64;
        Ok(ChannelRow {
            policy: policy.name(),
            asked,
            macs: share(plan.macs_after, plan.macs_before),
            parameters: share(plan.parameters_after, plan.parameters_before),
            top1_before: self.before,
            top1_pruned,
            top1_recovered,
            top1_late,
            top1_after,
            epochs: args.epochs,
            epochs_all: args.then,
            seed: args.seed,
            samples: args.samples,
            training: self.training.as_ref().map(|_| Trained::of(args)),
            fitted: !args.without_fit,
            seconds: started.elapsed().as_secs_f64(),
        })
    }
}
