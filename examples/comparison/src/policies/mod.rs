//! Every policy on the quickstart's network, at the same multiply-adds: top-1 right after pruning and after one epoch.
//!
//! | what | where |
//! | --- | --- |
//! | which policies | `contenders` |
//! | a network trained from a seed, with its analysis and evidence | `subject` |
//! | pruning and one epoch | `trial` |
//! | rows and the table | `rows` |
//!
//! Each row is written as soon as it is measured. Started again with the same settings, the measurement goes on behind the rows that are
//! there.

mod contenders;
mod rows;
mod subject;
mod trial;

use std::path::PathBuf;
use std::time::Instant;

use burn::prelude::Device;
use burn_sfp::prelude::{DataError, Progress, RemovalOrder};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use support::{read_rows, write_rows};

pub use contenders::{Contender, Family, contenders};
pub use rows::{PolicyRow, Settings, policy_table};

use subject::Subject;
use trial::prune_and_tune;

/// Which layers are compared with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// All, by score: the default of [`Keep`](burn_sfp::prelude::Keep).
    Global,
    /// None: every layer loses the same share.
    Even,
}

impl Order {
    fn of_removal(self) -> RemovalOrder {
        match self {
            Self::Global => RemovalOrder::Global,
            Self::Even => RemovalOrder::EvenPerGroup,
        }
    }
}

/// What is measured.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// JSON file with the rows, under `policies`.
    pub file: PathBuf,
    /// Seeds of the images and of the start of training.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 3, 4, 5])]
    pub seeds: Vec<u64>,
    /// Shares of the multiply-adds that are kept.
    #[arg(long, value_delimiter = ',', default_values_t = [0.7, 0.5, 0.3])]
    pub keep: Vec<f64>,
    /// Training images of an epoch, and those of the epoch after pruning.
    #[arg(long, default_value_t = 6000)]
    pub samples: usize,
    /// Epochs of training.
    #[arg(long, default_value_t = 5)]
    pub epochs: usize,
    /// Images for the analysis, and as many others for top-1.
    #[arg(long, default_value_t = 2400)]
    pub images: usize,
    /// Which layers are compared with each other.
    #[arg(long, value_enum, default_value_t = Order::Global)]
    pub order: Order,
    /// Policies by name; all without it.
    #[arg(long, value_delimiter = ';')]
    pub only: Vec<String>,
    /// Folder that keeps the trained networks for the next start.
    #[arg(long)]
    pub trained: Option<PathBuf>,
}

impl Args {
    fn settings(&self) -> Settings {
        Settings { samples: self.samples, epochs: self.epochs, images: self.images, order: self.order }
    }
}

/// Measures what is not in the file yet and returns the table of all rows with these settings.
///
/// # Errors
/// Those of training, pruning and of the file; a name in `only` that no policy has.
pub fn run(args: &Args, device: &Device, progress: &dyn Progress) -> Result<String, DataError> {
    let settings = args.settings();
    let mut rows: Vec<PolicyRow> = read_rows(&args.file, "policies")?;
    for &seed in &args.seeds {
        let contenders = chosen(&args.only, seed)?;
        let is_missing = |rows: &[PolicyRow], contender: &Contender, kept: f64| {
            !rows.iter().any(|row| row.is_of(settings, seed, &contender.name(), kept))
        };
        let pairs = || args.keep.iter().flat_map(|&kept| contenders.iter().map(move |contender| (contender, kept)));
        if !pairs().any(|(contender, kept)| is_missing(&rows, contender, kept)) {
            continue;
        }
        let subject = Subject::prepare(seed, settings, &contenders, args.trained.as_deref(), device, progress)?;
        for (contender, kept) in pairs() {
            if !is_missing(&rows, contender, kept) {
                continue;
            }
            let started = Instant::now();
            let trial = prune_and_tune(&subject, contender, kept, settings, progress)?;
            let seconds = started.elapsed().as_secs_f64();
            let row = PolicyRow::new(settings, seed, contender, kept, subject.top1, trial, seconds);
            write_rows(&args.file, "policies", std::slice::from_ref(&row), |_| false)?;
            rows.push(row);
        }
    }
    rows.retain(|row| row.settings == settings && args.seeds.contains(&row.seed));
    Ok(policy_table(&rows))
}

fn chosen(only: &[String], seed: u64) -> Result<Vec<Contender>, DataError> {
    let mut all = contenders(seed);
    if let Some(unknown) = only.iter().find(|name| !all.iter().any(|contender| contender.name() == **name)) {
        let names: Vec<String> = all.iter().map(Contender::name).collect();
        return Err(format!("no policy is called `{unknown}`; there are: {}", names.join("; ")).into());
    }
    all.retain(|contender| only.is_empty() || only.contains(&contender.name()));
    Ok(all)
}
