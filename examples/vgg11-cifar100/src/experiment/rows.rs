//! The rows of the file, and the table made of them.

use std::fmt;

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};
use serde::{Deserialize, Serialize};

use super::contenders::Contender;
use super::trial::Measured;
use super::{Args, LAYERS};
use crate::model::FRONT;

/// One policy at one share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Policy, threshold and share.
    pub policy: String,
    /// Module paths of the layers that lose connections.
    pub layers: Vec<String>,
    /// Threshold of the analysis that the policy reads, if it reads one.
    pub threshold: Option<f64>,
    /// Labels that two filters must share to stay connected, if the policy asks for that.
    pub min_shared: Option<usize>,
    /// Share of the weights of these layers that is gone.
    pub removed_share: f64,
    /// Share of the connections of each layer that is gone.
    pub removed: Vec<f64>,
    /// Top-1 of the original on the test images.
    pub top1_before: f64,
    /// Top-1 right after, with the weights as they were.
    pub top1_pruned: f64,
    /// Top-1 before training: once what is left is fitted to the original, where it is.
    pub top1_recovered: f64,
    /// Top-1 after training; that of before where there is none.
    pub top1_after: f64,
    /// Epochs of training.
    pub epochs: f64,
    /// Seed of random label sets, and of the order of the images in training.
    pub seed: u64,
    /// Training images of the analysis.
    pub samples: usize,
    /// Training images that connections are chosen and weights solved with.
    pub solving: usize,
    /// Whether what is left was fitted to the original before training.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub fitted: bool,
    /// Training, where there is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<Trained>,
    /// Seconds for the choice, the fit, training and the top-1.
    pub seconds: f64,
}

/// How a row was trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trained {
    /// Training images.
    pub images: usize,
    /// Copies of each.
    pub copies: usize,
    /// Learning rate at the start.
    pub learning_rate: f64,
    /// Weight of the distillation.
    pub distill: f32,
    /// Seed of the order of the images.
    pub seed: u64,
    /// The first convolution that learns.
    #[serde(default = "late")]
    pub from: usize,
}

pub(super) fn yes() -> bool {
    true
}

pub(super) fn is_yes(value: &bool) -> bool {
    *value
}

fn late() -> usize {
    FRONT
}

impl Row {
    pub(super) fn new(contender: &Contender, args: &Args, before: f64, measured: Measured, seconds: f64) -> Self {
        let Measured { removed, removed_share, pruned, recovered, trained } = measured;
        Self {
            policy: contender.name.clone(),
            layers: LAYERS.map(String::from).to_vec(),
            threshold: contender.threshold,
            min_shared: contender.threshold.map(|_| 1),
            removed_share,
            removed,
            top1_before: before,
            top1_pruned: pruned,
            top1_recovered: recovered,
            top1_after: trained.unwrap_or(recovered),
            epochs: trained.map_or(0.0, |_| args.epochs),
            seed: seed_of(contender, args),
            samples: args.samples,
            solving: args.solving,
            fitted: !args.without_fit,
            training: trained.map(|_| Trained::of(args)),
            seconds,
        }
    }

    /// Whether it was measured with these settings.
    pub fn is_with(&self, args: &Args) -> bool {
        (self.samples, self.solving) == (args.samples, args.solving)
    }

    /// Whether it is the row of a contender, trained as long and in the same way.
    pub fn is_of(&self, contender: &Contender, args: &Args) -> bool {
        let training = (args.epochs > 0.0).then(|| Trained::of(args));
        self.is_with(args)
            && (self.policy == contender.name && self.seed == seed_of(contender, args))
            && (self.epochs == args.epochs && self.training == training && self.fitted != args.without_fit)
    }

    /// How it was trained, in a few words.
    fn trained(&self) -> String {
        let Some(Trained { copies, learning_rate, distill, seed, from, .. }) = &self.training else {
            return "-".into();
        };
        let (epochs, fit) = (self.epochs, if self.fitted { "" } else { "no fit, " });
        format!(
            "{fit}{epochs} epochs from conv {}, {copies} copies, rate {learning_rate}, distillation {distill}, seed {seed}",
            from + 1
        )
    }

    fn cells(&self) -> Vec<String> {
        let percent = |share: f64| format!("{:.2}", 100.0 * share);
        let removed: Vec<String> = self.removed.iter().map(|share| format!("{:.1}", 100.0 * share)).collect();
        vec![
            self.policy.clone(),
            removed.join(" / "),
            format!("{:.1}", 100.0 * self.removed_share),
            percent(self.top1_pruned),
            percent(self.top1_recovered),
            percent(self.top1_after),
            self.trained(),
            format!("{:.0}", self.seconds),
        ]
    }
}

/// The seed that a row depends on; without training one that is not drawn has none.
fn seed_of(contender: &Contender, args: &Args) -> u64 {
    if args.epochs > 0.0 { args.seed } else { contender.seed }
}

impl Trained {
    pub(super) fn of(args: &Args) -> Self {
        let Args { images, copies, learning_rate, distill, seed, from, .. } = *args;
        Self { images, copies, learning_rate, distill, seed, from }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cells().join(" | "))
    }
}

/// The rows as a table, the best first.
pub fn table(rows: &[Row]) -> String {
    let header = [
        "policy",
        "connections gone, % (conv 8 / 9 / 10 / fc)",
        "weights gone, %",
        "top-1 right after",
        "recovered",
        "after training",
        "training",
        "seconds",
    ];
    let mut rows: Vec<&Row> = rows.iter().collect();
    rows.sort_by(|a, b| b.top1_after.total_cmp(&a.top1_after).then_with(|| a.policy.cmp(&b.policy)));
    shown(&header, rows.into_iter().map(Row::cells))
}

/// A table in Markdown, numbers to the right.
pub(super) fn shown(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header(header).add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}
