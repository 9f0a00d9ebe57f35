//! The run: weights, analysis, plan, pruned network, fine-tuning, report.

use std::path::Path;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::{Device, Distribution, Tensor};
use burn_sfp::core::{
    Analysis, AnalyzeConfig, Bars, Batch, Calibration, DataError, SfpError, SfpModule, analyze_network,
};
use burn_sfp::graph::Network;
use burn_sfp::graph::file::write_json;
use burn_sfp::graph::latency::{LatencyConfig, LatencyTable};
use burn_sfp::prune::{
    Afcc, Budget, FineTuneConfig, Magnitude, MagnitudeConnections, Planner, PrunePlan, RandomAfcc, SfpRanking,
    SparseConfig, fine_tune, sparsify,
};

use crate::cifar::{Cifar, CifarCalibration, SIDE, top1};
use crate::error::ExampleError;
use crate::model::Vgg11;
use crate::options::{Options, PolicyName};
use crate::page::{self, Parts};
use crate::report::{LayerReport, Report, StageSeconds};
use crate::weights;

/// Runs everything on the images of a folder; the results are in the folder `options.out` afterwards.
///
/// # Errors
/// [`ExampleError`]: files, settings, analysis, plan or training.
pub fn run(options: &Options, data: &Path) -> Result<Report, ExampleError> {
    check(options)?;
    let device = options.device.device()?;
    let bars = Bars::default();
    let (model, samples, test, train) = load(options, data, &device)?;
    std::fs::create_dir_all(&options.out)
        .map_err(|error| ExampleError::Output { path: options.out.clone(), message: error.to_string() })?;

    let top1_before = top1(&model, &test, options.batch_size, &device);
    let calibration = samples.calibration(options.batch_size, &device);
    let (forward, ()) = timed(|| forward(&model, &calibration));

    let (network, analysis) = analyze_network(&model, &calibration, &analyze_config(options), &bars)?;
    println!("{analysis}");
    analysis.save(options.out.join("analysis.json"))?;
    let (plan_seconds, plan) = timed(|| plan(options, &network, &analysis));
    let plan = plan?;
    plan.save(options.out.join("plan.json"))?;
    let (rewrite, pruned) = timed(|| plan.apply(&model));
    let mut pruned = pruned?;
    let top1_pruned = top1(&pruned, &test, options.batch_size, &device);

    let mut top1_after = None;
    let mut fine_tuning = 0.0;
    if let Some(train) = train {
        let (seconds, tuned) = timed(|| tune(options, pruned, &plan, &train, &device, &bars));
        pruned = tuned?;
        fine_tuning = seconds;
        top1_after = Some(top1(&pruned, &test, options.batch_size, &device));
    }
    let pruned = pruned.valid().materialize();
    let latency = latency(&model, &pruned, &device, &bars)?;
    save(pruned, &options.out.join("pruned.bpk"))?;

    let layers = LayerReport::of_plan(&plan);
    let (total, pruned_layers) = LayerReport::sums(&layers, &plan);
    let report = Report {
        policy: plan.policy.clone(),
        threshold: options.threshold,
        seed: options.seed,
        samples: analysis.samples,
        test_images: test.len(),
        top1_before,
        top1_pruned,
        top1_after,
        total,
        pruned_layers,
        layers,
        latency,
        seconds: StageSeconds { analysis: analysis.seconds, plan: plan_seconds, rewrite, fine_tuning, forward },
        settings: options.clone(),
    };
    write_json(&options.out.join("report.json"), &report).map_err(SfpError::from)?;
    if let Some(path) = &options.report {
        page::write(path, data, &Parts { network: &network, analysis: &analysis, plan: &plan, report: &report })?;
    }
    Ok(report)
}

/// Refuses settings that only show when everything else is done.
fn check(options: &Options) -> Result<(), ExampleError> {
    let wrong = |name, found: String, expected| Err(ExampleError::Setting { name, found, expected });
    if options.policy.is_for_filters() && options.ratio.is_none() {
        return wrong("--ratio", "missing".into(), "give the share of the filters that goes, for example --ratio 0.5");
    }
    if !(options.finetune >= 0.0 && options.finetune.is_finite()) {
        return wrong("--finetune", options.finetune.to_string(), "give a number of epochs, 0 for none");
    }
    if !(options.lr > 0.0 && options.lr.is_finite()) {
        return wrong("--lr", options.lr.to_string(), "give a learning rate above 0, for example 0.02");
    }
    for (name, value) in [("--batch-size", options.batch_size), ("--samples", options.samples)] {
        if value == 0 {
            return wrong(name, "0".into(), "give at least 1");
        }
    }
    Ok(())
}

/// Weights, calibration images, test images, and training images where they are needed.
fn load(options: &Options, data: &Path, device: &Device) -> Result<(Vgg11, Cifar, Cifar, Option<Cifar>), ExampleError> {
    let expected = "name the safetensors file with the trained weights of VGG-11";
    let Some(file) = &options.weights else {
        return Err(ExampleError::Setting { name: "--weights", found: "missing".into(), expected });
    };
    let Some(first) = options.train.first() else {
        return Err(ExampleError::Setting { name: "--train", found: "empty".into(), expected: "name a file" });
    };
    let samples = Cifar::load_exactly(data, &[first], options.samples)?;
    let test = match options.test {
        0 => Cifar::load(data, &["test.bin"], None)?,
        count => Cifar::load_exactly(data, &["test.bin"], count)?,
    };
    let train = if options.finetune > 0.0 { Some(Cifar::load(data, &options.train, None)?) } else { None };
    Ok((weights::load(file, device)?, samples, test, train))
}

fn analyze_config(options: &Options) -> AnalyzeConfig {
    let config = AnalyzeConfig::new()
        .with_threshold(options.threshold)
        .with_readout(options.readout.readout())
        .with_grid(options.chosen_grid())
        .with_accuracy(options.accuracy)
        .with_state(options.report.is_some())
        .with_seed(options.seed);
    match options.analysed_paths() {
        Some(paths) => config.with_layers(paths),
        None => config,
    }
}

/// A plain pass over the calibration images; every output is read, so that the time is all there.
fn forward(model: &Vgg11, calibration: &CifarCalibration) {
    let model = model.valid();
    for batch in calibration.batches().flatten() {
        let _ = model.logits(batch.input).into_data();
    }
}

fn plan(options: &Options, network: &Network, analysis: &Analysis) -> Result<PrunePlan, ExampleError> {
    let layers = options.pruned_paths();
    let planner = Planner::new().budget(Budget::PerLayer(options.ratio.unwrap_or(0.0)));
    let afcc = Afcc::new().layers(layers.clone()).shared_labels(options.shared_labels);
    let plan = match options.policy {
        PolicyName::Afcc => planner.plan(network, analysis, &afcc),
        PolicyName::RandomAfcc => planner.plan(network, analysis, &RandomAfcc::new(options.seed).layers(layers)),
        PolicyName::MagnitudeKernels => {
            let like = planner.plan(network, analysis, &afcc)?;
            planner.plan(network, analysis, &MagnitudeConnections::l1().layers(layers).like(&like))
        }
        PolicyName::Magnitude => planner.plan(network, analysis, &Magnitude::l1()),
        PolicyName::SfpRank => planner.plan(network, analysis, &SfpRanking::new()),
    };
    Ok(plan?)
}

fn tune(
    options: &Options,
    model: Vgg11,
    plan: &PrunePlan,
    train: &Cifar,
    device: &Device,
    bars: &Bars,
) -> Result<Vgg11, ExampleError> {
    let config = FineTuneConfig::new()
        .with_epochs(options.finetune)
        .with_learning_rate(options.lr)
        .with_label_smoothing(options.label_smoothing);
    let epoch = |epoch| -> Box<dyn Iterator<Item = Result<Batch<Tensor<4>>, DataError>>> {
        Box::new(train.epoch(epoch, options.seed, options.batch_size, !options.no_augment, device))
    };
    Ok(fine_tune(model, plan, epoch, train.len(), &config, bars)?)
}

/// The networks in turn on single images and on batches of 64: as trained, with zeros for what was pruned, and with that left
/// out.
fn latency(trained: &Vgg11, pruned: &Vgg11, device: &Device, bars: &Bars) -> Result<LatencyTable, ExampleError> {
    let noise = |samples| Tensor::random([samples, 3, SIDE, SIDE], Distribution::Uniform(-1.0, 1.0), device);
    let inputs = [1, 64].map(noise);
    let sparse = sparsify(pruned, &inputs[1], &SparseConfig::new())?;
    let models = [("trained", &trained.valid()), ("pruned", pruned), ("pruned, sparse", &sparse.model)];
    let models = if sparse.layers.is_empty() { &models[..2] } else { &models };
    Ok(LatencyTable::measure_with(models, &inputs, &LatencyConfig::new(), bars)?)
}

/// Burn writes to a temporary name and renames.
fn save(model: Vgg11, path: &Path) -> Result<(), ExampleError> {
    let fail = |error: burn::store::RecordError| ExampleError::Output { path: path.into(), message: error.to_string() };
    model.save_file(path).map_err(fail)
}

/// Seconds and result of some work.
fn timed<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let start = Instant::now();
    let result = work();
    (start.elapsed().as_secs_f64(), result)
}
