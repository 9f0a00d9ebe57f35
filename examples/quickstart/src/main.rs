//! Trains a small VGG on drawn letters, analyses and prunes it, fits what is left to the original, fine-tunes it, and prints what that cost and
//! gained.

use std::time::Instant;

use burn::prelude::*;
use burn_sfp::graph::latency::{LatencyConfig, LatencyTable};
use burn_sfp::prelude::*;
use clap::{Parser, ValueEnum};
use quickstart::glyphs::GlyphSet;
use quickstart::model::{Pixels, Vgg, VggConfig};
use quickstart::recovery::compare;
use quickstart::table::{Row, table};
use quickstart::train::{TrainConfig, top1, train};
use support::DeviceName;

/// Images to measure top-1 on: 100 of each letter.
const TEST_SAMPLES: usize = 2400;
/// Images to analyse the network on: 100 of each letter.
const CALIBRATION_SAMPLES: usize = 2400;
/// Passes of fine-tuning, of as many new images as one of the training.
const TUNE_EPOCHS: f64 = 3.0;
/// Forward passes that a latency is the median of.
const RUNS: usize = 60;

/// Prunes a small VGG on letters drawn on the fly: no download, no data.
#[derive(Parser, Debug)]
struct Args {
    /// Makes the images and the start of training.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Passes of the training.
    #[arg(long, default_value_t = 5)]
    epochs: usize,
    /// New images a pass.
    #[arg(long, default_value_t = 6000)]
    samples: usize,
    /// Where to compute: flex on a CPU; ndarray, and wgpu without a GPU, are much slower: lower --samples there.
    #[arg(long, value_enum, default_value_t = DeviceName::Flex)]
    device: DeviceName,
    /// What to keep.
    #[arg(long, value_enum, default_value_t = Policy::SfpRank)]
    policy: Policy,
    /// Share of each layer's filters that goes (afcc removes connections instead and has no ratio).
    #[arg(long, default_value_t = 0.5)]
    ratio: f64,
    /// Compares ways to recover without training, and what fine-tuning makes of them, and stops there.
    #[arg(long)]
    recoveries: bool,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Policy {
    Afcc,
    SfpRank,
    Magnitude,
}

impl Policy {
    fn policy(self) -> Box<dyn RankingPolicy> {
        match self {
            Self::Afcc => Box::new(Afcc::new()),
            Self::SfpRank => Box::new(SfpRanking::new()),
            Self::Magnitude => Box::new(Magnitude::l2()),
        }
    }
}

fn main() -> Result<(), DataError> {
    let args = Args::parse();
    let started = Instant::now();
    let device = args.device.device()?;
    device.seed(args.seed);
    let set = GlyphSet::new(args.seed);
    let test = set.test(TEST_SAMPLES, 100, &device);
    let config = TrainConfig::new().with_epochs(args.epochs).with_samples(args.samples);

    let linear = train(Pixels::new(&device), &set, &config, &device, &Bars::new("linear model"))?;
    println!("linear model on the pixels: top-1 {:.2} %", 100.0 * top1(&linear, &test)?);

    let clock = Instant::now();
    let vgg = train(VggConfig::new().init(&device), &set, &config, &device, &Bars::new("VGG"))?;
    println!("VGG: top-1 {:.2} %, trained in {:.1} s", 100.0 * top1(&vgg, &test)?, clock.elapsed().as_secs_f64());

    let clock = Instant::now();
    let calibration = set.calibration(CALIBRATION_SAMPLES, 100, &device);
    let pruned = Pruner::new(&calibration)
        .policy(args.policy.policy())
        .ratio(args.ratio)
        .progress(&Bars::new("pruning"))
        .analyze_and_prune(&vgg)?;
    println!(
        "\nanalysed and pruned in {:.1} s\n\n{}\n{}",
        clock.elapsed().as_secs_f64(),
        pruned.analysis,
        pruned.summary()
    );

    // What the plan leaves, before it is fitted to the original.
    let unfitted = pruned.plan.apply(&vgg)?;
    let tune = |model: &Vgg| {
        fine_tune(
            model.clone(),
            &pruned.plan,
            |epoch| set.epoch(args.epochs + epoch, args.samples, config.batch_size, &device),
            args.samples,
            &FineTuneConfig::new().with_epochs(TUNE_EPOCHS).with_learning_rate(0.02),
            &Bars::new("pruned VGG"),
        )
    };
    if args.recoveries {
        println!("{}", compare(&vgg, &unfitted, &pruned.plan, &calibration, &test)?);
        for (name, model) in [("as the plan leaves it", &unfitted), ("recovered", &pruned.model)] {
            println!("{name}, then fine-tuned: {:.2} %", 100.0 * top1(&tune(model)?, &test)?);
        }
        return Ok(());
    }
    if let Some(report) = &pruned.recovery {
        println!("{report}");
    }

    let clock = Instant::now();
    // Where training follows, recovery is of no use (docs/fine-tuning.md).
    let tuned = tune(&unfitted)?;
    // Connections that afcc masked become plain zeros.
    let tuned = tuned.materialize();
    println!("fine-tuned in {:.1} s", clock.elapsed().as_secs_f64());

    let measure = |name: &str, model: &Vgg, connections: u64, macs: u64| -> Result<Row, DataError> {
        Ok(Row {
            name: name.into(),
            top1: top1(model, &test)?,
            parameters: model.num_params() as u64,
            connections,
            macs,
        })
    };
    let all = pruned.plan.totals();
    let (unfitted, untuned) = (unfitted.materialize(), pruned.model.materialize());
    let rows = [
        measure("trained", &vgg, all.connections_before, all.macs_before)?,
        measure("pruned", &unfitted, all.connections_after, all.macs_after)?,
        measure("pruned, recovered", &untuned, all.connections_after, all.macs_after)?,
        measure("pruned, fine-tuned", &tuned, all.connections_after, all.macs_after)?,
    ];
    let batches = [1, 64].map(|samples| set.batch(0..samples, &device).input);
    let models = [("trained", &vgg), ("pruned, recovered", &untuned), ("pruned, fine-tuned", &tuned)];
    let latencies =
        LatencyTable::measure_with(&models, &batches, &LatencyConfig::new().with_runs(RUNS), &Bars::default())?;
    println!("{}\n\n{latencies}\n{:.0} s in all", table(&rows), started.elapsed().as_secs_f64());
    Ok(())
}
