//! Training that is cancelled or killed goes on from its checkpoint, and ends with the same bits.

use std::cell::Cell;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use burn::grad_clipping::GradientClippingConfig;
use burn::module::{Module, ModuleMapper};
use burn::tensor::DType;
use burn_sfp_core::{Progress, TensorCalibration};
use burn_sfp_prune::{Distillation, FineTune, FineTuned, PruneError};
use rand::RngExt;

use crate::inspect::bytes;
use crate::networks::Dropped;
use crate::*;

/// Stops after so many calls of `is_cancelled`.
struct Stop {
    after: usize,
    asked: Cell<usize>,
}

impl Progress for Stop {
    fn is_cancelled(&self) -> bool {
        self.asked.set(self.asked.get() + 1);
        self.asked.get() > self.after
    }
}

fn never() -> Stop {
    Stop { after: usize::MAX, asked: Cell::new(0) }
}

/// Everything at once: dropout, momentum, distillation, augmentation, clipping, held-out data.
fn tune(folder: Option<&Path>, on_store: bool, progress: &Stop) -> Result<FineTuned<Dropped>, PruneError> {
    let mut original = Dropped::new(11);
    (original.stem, original.norm) = (original.stem.freeze(), original.norm.freeze());
    let made = pruned(&original, &["hidden"]);
    let held_out = TensorCalibration::new(copy(50), (0..SAMPLES).map(label).collect(), 6);
    let config =
        config().with_epochs(5.5).with_all_layers(true).with_gradient_clipping(Some(GradientClippingConfig::Norm(0.5)));
    let noisy = |input: Images, seed: u64| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        input * Tensor::<1>::from_floats([rng.random_range(0.8..1.2_f32)], &Device::flex()).reshape([1, 1, 1, 1])
    };
    let mut tune = FineTune::new(&made.plan)
        .config(config)
        .distill(&original, Distillation::new())
        .augment(noisy)
        .held_out(&held_out)
        .seed(3);
    if let Some(folder) = folder {
        tune = tune.checkpoint(folder.join("training"), 3);
    }
    if on_store {
        let store = store();
        let file = folder.map(|folder| folder.join("a.store"));
        return tune
            .store(file.map_or(store.clone(), |file| store.file(file)))
            .run(made.model, pass, SAMPLES, progress);
    }
    tune.run(made.model, epoch(7, 3), SAMPLES, progress)
}

fn same(found: &FineTuned<Dropped>, expected: &FineTuned<Dropped>) {
    assert_eq!(found.epochs, expected.epochs);
    assert_eq!(found.best, expected.best);
    assert_eq!(bytes(&found.model), bytes(&expected.model));
}

#[test]
fn cancelled_at_twenty_points() {
    let _alone = alone();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for on_store in [false, true] {
        let expected = tune(None, on_store, &never()).unwrap();
        assert_eq!(expected.epochs.len(), 6);
        for _ in 0..10 {
            let folder = tempfile::tempdir().unwrap();
            let mut done = None;
            for _ in 0..40 {
                let stop = Stop { after: rng.random_range(0..14), asked: Cell::new(0) };
                let tuned = tune(Some(folder.path()), on_store, &stop).unwrap();
                if stop.asked.get() <= stop.after {
                    done = Some(tuned);
                    break;
                }
            }
            let done = done.unwrap_or_else(|| tune(Some(folder.path()), on_store, &never()).unwrap());
            same(&done, &expected);
            // Once more: training is over.
            same(&tune(Some(folder.path()), on_store, &never()).unwrap(), &expected);
        }
    }
}

/// A process that trains in a folder until it is killed, and makes a file there when it begins.
fn start(folder: &Path, on_store: bool) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "killed::killed_twenty_times"]).env("BURN_SFP_KILLED", folder);
    if on_store {
        child.env("BURN_SFP_KILLED_STORE", "1");
    }
    child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn killed_twenty_times() {
    const KILLS: usize = 10;
    let _alone = alone();
    if let Some(folder) = std::env::var_os("BURN_SFP_KILLED") {
        let on_store = std::env::var_os("BURN_SFP_KILLED_STORE").is_some();
        std::fs::write(Path::new(&folder).join("begun"), "").unwrap();
        tune(Some(Path::new(&folder)), on_store, &never()).unwrap();
        return;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for on_store in [false, true] {
        let clock = Instant::now();
        let expected = tune(None, on_store, &never()).unwrap();
        let whole = clock.elapsed();
        let (mut kills, mut trainings) = (0, 0);
        while kills < KILLS {
            let folder = tempfile::tempdir().unwrap();
            let begun = folder.path().join("begun");
            let mut is_done = false;
            while kills < KILLS && !is_done {
                let mut child = start(folder.path(), on_store);
                let started = Instant::now();
                while !begun.exists() {
                    assert!(started.elapsed() < Duration::from_secs(120), "the process trains nothing");
                    std::thread::sleep(Duration::from_millis(1));
                }
                std::thread::sleep(whole.mul_f64(rng.random_range(0.0..0.6)));
                child.kill().unwrap();
                is_done = child.wait().unwrap().success();
                kills += usize::from(!is_done);
                std::fs::remove_file(&begun).unwrap();
            }
            same(&tune(Some(folder.path()), on_store, &never()).unwrap(), &expected);
            trainings += 1;
            assert!(trainings < 50, "processes end before they are killed");
        }
        println!("{kills} kills in {trainings} trainings of {whole:?}");
    }
}

#[test]
fn another_trainings_checkpoint() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    tune(Some(folder.path()), false, &Stop { after: 5, asked: Cell::new(0) }).unwrap();
    let made = pruned(&Dropped::new(12), &["stem", "hidden"]);
    let tune = || FineTune::new(&made.plan).config(config()).checkpoint(folder.path().join("training"), 0);
    let error = tune().run(made.model.clone(), pass, SAMPLES, &never()).unwrap_err();
    assert!(matches!(error, PruneError::OtherCheckpoint { .. }), "{error}");
    let whole = std::fs::read(folder.path().join("training")).unwrap();
    std::fs::write(folder.path().join("training"), &whole[..whole.len() / 2]).unwrap();
    let error = tune().run(made.model.clone(), pass, SAMPLES, &never()).unwrap_err();
    assert!(matches!(error, PruneError::File(_)), "{error}");
}

#[test]
fn checkpoints_are_for_single_precision() {
    let _alone = alone();
    struct Double;
    impl ModuleMapper for Double {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|tensor| tensor.cast(DType::F64))
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let made = pruned(&Dropped::new(12), &["stem", "hidden"]);
    let tune = FineTune::new(&made.plan).config(config()).checkpoint(folder.path().join("training"), 0);
    let error = tune.run(made.model.clone().map(&mut Double), pass, SAMPLES, &never()).unwrap_err();
    assert!(matches!(error, PruneError::Config(_)) && error.to_string().contains("F64"), "{error}");
}

#[test]
fn the_best_epoch_is_returned_and_patience_ends_training() {
    let _alone = alone();
    let made = pruned(&Dropped::new(13), &["stem", "hidden"]);
    let held_out = TensorCalibration::new(copy(0), (0..SAMPLES).map(label).collect(), SAMPLES);
    let mut seen = Vec::new();
    let tuned = FineTune::new(&made.plan)
        .config(config().with_epochs(30.0))
        .held_out(&held_out)
        .patience(2)
        .on_epoch(|report| seen.push(report.clone()))
        .run(made.model.clone(), pass, SAMPLES, &never())
        .unwrap();
    assert_eq!(seen, tuned.epochs);
    let accuracies: Vec<f64> = tuned.epochs.iter().map(|epoch| epoch.held_out.unwrap().accuracy).collect();
    let best = tuned.best.unwrap();
    assert!(accuracies[..best].iter().all(|accuracy| *accuracy < accuracies[best]));
    assert!(accuracies[best..].iter().all(|accuracy| *accuracy <= accuracies[best]));
    assert!(tuned.epochs.len() == 30 || tuned.epochs.len() == best + 3, "{accuracies:?}");
    let logits = SfpModule::logits(&tuned.model, copy(0));
    let largest: Vec<i64> = logits.argmax(1).into_data().iter::<i64>().collect();
    let right = largest.iter().enumerate().filter(|(sample, class)| label(*sample) == **class as usize).count();
    assert_eq!(right as f64 / SAMPLES as f64, accuracies[best]);
}
