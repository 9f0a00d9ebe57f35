//! The whole way on a GPU, and proof that the kernels of this library run there: with Burn's feature `fusion` and without.
#![cfg(feature = "wgpu")]

#[path = "common/inspect.rs"]
mod inspect;
#[path = "../../burn-sfp-wgpu/tests/common/limit.rs"]
mod limit;
#[path = "common/sparse_net.rs"]
mod sparse_net;

use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use burn_sfp_core::{Analysis, AnalyzeConfig, NoProgress, SfpModule, TensorCalibration, analyze_network};
use burn_sfp_nn::bodies::{Body, Task, runs, with_portable};
use burn_sfp_prune::{Afcc, MagnitudeConnections, Planner, RankingPolicy, SfpRanking, SparseFormat, sparsify};
use inspect::values;
use sparse_net::{Net, assert_near, config, images, net};

/// The device; one test at a time, since the counters are the process's.
fn device() -> Option<(Device, MutexGuard<'static, ()>)> {
    static ONE: Mutex<()> = Mutex::new(());
    let alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    limit::limit_test();
    let device = burn_sfp_nn::tensor::wgpu_device();
    if device.is_none() {
        println!("skipped: no wgpu adapter");
    }
    Some((device?, alone))
}

const TASKS: [Task; 5] =
    [Task::ClassSums, Task::FilterPerformances, Task::SparseForward, Task::SparseGradInput, Task::SparseGradValues];

/// Calls `work` and returns its result, and how often each task ran by a body meanwhile.
fn counted<R>(body: Body, work: impl FnOnce() -> R) -> (R, [u64; 5]) {
    let before = TASKS.map(|task| runs(task, body));
    let result = work();
    let after = TASKS.map(|task| runs(task, body));
    (result, std::array::from_fn(|k| after[k] - before[k]))
}

fn analyse(model: &Net, seed: u64, device: &Device) -> (burn_sfp_graph::Network, Analysis) {
    let labels: Vec<usize> = (0..12).map(|k| k % 3).collect();
    let data = TensorCalibration::new(images(seed, 12).to_device(device), labels, 5);
    analyze_network(model, &data, &AnalyzeConfig::new(), &NoProgress).unwrap()
}

/// The network with seven tenths of its kernels gone.
fn sparse(net: &Net) -> Net {
    let (network, analysis) = analyse(net, 1, &Device::flex());
    let policy = MagnitudeConnections::l1().removing(0.7);
    let plan = Planner::new().keep_empty(true).plan(&network, &analysis, &policy).unwrap();
    sparsify(&plan.apply(net).unwrap(), &images(1, 3), &config(SparseFormat::Kernels)).unwrap().model
}

/// Logits, and the gradients of the input, of the kernels of a convolution and of a linear layer.
fn trained(model: &Net, device: &Device) -> [Vec<f32>; 4] {
    let model = model.clone().valid().fork(device).train();
    let x = images(9, 4).to_device(device).autodiff().require_grad();
    let logits = model.logits(x.clone());
    let gradients = (logits.clone() * logits.clone()).sum().backward();
    let of = |weight: &Param<Tensor<4>>| values(weight.val().grad(&gradients).expect("a gradient"));
    let hidden = values(model.hidden.weight.val().grad(&gradients).expect("a gradient"));
    [values(logits), values(x.grad(&gradients).expect("a gradient")), of(&model.deep.weight), hidden]
}

#[test]
fn every_kernel_runs_on_the_gpu() {
    let Some((device, _alone)) = device() else { return };
    let model = sparse(&net(3));
    let expected = trained(&model, &Device::flex());
    let work = || {
        analyse(&net(3).valid().fork(&device), 3, &device);
        // A capture of sparse layers runs nothing.
        burn_sfp_graph::Network::capture(&model.clone().valid().fork(&device), &images(3, 1).to_device(&device))
            .unwrap();
        trained(&model, &device)
    };
    let ((found, portable), there) = counted(Body::Device, || counted(Body::Portable, work));
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found.len(), expected.len());
        // Gradients of squares: relative to the largest element.
        let largest = expected.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-4 * largest), "{found:?} {expected:?}");
    }
    assert!(there.iter().all(|&count| count > 0), "{TASKS:?} ran {there:?} times by kernels");
    assert_eq!(portable, [0; 5], "{TASKS:?} ran by Burn's operations");
}

#[test]
fn the_portable_bodies_give_the_same() {
    let Some((device, _alone)) = device() else { return };
    let model = sparse(&net(4));
    let there = model.clone().valid().fork(&device);
    let x = images(4, 5).to_device(&device);
    let expected = values(there.logits(x.clone()));
    let work = || with_portable(|| (values(there.logits(x)), analyse(&there, 4, &device).1));
    let (((found, portable), there), ran) = (counted(Body::Device, || counted(Body::Portable, work)), TASKS);
    assert_near(&found.0, &expected);
    assert_eq!(there, [0; 5], "{ran:?} ran by kernels");
    assert!(portable[0] > 0 && portable[2] > 0, "{ran:?} ran {portable:?} times");
    let by_kernels = analyse(&model.valid().fork(&device), 4, &device).1;
    for (a, b) in found.1.layers.iter().zip(&by_kernels.layers) {
        for (a, b) in a.performance.iter().zip(&b.performance) {
            assert!((a.max - b.max).abs() <= 1e-3 * b.max.abs().max(1e-3), "{} instead of {}", a.max, b.max);
        }
    }
}

/// A wrong shape is reported by the layer, as on the CPU, and not by whoever reads a result later.
#[test]
fn an_input_that_does_not_fit_is_refused_at_once() {
    let Some((device, _alone)) = device() else { return };
    let model = sparse(&net(5)).valid().fork(&device);
    let wrong = Tensor::<4>::zeros([1, 3, 6, 6], &device);
    let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(model.stem.forward(wrong))));
    assert!(refused.is_err());
    assert_eq!(model.logits(images(5, 2).to_device(&device)).dims(), [2, 3]);
}

/// A plan made on another device is the same, but for ties, and so is what the sparse model computes there.
#[test]
fn plans_and_sparse_models_are_those_of_the_cpu() {
    let Some((device, _alone)) = device() else { return };
    let mut compared = 0;
    for seed in 0..4 {
        let net = net(seed);
        let there = net.valid().fork(&device);
        let ((network, ours), (network_there, theirs)) =
            (analyse(&net, seed, &Device::flex()), analyse(&there, seed, &device));
        let ties = |analysis: &Analysis| analysis.layers.iter().any(|layer| !layer.near_threshold().is_empty());
        let policies: [&dyn RankingPolicy; 3] =
            [&Afcc::new(), &MagnitudeConnections::l1().removing(0.7), &SfpRanking::new()];
        for policy in policies {
            let plan = Planner::new().keep_empty(true).plan(&network, &ours, policy).unwrap();
            let mut other = Planner::new().keep_empty(true).plan(&network_there, &theirs, policy).unwrap();
            if !ties(&ours) && !ties(&theirs) {
                // Means are sums in single precision there; what is removed is the same.
                assert_eq!(plan.bias_corrections.len(), other.bias_corrections.len());
                other.bias_corrections.clone_from(&plan.bias_corrections);
                let other = other.sealed().unwrap();
                assert_eq!(plan, other, "seed {seed}, {}", policy.name());
                compared += 1;
            }
            let x = images(seed, 3);
            let masked = plan.apply(&net).unwrap();
            let sparse = sparsify(&masked, &x, &config(SparseFormat::Kernels)).unwrap().model;
            let expected = values(masked.logits(x.clone()));
            let moved = sparse.valid().fork(&device);
            assert_near(&values(moved.logits(x.to_device(&device))), &expected);
        }
    }
    assert!(compared > 0, "every case had ties");
}
