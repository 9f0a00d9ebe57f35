//! Many devices recover what one does, whichever of them fail meanwhile.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use burn_sfp_core::{DevicePool, NoProgress, SfpError, TensorCalibration};
use burn_sfp_graph::{GraphModule, InputMapper, ModuleInput};
use burn_sfp_nn::Shrink;
use burn_sfp_prune::{Planner, PruneError, Pruner, Recover, RecoveryStep, SfpRanking, recover, recover_on};

use super::graph::inspect::{bytes, values};
use super::limits::CancelAfter;
use super::net::{LastFirst, Net, calibration, images};
use super::steps::pruned;

fn pool(devices: usize, chunk: usize) -> DevicePool {
    DevicePool::new((0..devices).map(|_| Device::flex())).chunk(chunk)
}

#[test]
fn one_two_and_four_devices_agree() {
    let net = Net::new(5);
    let made = pruned(&net, &[]);
    let data = calibration(13);
    let plain = recover(&net, &made.model, &made.plan, &data, &Recover::new(), &NoProgress).unwrap();
    let on = |devices, chunk| {
        let pool = pool(devices, chunk);
        let found = recover_on(&net, &made.model, &made.plan, &data, &Recover::new(), &pool, &NoProgress).unwrap();
        assert_eq!((found.report.samples, found.report.all_samples), (13, true));
        let corrected = |of: &burn_sfp_prune::RecoveryReport| -> Vec<(String, RecoveryStep)> {
            of.corrected.iter().map(|corrected| (corrected.path.clone(), corrected.step)).collect()
        };
        assert_eq!(corrected(&found.report), corrected(&plain.report));
        found.model
    };
    // A single chunk is summed as without a pool.
    assert_eq!(bytes(&on(3, 100)), bytes(&plain.model));
    let one = on(1, 1);
    assert_eq!(bytes(&on(2, 1)), bytes(&one));
    assert_eq!(bytes(&on(4, 1)), bytes(&one));
    // A sum in another order.
    let (logits, expected) = (values(one.run(images(4, 3))), values(plain.model.run(images(4, 3))));
    let largest = expected.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    assert!(logits.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-3 * largest), "{logits:?} {expected:?}");
}

#[test]
fn each_device_has_its_own_memory() {
    let net = Net::new(1);
    let made = pruned(&net, &[]);
    // One batch of 5 samples on each.
    let config = Recover::new().memory(1);
    let on = |devices: usize, chunk: usize| {
        let pool = pool(devices, chunk);
        recover_on(&net, &made.model, &made.plan, &calibration(13), &config, &pool, &NoProgress).unwrap().report
    };
    for chunk in [1, 16] {
        let counted = [1, 2, 3].map(|devices| on(devices, chunk)).map(|report| (report.samples, report.all_samples));
        assert_eq!(counted, [(5, false), (10, false), (13, true)]);
    }
    // As much as one device with the same samples.
    let first = TensorCalibration::new(images(13, 11).narrow(0, 0, 10), vec![0; 10], 5);
    let alone = recover_on(&net, &made.model, &made.plan, &first, &Recover::new(), &pool(1, 1), &NoProgress).unwrap();
    let both = recover_on(&net, &made.model, &made.plan, &calibration(13), &config, &pool(2, 1), &NoProgress).unwrap();
    assert_eq!(bytes(&both.model), bytes(&alone.model));
}

#[test]
fn cancelled_work_returns_what_is_done() {
    let net = Net::new(3);
    let made = pruned(&net, &[]);
    let run = |asked: usize| {
        let progress = CancelAfter(AtomicUsize::new(asked));
        recover_on(&net, &made.model, &made.plan, &calibration(13), &Recover::new(), &pool(2, 1), &progress).unwrap()
    };
    let none = run(2);
    assert_eq!(bytes(&none.model), bytes(&made.model));
    assert!(!none.report.all_samples && none.report.corrected.is_empty());
    // Three batches, the end of reading, one layer.
    let one = run(5);
    let paths: Vec<&str> = one.report.corrected.iter().map(|corrected| corrected.path.as_str()).collect();
    assert_eq!(paths, ["grouped"]);
}

#[test]
fn a_pruner_recovers_on_its_devices() {
    let net = Net::new(6);
    let data = TensorCalibration::new(images(12, 2), (0..12).map(|n| n % 3).collect(), 4);
    let prune = |devices| {
        Pruner::new(&data).policy(SfpRanking::new()).devices(pool(devices, 1)).analyze_and_prune(&net).unwrap()
    };
    let (one, three) = (prune(1), prune(3));
    assert!(!one.recovery.unwrap().corrected.is_empty());
    assert_eq!(bytes(&three.model), bytes(&one.model));
}

/// Images that a device cannot always take.
#[derive(Clone, Debug)]
struct Flaky(Tensor<4>);

/// Moves to a device in this process, and those after which it fails.
static MOVES: AtomicUsize = AtomicUsize::new(0);
static FAILS: Mutex<Vec<usize>> = Mutex::new(Vec::new());

impl ModuleInput for Flaky {
    fn map_tensors<M: InputMapper>(self, mapper: &mut M) -> Self {
        Self(self.0.map_tensors(mapper))
    }

    fn to_device(self, device: &Device) -> Self {
        let moves = MOVES.fetch_add(1, Ordering::SeqCst);
        assert!(!FAILS.lock().unwrap().contains(&moves), "the connection is gone");
        Self(self.0.to_device(device))
    }
}

#[derive(Module, Debug, Shrink)]
struct Remote {
    net: Net,
}

impl GraphModule for Remote {
    type Inputs = Flaky;
    type Outputs = Tensor<2>;
    fn run(&self, input: Flaky) -> Tensor<2> {
        self.net.run(input.0)
    }
}

#[test]
fn what_a_device_leaves_undone_another_one_does() {
    let net = Remote { net: Net::new(7) };
    let x = Flaky(images(13, 11));
    let made = Planner::new().prune(&net, &x, &LastFirst { masked: &[] }).unwrap();
    let data = TensorCalibration::new(x, vec![0; 13], 2);
    let run = |devices, fails: &[usize]| {
        MOVES.store(0, Ordering::SeqCst);
        *FAILS.lock().unwrap() = fails.to_vec();
        recover_on(&net, &made.model, &made.plan, &data, &Recover::new(), &pool(devices, 2), &NoProgress)
    };
    let expected = bytes(&run(1, &[]).unwrap().model);
    let moves = MOVES.load(Ordering::SeqCst);
    assert!(moves >= 13, "both networks load each batch: {moves}");
    // The first two are those of the captures.
    for first in 2..moves {
        // Two of three devices fail.
        assert_eq!(bytes(&run(3, &[first, first + 3]).unwrap().model), expected, "after {first} moves");
    }
    let error = run(2, &(3..200).collect::<Vec<_>>()).map(|_| ()).unwrap_err();
    let PruneError::Analysis(SfpError::Devices { failures, .. }) = &error else { panic!("{error}") };
    assert_eq!(failures.len(), 2, "{error}");
}

#[test]
fn a_pool_without_devices_is_refused() {
    let net = Net::new(4);
    let made = pruned(&net, &[]);
    let data = calibration(13);
    let error = recover_on(&net, &made.model, &made.plan, &data, &Recover::new(), &pool(0, 1), &NoProgress);
    assert!(matches!(error.map(|_| ()), Err(PruneError::Config(_))));
    // What is wrong with the data is no failure of a device.
    let wrong = TensorCalibration::new(images(4, 1) * f32::NAN, vec![0; 4], 2);
    let error = recover_on(&net, &made.model, &made.plan, &wrong, &Recover::new(), &pool(2, 1), &NoProgress);
    let error = error.map(|_| ()).unwrap_err();
    assert!(
        matches!(error, PruneError::Analysis(SfpError::NonFiniteInput { .. } | SfpError::NonFiniteOutput { .. })),
        "{error}"
    );
}
