//! Many devices give what one gives, whichever of them fail meanwhile.

mod common;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::Duration;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use burn_sfp_core::{
    Analysis, AnalyzeConfig, Batch, DataError, DevicePool, FnCalibration, GradientConfig, NoProgress, Progress,
    Readout, Seconds, SfpError, SfpModule, TensorCalibration, analyze, analyze_on,
};
use burn_sfp_graph::{GraphModule, InputMapper, ModuleInput};
use common::{CLASSES, Cnn, images};

const SAMPLES: usize = 94;
const BATCH: usize = 5;

/// Everything but the seconds, bit for bit.
fn written(mut analysis: Analysis) -> String {
    analysis.seconds = Seconds::default();
    serde_json::to_string(&analysis).unwrap()
}

fn config() -> AnalyzeConfig {
    AnalyzeConfig::new().with_accuracy(true)
}

fn pool(devices: usize, chunk: usize) -> DevicePool {
    DevicePool::new((0..devices).map(|_| Device::flex())).chunk(chunk)
}

fn data() -> TensorCalibration<Tensor<4>> {
    let (input, labels) = images(SAMPLES, 1.0, 1, &Device::flex());
    TensorCalibration::new(input, labels, BATCH)
}

#[test]
fn one_two_and_four_devices_agree() {
    let model = Cnn::new(1, &Device::flex());
    let on = |devices, chunk| analyze_on(&model, &data(), &pool(devices, chunk), &config(), &NoProgress).unwrap().1;
    let alone = analyze(&model, &data(), &config()).unwrap();
    assert_eq!(alone.samples, SAMPLES as u64);
    // A single chunk is summed as without a pool.
    assert_eq!(written(on(2, 100)), written(alone.clone()));
    for chunk in [1, 2, 7] {
        let one = on(1, chunk);
        assert_eq!(one.counts, alone.counts);
        assert_eq!(one.top1, alone.top1);
        for (layer, expected) in one.layers.iter().zip(&alone.layers) {
            assert_eq!(layer.readout.accuracy(), expected.readout.accuracy(), "{}", layer.path);
            for (found, expected) in layer.performance.iter().zip(&expected.performance) {
                assert!((found.max - expected.max).abs() <= 1e-6 * expected.max.abs(), "{}", layer.path);
            }
        }
        let one = written(one);
        assert_eq!(written(on(2, chunk)), one);
        assert_eq!(written(on(4, chunk)), one);
    }
}

/// Images that a device cannot always take.
#[derive(Clone, Debug)]
struct Flaky(Tensor<4>);

/// Moves to a device in this process, and those after which it fails.
static MOVES: AtomicUsize = AtomicUsize::new(0);
static FAILS: Mutex<Vec<usize>> = Mutex::new(Vec::new());
/// Moves that last as long as they are here.
static HANGS: Mutex<Vec<usize>> = Mutex::new(Vec::new());
/// Samples of the largest batch that there is memory for.
static LACKS: AtomicUsize = AtomicUsize::new(usize::MAX);
/// The tests that count moves, one after the other.
static ALONE: Mutex<()> = Mutex::new(());

impl ModuleInput for Flaky {
    fn map_tensors<M: InputMapper>(self, mapper: &mut M) -> Self {
        Self(self.0.map_tensors(mapper))
    }

    fn to_device(self, device: &Device) -> Self {
        let moves = MOVES.fetch_add(1, Ordering::SeqCst);
        assert!(!FAILS.lock().unwrap().contains(&moves), "the connection is gone");
        while HANGS.lock().unwrap().contains(&moves) {
            sleep(Duration::from_millis(10));
        }
        // The capture is not counted.
        assert!(moves == 0 || self.0.dims()[0] <= LACKS.load(Ordering::SeqCst), "out of memory");
        Self(self.0.to_device(device))
    }
}

#[derive(Module, Debug)]
struct Remote {
    net: Cnn,
}

impl GraphModule for Remote {
    type Inputs = Flaky;
    type Outputs = Tensor<2>;
    fn run(&self, input: Flaky) -> Tensor<2> {
        self.net.logits(input.0)
    }
}

fn flaky() -> TensorCalibration<Flaky> {
    let (input, labels) = images(SAMPLES, 1.0, 1, &Device::flex());
    TensorCalibration::new(Flaky(input), labels, BATCH)
}

fn fails_at(moves: &[usize]) {
    MOVES.store(0, Ordering::SeqCst);
    *FAILS.lock().unwrap() = moves.to_vec();
}

#[test]
fn what_a_device_leaves_undone_another_one_does() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let model = Remote { net: Cnn::new(1, &Device::flex()) };
    let run = |devices| analyze_on(&model, &flaky(), &pool(devices, 3), &config(), &NoProgress);
    fails_at(&[]);
    let expected = written(run(1).unwrap().1);
    let moves = MOVES.load(Ordering::SeqCst);
    // The first one is that of the capture.
    for first in (1..moves).step_by(3) {
        // Three of four devices fail, some of them in the pass for the accuracies.
        fails_at(&[first, first + 4, first + 5]);
        assert_eq!(written(run(4).unwrap().1), expected, "after {first} moves");
    }
    fails_at(&[4]);
    let error = run(1).unwrap_err();
    assert!(error.to_string().contains("the connection is gone"), "{error}");
    fails_at(&(9..200).collect::<Vec<_>>());
    let error = run(3).unwrap_err();
    assert!(matches!(&error, SfpError::Devices { failures, .. } if failures.len() == 3), "{error:?}");
    assert!(error.to_string().contains("no device is left after") && !error.is_out_of_memory(), "{error}");
}

#[test]
fn a_device_that_does_not_answer_is_left_out() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let model = Remote { net: Cnn::new(1, &Device::flex()) };
    let run = |devices| {
        let pool = pool(devices, 3).time_limit(Duration::from_secs(3));
        analyze_on(&model, &flaky(), &pool, &config(), &NoProgress)
    };
    fails_at(&[]);
    let expected = written(run(1).unwrap().1);
    let moves = MOVES.load(Ordering::SeqCst);
    let hangs_at = |moves: &[usize]| {
        // Those that hung before go on with their chunks, whose moves are not to be counted.
        HANGS.lock().unwrap().clear();
        sleep(Duration::from_millis(500));
        fails_at(&[]);
        *HANGS.lock().unwrap() = moves.to_vec();
    };
    let longest = pool(2, 3).time_limit(Duration::MAX);
    let (_, found) = analyze_on(&model, &flaky(), &longest, &config(), &NoProgress).unwrap();
    assert_eq!(written(found), expected);
    // One of four in each pass; what the first one hands in when it goes on comes too late to count.
    hangs_at(&[2, moves - 8]);
    let (_, found) = run(4).unwrap();
    assert_eq!(written(found), expected);
    hangs_at(&[4]);
    let error = run(1).unwrap_err();
    assert!(matches!(&error, SfpError::Devices { failures, .. } if failures.len() == 1), "{error:?}");
    assert!(error.to_string().contains("longer than 3s, the pool's time limit"), "{error}");
    HANGS.lock().unwrap().clear();
}

#[test]
fn data_that_is_wrong_is_refused_as_on_one_device() {
    let model = Cnn::new(1, &Device::flex());
    let (input, labels) = images(40, 1.0, 1, &Device::flex());
    let batch = |k: usize| {
        let mut labels = labels[4 * k..4 * k + 4].to_vec();
        if k == 5 || k == 8 {
            labels[1] = CLASSES + k;
        }
        Batch { input: input.clone().slice_samples(4 * k, 4 * k + 4), labels }
    };
    let wrong = |unreadable: usize| {
        let batches: Vec<_> = (0..10).map(batch).collect();
        FnCalibration::new(move || {
            let all = batches.clone().into_iter().enumerate();
            all.map(move |(k, batch)| if k == unreadable { Err(DataError::from("a hole")) } else { Ok(batch) })
        })
    };
    for unreadable in [3, 6, 20] {
        let expected = analyze(&model, &wrong(unreadable), &config()).unwrap_err().to_string();
        for (devices, chunk) in [(1, 3), (3, 1), (4, 2)] {
            let pool = pool(devices, chunk);
            let error = analyze_on(&model, &wrong(unreadable), &pool, &config(), &NoProgress).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}

#[test]
fn settings_that_do_not_fit_are_refused() {
    let model = Cnn::new(1, &Device::flex());
    let gradient = AnalyzeConfig::new().with_readout(Readout::Gradient(GradientConfig::new()));
    let no_time = pool(2, 4).time_limit(Duration::ZERO);
    for (pool, config) in [(pool(0, 4), config()), (pool(2, 0), config()), (no_time, config()), (pool(2, 4), gradient)]
    {
        let error = analyze_on(&model, &data(), &pool, &config, &NoProgress).unwrap_err();
        assert!(matches!(error, SfpError::Config(_)), "{error}");
    }
    let none = FnCalibration::new(std::iter::empty::<Result<Batch<Tensor<4>>, DataError>>);
    let error = analyze_on(&model, &none, &pool(2, 4), &config(), &NoProgress).unwrap_err();
    assert!(matches!(error, SfpError::NoSamples), "{error}");
}

/// Stops after so many samples.
struct Stop {
    after: usize,
    seen: AtomicUsize,
}

impl Progress for Stop {
    fn advance(&self, steps: usize) {
        self.seen.fetch_add(steps, Ordering::SeqCst);
    }
    fn is_cancelled(&self) -> bool {
        self.seen.load(Ordering::SeqCst) >= self.after
    }
}

#[test]
fn what_was_merged_by_then_is_the_result_of_a_cancelled_analysis() {
    let model = Cnn::new(1, &Device::flex());
    for devices in [1, 3] {
        let stop = Stop { after: 40, seen: AtomicUsize::new(0) };
        let found = analyze_on(&model, &data(), &pool(devices, 2), &config(), &stop).unwrap().1;
        // Chunks of ten samples, merged in order.
        assert_eq!(found.samples, 40);
        let (input, labels) = images(SAMPLES, 1.0, 1, &Device::flex());
        let first = TensorCalibration::new(input.slice_samples(0, 40), labels[..40].to_vec(), BATCH);
        let config = AnalyzeConfig::new();
        let expected = analyze_on(&model, &first, &pool(1, 2), &config, &NoProgress).unwrap().1;
        assert_eq!(found.counts, expected.counts);
        for (layer, expected) in found.layers.iter().zip(&expected.layers) {
            assert_eq!(layer.performance, expected.performance);
        }
    }
}

/// The files of a folder.
fn files(folder: &std::path::Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

#[test]
fn an_analysis_goes_on_from_its_file() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let model = Remote { net: Cnn::new(1, &Device::flex()) };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sums");
    let kept = |devices| pool(devices, 2).checkpoint(&path, 3);
    let run = |pool: &DevicePool| analyze_on(&model, &flaky(), pool, &config(), &NoProgress);
    fails_at(&[]);
    let expected = written(run(&pool(1, 2)).unwrap().1);
    assert_eq!(written(run(&kept(2)).unwrap().1), expected);
    assert_eq!(files(folder.path()), 0, "it is removed in the end");
    // Lost, at each of its moves.
    let moves = MOVES.load(Ordering::SeqCst);
    let mut went_on = 0;
    for first in (2..moves).step_by(2) {
        fails_at(&[first]);
        let Err(error) = run(&kept(1)) else { continue };
        assert!(matches!(&error, SfpError::Devices { failures, .. } if failures.len() == 1), "{error}");
        assert_eq!(files(folder.path()), 1);
        fails_at(&[]);
        assert_eq!(written(run(&kept(3)).unwrap().1), expected, "after {first} moves");
        went_on += usize::from(MOVES.load(Ordering::SeqCst) < moves);
        assert_eq!(files(folder.path()), 0);
    }
    assert!(went_on > 5, "it starts anew");
    // Cancelled.
    let stop = Stop { after: 40, seen: AtomicUsize::new(0) };
    let part = analyze_on(&model, &flaky(), &kept(2), &config(), &stop).unwrap().1;
    assert_eq!(part.samples, 40);
    // Another model, other settings, other chunks.
    let other = Remote { net: Cnn::new(2, &Device::flex()) };
    let refused = [
        analyze_on(&other, &flaky(), &kept(2), &config(), &NoProgress),
        analyze_on(&model, &flaky(), &kept(2), &config().with_threshold(0.4), &NoProgress),
        analyze_on(&model, &flaky(), &kept(2).chunk(3), &config(), &NoProgress),
    ];
    for error in refused.map(Result::unwrap_err) {
        assert!(matches!(&error, SfpError::OtherCheckpoint { path: found } if *found == path), "{error}");
    }
    // Truncated, and something else.
    let whole = std::fs::read(&path).unwrap();
    for wrong in [&whole[..whole.len() / 2], b"{}".as_slice()] {
        std::fs::write(&path, wrong).unwrap();
        assert!(matches!(run(&kept(2)).unwrap_err(), SfpError::File(_)));
    }
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(written(run(&kept(2)).unwrap().1), expected);
}

/// Panics when it hears of the first samples.
struct Clumsy;

impl Progress for Clumsy {
    fn advance(&self, steps: usize) {
        assert_eq!(steps, 0, "the bar is broken");
    }
}

#[test]
fn a_panic_on_this_side_ends_the_threads_of_the_devices() {
    let model = Cnn::new(1, &Device::flex());
    let run = || analyze_on(&model, &data(), &pool(3, 2), &config(), &Clumsy);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    assert!(panicked.is_err());
}

#[test]
fn data_that_fails_where_it_is_skipped_is_an_error() {
    let model = Cnn::new(1, &Device::flex());
    let folder = tempfile::tempdir().unwrap();
    let pool = pool(2, 2).checkpoint(folder.path().join("sums"), 1);
    let stop = Stop { after: 40, seen: AtomicUsize::new(0) };
    analyze_on(&model, &data(), &pool, &config(), &stop).unwrap();
    let passes = AtomicUsize::new(0);
    let broken = FnCalibration::new(move || {
        let pass = passes.fetch_add(1, Ordering::SeqCst);
        let (input, labels) = images(SAMPLES, 1.0, 1, &Device::flex());
        let batches = (0..SAMPLES / BATCH).map(move |k| {
            let (from, to) = (k * BATCH, (k + 1) * BATCH);
            // The first pass is that of the capture.
            if pass > 0 && k == 3 {
                return Err(DataError::from("a hole"));
            }
            Ok(Batch { input: input.clone().slice_samples(from, to), labels: labels[from..to].to_vec() })
        });
        batches.collect::<Vec<_>>().into_iter()
    });
    let error = analyze_on(&model, &broken, &pool, &config(), &NoProgress).unwrap_err();
    assert!(matches!(error, SfpError::Data { batch: 3, .. }), "{error}");
    assert_eq!(files(folder.path()), 1, "the sums are still of use");
}

#[test]
fn sums_that_end_in_an_error_are_not_kept() {
    let model = Cnn::new(1, &Device::flex());
    let folder = tempfile::tempdir().unwrap();
    let pool = pool(2, 2).checkpoint(folder.path().join("sums"), 1);
    let (input, labels) = images(SAMPLES, 1.0, 1, &Device::flex());
    let one_label = TensorCalibration::new(input.clone(), vec![0; SAMPLES], BATCH);
    let error = analyze_on(&model, &one_label, &pool, &config(), &NoProgress).unwrap_err();
    assert!(matches!(error, SfpError::ClassWithoutSamples { .. }), "{error}");
    assert_eq!(files(folder.path()), 0);
    // Batches of another size are another analysis.
    let stop = Stop { after: 40, seen: AtomicUsize::new(0) };
    analyze_on(&model, &data(), &pool, &config(), &stop).unwrap();
    let other = TensorCalibration::new(input, labels, BATCH + 1);
    let error = analyze_on(&model, &other, &pool, &config(), &NoProgress).unwrap_err();
    assert!(matches!(error, SfpError::OtherCheckpoint { .. }), "{error}");
}

#[test]
fn batches_that_were_cut_are_cut_again() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let model = Remote { net: Cnn::new(1, &Device::flex()) };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sums");
    let kept = || pool(1, 2).checkpoint(&path, 1);
    let run = || analyze_on(&model, &flaky(), &kept(), &AnalyzeConfig::new(), &NoProgress);
    fails_at(&[]);
    LACKS.store(4, Ordering::SeqCst);
    let expected = written(run().unwrap().1);
    // Lost after some chunks of halves, and started again: it does not begin with whole batches.
    fails_at(&[9]);
    assert!(matches!(run().unwrap_err(), SfpError::Devices { .. }));
    assert_eq!(files(folder.path()), 1);
    fails_at(&[]);
    LACKS.store(usize::MAX, Ordering::SeqCst);
    assert_eq!(written(run().unwrap().1), expected);
    assert_eq!(files(folder.path()), 0);
}
