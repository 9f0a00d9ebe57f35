//! Whole residual blocks against channels: a ResNet-18 on the quickstart's images, at the same multiply-adds.

use std::collections::BTreeMap;
use std::path::PathBuf;

use burn::prelude::*;
use burn_sfp::core::BlockStream;
use burn_sfp::graph::RunningCost;
use burn_sfp::prelude::*;
use models::resnet::ResNet;
use quickstart::glyphs::GlyphSet;
use quickstart::train::{TrainConfig, top1};
use serde::{Deserialize, Serialize};
use support::{read_rows, write_rows};

use crate::resnet18::trained;
use crate::table::{markdown, spread};

/// Images of a batch, other than in training.
const BATCH: usize = 100;

/// What is measured.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// JSON file with the rows, under `depth`.
    pub file: PathBuf,
    /// Seeds of the images and of the start of training.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 3])]
    pub seeds: Vec<u64>,
    /// Multiplies all widths of the network.
    #[arg(long, default_value_t = 0.25)]
    pub width: f64,
    /// Most blocks that are left out.
    #[arg(long, default_value_t = 3)]
    pub most: usize,
    /// Training images of an epoch, and those of the epoch after pruning.
    #[arg(long, default_value_t = 6000)]
    pub samples: usize,
    /// Epochs of training.
    #[arg(long, default_value_t = 5)]
    pub epochs: usize,
    /// Images for the analysis, and as many others for top-1.
    #[arg(long, default_value_t = 2400)]
    pub images: usize,
}

/// What is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Channels alone.
    Width,
    /// Blocks alone, the least readout gain first.
    Blocks,
    /// Channels and blocks in one budget, blocks by readout gain.
    Both,
}

/// One way at one budget on the network of one seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DepthRow {
    /// The network.
    pub network: String,
    /// What is removed.
    pub way: Way,
    /// As many multiply-adds are left as without so many blocks.
    pub blocks: usize,
    /// The blocks that went.
    pub left_out: Vec<String>,
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
}

/// Scores blocks alone, so that no channel leaves.
struct BlocksAlone<'a>(&'a BTreeMap<String, BlockStream>);

impl RankingPolicy for BlocksAlone<'_> {
    fn name(&self) -> String {
        "blocks by readout gain".into()
    }

    fn rank(&self, _context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        let gain = |(path, found): (&String, &BlockStream)| (path.clone(), gain(found));
        Ok(Ranking { blocks: self.0.iter().map(gain).collect(), ..Ranking::default() })
    }
}

fn gain(found: &BlockStream) -> f64 {
    (found.accuracy_after - found.accuracy_before).max(0.0)
}

/// The trained network and all that is read of it.
struct Subject {
    model: ResNet,
    top1: f64,
    network: Network,
    analysis: Analysis,
    evidence: Evidence,
    test: TensorCalibration<Tensor<4>>,
    epoch: Vec<Batch<Tensor<4>>>,
}

/// Measures the seeds that are not in the file yet and returns the table of all rows.
///
/// # Errors
/// Those of training, pruning and of the file.
pub fn run(args: &Args, device: &Device, progress: &dyn Progress) -> Result<String, DataError> {
    let mut rows: Vec<DepthRow> = read_rows(&args.file, "depth")?;
    let network = format!("ResNet-18, {} times as wide", args.width);
    for &seed in &args.seeds {
        if rows.iter().any(|row| row.seed == seed && row.network == network) {
            continue;
        }
        let found = measure(args, seed, &network, device, progress)?;
        write_rows(&args.file, "depth", &found, |_| false)?;
        rows.extend(found);
    }
    rows.retain(|row| row.network == network && args.seeds.contains(&row.seed));
    Ok(table(&rows))
}

fn prepare(args: &Args, seed: u64, device: &Device, progress: &dyn Progress) -> Result<Subject, DataError> {
    let set = GlyphSet::new(seed);
    let config = TrainConfig::new().with_epochs(args.epochs).with_samples(args.samples);
    let model = trained(seed, args.width, &config, device, progress)?;
    let tensors = |batches: &mut dyn Iterator<Item = Result<Batch<Tensor<4>>, DataError>>| {
        let all = batches.next().ok_or("no images")??;
        Ok::<_, DataError>(TensorCalibration::new(all.input, all.labels, BATCH))
    };
    let calibration = tensors(&mut set.calibration(args.images, args.images, device))?;
    let test = tensors(&mut set.test(args.images, args.images, device))?;
    let (network, analysis) = analyze_network(&model, &calibration, &AnalyzeConfig::new(), progress)?;
    let evidence = Evidence::gather(&model, &calibration, Needs::none().blocks(), progress)?;
    let epoch =
        set.epoch(args.epochs, args.samples, config.batch_size, device).collect::<Result<Vec<_>, DataError>>()?;
    Ok(Subject { top1: top1(&model, &test)?, model, network, analysis, evidence, test, epoch })
}

fn measure(
    args: &Args,
    seed: u64,
    network: &str,
    device: &Device,
    progress: &dyn Progress,
) -> Result<Vec<DepthRow>, DataError> {
    let subject = prepare(args, seed, device, progress)?;
    let mut free: Vec<_> = subject.network.blocks().iter().filter(|block| block.not_removable.is_none()).collect();
    let worth = |path: &str| subject.evidence.blocks.get(path).map_or(f64::INFINITY, gain);
    free.sort_by(|a, b| worth(a.path()).total_cmp(&worth(b.path())));
    let mut cost = RunningCost::of(&subject.network);
    let mut rows = Vec::new();
    for (index, block) in free.into_iter().take(args.most).enumerate() {
        cost.leave_out(block);
        let budget = Keep::at_most(CostUnit::Macs, cost.macs());
        for way in [Way::Width, Way::Blocks, Way::Both] {
            let row = subject.trial(way, budget, progress)?;
            rows.push(DepthRow { network: network.into(), blocks: index + 1, seed, ..row });
        }
    }
    Ok(rows)
}

impl Subject {
    fn trial(&self, way: Way, budget: Keep, progress: &dyn Progress) -> Result<DepthRow, DataError> {
        let policy: Box<dyn RankingPolicy + '_> = match way {
            Way::Width => Box::new(SfpRanking::new()),
            Way::Blocks => Box::new(BlocksAlone(&self.evidence.blocks)),
            Way::Both => Box::new(self.evidence.policy(SfpRanking::new().with_blocks(BlockScore::ReadoutGain))),
        };
        let plan = Planner::new().budget(budget).plan(&self.network, &self.analysis, &*policy)?;
        let smaller = plan.apply(&self.model)?;
        let top1_pruned = top1(&smaller, &self.test)?;
        let config = FineTuneConfig::new().with_all_layers(true);
        let samples = self.epoch.iter().map(|batch| batch.labels.len()).sum();
        let tuned = fine_tune(smaller, &plan, |_| self.epoch.iter().cloned().map(Ok), samples, &config, progress)?;
        Ok(DepthRow {
            network: String::new(),
            way,
            blocks: 0,
            left_out: plan.blocks.iter().map(|block| block.path.clone()).collect(),
            macs_got: plan.macs_after as f64 / plan.macs_before as f64,
            seed: 0,
            top1_before: self.top1,
            top1_pruned,
            top1_after: top1(&tuned, &self.test)?,
        })
    }
}

/// Returns a line for each number of blocks: what is left, and each way right after pruning and after the epoch, in per cent.
fn table(rows: &[DepthRow]) -> String {
    let header = [
        "blocks",
        "MACs left",
        "width",
        "one epoch",
        "blocks alone",
        "one epoch",
        "both",
        "one epoch",
        "blocks gone of both",
    ];
    let mut table = markdown(&header, 0);
    let most = rows.iter().map(|row| row.blocks).max().unwrap_or_default();
    for blocks in 1..=most {
        let of = |way: Way| rows.iter().filter(move |row| row.blocks == blocks && row.way == way);
        let (left, _) = spread(&of(Way::Blocks).map(|row| row.macs_got).collect::<Vec<_>>());
        let mut line = vec![blocks.to_string(), format!("{:.1} %", 100.0 * left)];
        for way in [Way::Width, Way::Blocks, Way::Both] {
            for top1 in [|row: &DepthRow| row.top1_pruned, |row: &DepthRow| row.top1_after] {
                let (mean, deviation) = spread(&of(way).map(top1).collect::<Vec<_>>());
                line.push(format!("{:.2} ± {:.2}", 100.0 * mean, 100.0 * deviation));
            }
        }
        let gone: Vec<f64> = of(Way::Both).map(|row| row.left_out.len() as f64).collect();
        line.push(format!("{:.1}", spread(&gone).0));
        table.add_row(line);
    }
    let before: BTreeMap<u64, f64> = rows.iter().map(|row| (row.seed, 100.0 * row.top1_before)).collect();
    let (mean, deviation) = spread(&before.values().copied().collect::<Vec<_>>());
    format!("{table}\n\ntrained: {mean:.2} ± {deviation:.2} %, {} seeds", before.len())
}
