//! The rows of the file, and the table made of them.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::Order;
use super::contenders::{Contender, Family};
use super::trial::Trial;
use crate::table::{markdown, spread};

/// What rows have to have in common to be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Training images of an epoch.
    pub samples: usize,
    /// Epochs of training.
    pub epochs: usize,
    /// Images for the analysis, and as many others for top-1.
    pub images: usize,
    /// Which layers are compared with each other.
    pub order: Order,
}

/// One policy at one budget on the network of one seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyRow {
    /// Name of the policy.
    pub policy: String,
    /// Its family.
    pub family: Family,
    /// Share of the multiply-adds that was asked for.
    pub macs_kept: f64,
    /// Share of the multiply-adds that is left.
    pub macs_got: f64,
    /// Seed of images and training.
    pub seed: u64,
    /// Top-1 of the trained network, 0 to 1.
    pub top1_before: f64,
    /// Top-1 right after pruning.
    pub top1_pruned: f64,
    /// Top-1 after one epoch.
    pub top1_after: f64,
    /// Seconds for plan, pruning, the epoch and both top-1.
    pub seconds: f64,
    /// The settings.
    #[serde(flatten)]
    pub settings: Settings,
}

impl PolicyRow {
    pub(super) fn new(
        settings: Settings,
        seed: u64,
        contender: &Contender,
        kept: f64,
        before: f64,
        trial: Trial,
        seconds: f64,
    ) -> Self {
        Self {
            policy: contender.name(),
            family: contender.family,
            macs_kept: kept,
            macs_got: trial.got,
            seed,
            top1_before: before,
            top1_pruned: trial.pruned,
            top1_after: trial.after,
            seconds,
            settings,
        }
    }

    /// Returns whether the row is of this measurement.
    pub(super) fn is_of(&self, settings: Settings, seed: u64, policy: &str, kept: f64) -> bool {
        self.settings == settings && self.seed == seed && self.policy == policy && self.macs_kept == kept
    }
}

/// Returns a table of means and standard deviations over the seeds, in per cent: a line for each policy, for each budget a column right
/// after pruning and one after the epoch. The best after the epoch, on average over the budgets, comes first.
pub fn policy_table(rows: &[PolicyRow]) -> String {
    let mut kept: Vec<f64> = rows.iter().map(|row| row.macs_kept).collect();
    kept.sort_by(|a, b| b.total_cmp(a));
    kept.dedup();
    let mut header = vec!["policy".to_string(), "family".to_string()];
    for share in &kept {
        header.push(format!("{:.0} % kept", 100.0 * share));
        header.push("one epoch".to_string());
    }
    let mut table = markdown(&header.iter().map(String::as_str).collect::<Vec<_>>(), 2);
    let mut policies: BTreeMap<(&str, Family), Vec<&PolicyRow>> = BTreeMap::new();
    rows.iter().for_each(|row| policies.entry((&row.policy, row.family)).or_default().push(row));
    let mut lines: Vec<_> = policies.into_iter().collect();
    let mean_after = |rows: &[&PolicyRow]| spread(&rows.iter().map(|row| row.top1_after).collect::<Vec<_>>()).0;
    lines.sort_by(|a, b| mean_after(&b.1).total_cmp(&mean_after(&a.1)));
    for ((policy, family), rows) in lines {
        let mut line = vec![policy.to_string(), if family == Family::Sfp { "SFP" } else { "other" }.to_string()];
        for &share in &kept {
            let here = || rows.iter().filter(move |row| row.macs_kept == share);
            line.push(cell(here().map(|row| row.top1_pruned)));
            line.push(cell(here().map(|row| row.top1_after)));
        }
        table.add_row(line);
    }
    let before: BTreeMap<u64, f64> = rows.iter().map(|row| (row.seed, row.top1_before)).collect();
    let mut text = table.to_string();
    // Writing to a string does not fail.
    let _ = write!(text, "\n\ntrained: {} %, {} seeds", cell(before.values().copied()), before.len());
    text
}

/// Mean and standard deviation in per cent.
fn cell(shares: impl Iterator<Item = f64>) -> String {
    let shares: Vec<f64> = shares.collect();
    if shares.is_empty() {
        return String::new();
    }
    let (mean, deviation) = spread(&shares);
    format!("{:.2} ± {:.2}", 100.0 * mean, 100.0 * deviation)
}
