//! Long work reports its progress, stops where it is asked to, and keeps what it has done.

#[path = "common/inspect.rs"]
mod inspect;
#[path = "common/small.rs"]
mod small;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use burn::module::Module;
use burn::tensor::Tensor;
use burn_sfp_core::{
    Analysis, AnalyzeConfig, Batch, Calibration, GradientConfig, Progress, Readout, ReadoutInfo, SfpError, SkipSamples,
    TensorCalibration, analyze, analyze_network,
};
use burn_sfp_graph::latency::{LatencyConfig, LatencyTable};
use burn_sfp_prune::{FineTuneConfig, Magnitude, PruneError, Pruner, SaveConfig, fine_tune, load_pruned, save_pruned};
use inspect::bytes;
use small::{Small, images};
use tracing::span;

/// Cancels once this many steps are done, in whatever stage.
struct Stop {
    after: usize,
    done: Cell<usize>,
    stages: RefCell<Vec<String>>,
}

impl Stop {
    fn after(after: usize) -> Self {
        Self { after, done: Cell::new(0), stages: RefCell::default() }
    }
}

impl Progress for Stop {
    fn start(&self, stage: &str, _total: Option<usize>) {
        self.stages.borrow_mut().push(stage.into());
    }
    fn advance(&self, steps: usize) {
        self.done.set(self.done.get() + steps);
    }
    fn is_cancelled(&self) -> bool {
        self.done.get() >= self.after
    }
}

const SAMPLES: usize = 48;

fn data() -> TensorCalibration<Tensor<4>> {
    let (input, labels) = images(SAMPLES);
    TensorCalibration::new(input, labels, 8)
}

fn cancelled(config: &AnalyzeConfig, after: usize) -> (Result<Analysis, SfpError>, Vec<String>) {
    let stop = Stop::after(after);
    let found = analyze_network(&Small::new(1, true), &data(), config, &stop).map(|(_, analysis)| analysis);
    (found, stop.stages.into_inner())
}

#[test]
fn a_cancelled_analysis_is_that_of_the_samples_seen_and_goes_on_later() {
    let config = AnalyzeConfig::new().with_state(true);
    let model = Small::new(1, true);
    let whole = analyze(&model, &data(), &config).unwrap();
    for (after, seen) in [(1, 8), (8, 8), (9, 16), (40, 40)] {
        let part = cancelled(&config, after).0.unwrap();
        assert_eq!(part.samples, seen);
        let (input, labels) = images(SAMPLES);
        let first = TensorCalibration::new(input.slice_samples_to(seen as usize), labels[..seen as usize].to_vec(), 8);
        let alone = analyze(&model, &first, &config).unwrap();
        assert_eq!(part.layers[0].performance, alone.layers[0].performance, "as if there were no other samples");
        let rest = analyze(&model, &SkipSamples::new(&data(), seen as usize), &config).unwrap();
        let merged = part.merge(&rest).unwrap();
        assert_eq!(merged.samples, SAMPLES as u64);
        for (merged, whole) in merged.layers.iter().zip(&whole.layers) {
            let clusters = |layer: &burn_sfp_core::LayerAnalysis| {
                layer.performance.iter().map(|filter| filter.clusters.clone()).collect::<Vec<_>>()
            };
            assert_eq!(clusters(merged), clusters(whole), "{}", whole.path);
        }
    }
}

/// The first samples of a batch.
trait First {
    fn slice_samples_to(self, samples: usize) -> Self;
}

impl First for Tensor<4> {
    fn slice_samples_to(self, samples: usize) -> Self {
        self.slice_dim(0, 0..samples)
    }
}

#[test]
fn too_few_samples_are_an_error_that_says_so() {
    let (input, labels) = images(SAMPLES);
    let one_by_one = TensorCalibration::new(input, labels, 1);
    let found = analyze_network(&Small::new(1, false), &one_by_one, &AnalyzeConfig::new(), &Stop::after(3));
    assert!(matches!(&found, Err(SfpError::Cancelled { samples: 3 })), "{:?}", found.err());
}

#[test]
fn later_passes_stop_too() {
    let gradient = Readout::Gradient(GradientConfig::new().with_epochs(5));
    let config = AnalyzeConfig::new().with_readout(gradient);
    let (found, stages) = cancelled(&config, 2 * SAMPLES + 8);
    let found = found.unwrap();
    assert_eq!(found.samples, SAMPLES as u64);
    assert_eq!(stages.iter().filter(|stage| *stage == "readouts").count(), 2, "{stages:?}");
    let accuracy = |analysis: &Analysis| match &analysis.layers[0].readout {
        ReadoutInfo::Gradient { accuracy, .. } | ReadoutInfo::Ridge { accuracy, .. } => *accuracy,
        other => panic!("{other:?}"),
    };
    assert_eq!(accuracy(&found), None, "half a pass has no accuracy");
    assert!(accuracy(&analyze(&Small::new(1, true), &data(), &config).unwrap()).is_some());

    let config = AnalyzeConfig::new().with_accuracy(true);
    // Two layers are finished between the sweep and the pass for the accuracy.
    let (found, stages) = cancelled(&config, SAMPLES + 4);
    assert_eq!(accuracy(&found.unwrap()), None);
    assert_eq!(stages.last().unwrap(), "readout accuracy");
    let (found, _) = cancelled(&config, 1000);
    assert!(accuracy(&found.unwrap()).is_some());
}

#[test]
fn a_pruner_hands_back_the_analysis() {
    let (calibration, stop) = (data(), Stop::after(20));
    let pruner = Pruner::new(&calibration).policy(Magnitude::l2()).progress(&stop);
    let Err(PruneError::Cancelled { analysis }) = pruner.analyze_and_prune(&Small::new(1, true)) else {
        panic!("not cancelled")
    };
    assert_eq!(analysis.samples, 24);
}

#[test]
fn cancelled_training_keeps_its_steps() {
    let calibration = data();
    let pruned = Pruner::new(&calibration).policy(Magnitude::l2()).analyze_and_prune(&Small::new(1, true)).unwrap();
    let (input, labels) = images(12);
    let tune = |after: usize, epochs: f64| {
        let batches = |_| (0..4).map(|_| Ok(Batch { input: input.clone(), labels: labels.clone() }));
        let config = FineTuneConfig::new().with_epochs(epochs);
        fine_tune(pruned.model.clone(), &pruned.plan, batches, 48, &config, &Stop::after(after)).unwrap()
    };
    assert!(bytes(&tune(0, 2.0)) == bytes(&pruned.model.valid()), "no step");
    let stopped = tune(36, 2.0);
    assert!(bytes(&stopped) != bytes(&pruned.model.valid()), "three steps");
    assert!(bytes(&stopped) != bytes(&tune(1000, 2.0)), "not all eight");
    // What comes back can be saved and trained on.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stopped.safetensors");
    save_pruned(&stopped, &pruned.plan, &path, &SaveConfig::new()).unwrap();
    assert!(bytes(&load_pruned(Small::new(2, true), &path).unwrap().model) == bytes(&stopped));
}

#[test]
fn a_cancelled_table_holds_the_sizes_measured() {
    let model = Small::new(1, false);
    let inputs = [1, 2, 4].map(|samples| images(samples).0);
    let config = LatencyConfig::new().with_runs(2).with_warm_up(1);
    let stop = Stop::after(3);
    let table = LatencyTable::measure_with(&[("small", &model)], &inputs, &config, &stop).unwrap();
    assert_eq!(table.rows.len(), 1);
    assert_eq!(stop.stages.into_inner(), ["latency"]);
}

/// The names of all spans.
#[derive(Clone, Default)]
struct Names(Arc<Mutex<BTreeSet<&'static str>>>);

impl tracing::Subscriber for Names {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("burn_sfp")
    }
    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        self.0.lock().unwrap().insert(attributes.metadata().name());
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[test]
fn stages_are_spans() {
    let names = Names::default();
    // For all threads: which spans are wanted is remembered for the whole process. Other tests add theirs.
    tracing::subscriber::set_global_default(names.clone()).unwrap();
    let calibration = data();
    let config = AnalyzeConfig::new().with_accuracy(true);
    let pruner = Pruner::new(&calibration).policy(Magnitude::l2()).config(config);
    let pruned = pruner.analyze_and_prune(&Small::new(1, true)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.safetensors");
    pruned.save(&path).unwrap();
    load_pruned(Small::new(2, true), &path).unwrap();
    let found = names.0.lock().unwrap().clone();
    let expected = ["analyze", "apply", "load", "pass", "performance", "plan", "rank", "readout accuracy", "save"];
    assert!(expected.iter().all(|name| found.contains(name)), "{found:?}");
    assert_eq!(data().samples(), Some(SAMPLES));
}
