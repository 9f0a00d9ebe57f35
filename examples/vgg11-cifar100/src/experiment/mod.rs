//! The paper's experiment: connections of the last three convolutions and the classifier removed by several policies, as many each,
//! fitted to the original without training, and trained where epochs are asked for.
//!
//! | what | where |
//! | --- | --- |
//! | which policies, at which shares | `contenders` |
//! | the network, its analyses, what its late part reads | `prepared` |
//! | the late part as a module of its own | `late` |
//! | one row, from the plan to its top-1 | `trial` |
//! | training, of the late layers on stored outputs of the early ones | `train` |
//! | channels removed from the whole network instead | `channels` |
//! | single weights removed, the control that is no mask over connections | `single` |
//! | rows and the table | `rows` |
//! | the tables of docs/results.md | `tables` |
//!
//! Calibration, the choice of connections, the fit and training see training images only, the test images give the top-1 of each row. A row is written as soon
//! as it is measured; started again, the experiment goes on behind the rows that are there.

mod channels;
mod contenders;
mod late;
mod prepared;
mod rows;
mod single;
mod tables;
mod train;
mod trial;

use std::path::PathBuf;
use std::time::Instant;

use support::{DeviceName, read_rows, write_rows};

pub use channels::ChannelRow;
pub use contenders::{Contender, Kind, contenders};
pub use late::Late;
pub use rows::{Row, table};

use crate::error::ExampleError;
use prepared::Prepared;
use train::Training;
use trial::trial;

/// The layers that lose connections, by module path.
pub const LAYERS: [&str; 4] = ["convs.7", "convs.8", "convs.9", "fc"];

/// Images of a batch.
const BATCH: usize = 100;

/// The paper's experiment.
#[derive(clap::Parser, Clone, Debug)]
#[command(version)]
pub struct Args {
    /// JSON file of rows; those of the SFP family stand under `afcc`, others under `controls`.
    pub rows: PathBuf,
    /// Folder with CIFAR-100's binary version.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Trained weights: a safetensors file with PyTorch's names and layouts.
    #[arg(long, value_name = "FILE")]
    pub weights: PathBuf,
    /// File of training images in the data folder, whose first records are read.
    #[arg(long, value_name = "FILE", default_value = "train.bin")]
    pub train: String,
    /// Training images of the analysis.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub samples: usize,
    /// Training images by which connections are chosen by their loss, and weights solved anew.
    #[arg(long, value_name = "N", default_value_t = 6_000)]
    pub solving: usize,
    /// Folder that keeps the analyses for the next start.
    #[arg(long, value_name = "DIR", default_value = "out")]
    pub cache: PathBuf,
    /// Contenders by name; all without it.
    #[arg(long, value_delimiter = ';')]
    pub only: Vec<String>,
    /// Seed of the random label sets, and of the order of the images in training.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Leaves the weights as pruning left them, without a fit before training.
    #[arg(long)]
    pub without_fit: bool,
    /// Epochs of training after the fit.
    #[arg(long, value_name = "N", default_value_t = 0.0)]
    pub epochs: f64,
    /// The first convolution that learns, from 0: 7 for the four layers that lose connections and their normalisations, 0 for all layers.
    #[arg(long, value_name = "K", default_value_t = crate::model::FRONT)]
    pub from: usize,
    /// Removes channels of the whole network instead.
    #[arg(long)]
    pub channels: bool,
    /// With `channels`: the shares of the multiply-adds that are left.
    #[arg(long, value_name = "SHARES", value_delimiter = ',', default_values_t = [0.7, 0.5, 0.3])]
    pub keep: Vec<f64>,
    /// With `channels`: epochs in which all layers learn, after those of `epochs`.
    #[arg(long, value_name = "N", default_value_t = 0.0)]
    pub then: f64,
    /// Files of training images in the data folder.
    #[arg(long, value_name = "FILES", value_delimiter = ',', default_value = "train.bin")]
    pub tune: Vec<String>,
    /// Images of these files that are trained on.
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    pub images: usize,
    /// Copies of each image that epochs take in turn: the image, then shifted and flipped ones.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub copies: usize,
    /// Learning rate of training at its start; it falls along half a cosine.
    #[arg(long, value_name = "RATE", default_value_t = 0.02)]
    pub learning_rate: f64,
    /// Weight of the distillation from the original, 0 for none.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub distill: f32,
    /// Where the network runs.
    #[arg(long, value_enum, default_value = "flex")]
    pub device: DeviceName,
    /// Measures all that docs/results.md shows, table after table: hours. What is set beside files and folders is not used.
    #[arg(long)]
    pub tables: bool,
    /// Lists the contenders and ends.
    #[arg(long)]
    pub list: bool,
}

impl Args {
    /// Refuses names in `only` that `is_known` does not know.
    fn check_names(&self, is_known: impl Fn(&str) -> bool) -> Result<(), ExampleError> {
        let expected = "name contenders as `--list` does, separated by semicolons";
        let unknown = self.only.iter().find(|name| !is_known(name)).cloned();
        unknown.map_or(Ok(()), |found| Err(ExampleError::Setting { name: "--only", found, expected }))
    }

    /// The file of rows cannot be read or written.
    fn rows_failed(&self, error: burn_sfp::core::DataError) -> ExampleError {
        ExampleError::Rows { path: self.rows.clone(), message: error.to_string() }
    }
}

/// Measures what is not in the file yet and returns the table of all its rows.
///
/// # Errors
/// [`ExampleError`]: files, a name in `only` that no contender has, analysis, plan or recovery.
pub fn run(args: &Args) -> Result<String, ExampleError> {
    if args.tables {
        let shown: Result<Vec<String>, ExampleError> = tables::tables(args).iter().map(run).collect();
        return Ok(shown?.join("\n\n"));
    }
    if args.channels {
        return channels::run(args);
    }
    let all = contenders(args.seed);
    if args.list {
        return Ok(all.iter().map(|contender| contender.name.clone() + "\n").collect());
    }
    args.check_names(|name| all.iter().any(|contender| contender.name == name))?;
    let failed = |error| args.rows_failed(error);
    let read = |key: &str| read_rows::<Row>(&args.rows, key).map_err(failed);
    let mut rows: Vec<Row> = read("afcc")?.into_iter().chain(read("controls")?).collect();
    let chosen = |contender: &&Contender| args.only.is_empty() || args.only.contains(&contender.name);
    let training = Training::new(args)?;
    let mut prepared = None;
    for contender in all.iter().filter(chosen) {
        if rows.iter().any(|row| row.is_of(contender, args)) {
            continue;
        }
        if prepared.is_none() {
            prepared = Some(Prepared::new(args)?);
        }
        let Some(prepared) = &prepared else { continue };
        let started = Instant::now();
        let measured = trial(contender, prepared, training.as_ref(), args.without_fit)?;
        let row = Row::new(contender, args, prepared.top1, measured, started.elapsed().as_secs_f64());
        println!("{row}");
        write_rows(&args.rows, contender.key(), std::slice::from_ref(&row), |_| false).map_err(failed)?;
        rows.push(row);
    }
    rows.retain(|row| row.is_with(args));
    Ok(table(&rows))
}
