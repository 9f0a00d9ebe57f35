//! Kernels on the default wgpu device against the portable bodies there, with Burn's operations fused or not, as this build has it.

use std::time::Instant;

use burn::module::Module;
use burn::tensor::{Device, Distribution, Tensor};
use burn_sfp::core::performance::device_filter_performances;
use burn_sfp::graph::latency::fetch;
use burn_sfp::nn::SparseConv2d;
use burn_sfp::nn::bodies::with_portable;
use burn_sfp::prelude::*;
use ndarray::Array3;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use support::DeviceName;

use crate::measure::{Kind, Pairs, Row, Unit, seconds};
use crate::sparse::{Case, WIDTH};
use crate::subject::Session;
use crate::{Bench, Result};

/// The rows.
pub const ROWS: &[Bench] = &[
    Bench {
        name: "gpu_sweep_vs_portable",
        about: "sweep of the VGG-11 (class sums of ten layers, every position, no readout fitted) on the default wgpu device, by the \
                kernel for class sums against Burn's operations",
        run: sweep,
    },
    Bench {
        name: "gpu_performances_vs_host",
        about: "performance matrices and clusters of 512 filters of 4 positions for 100 labels, on the default wgpu device against the CPU",
        run: performances,
    },
    Bench {
        name: "gpu_sparse_conv_vs_portable",
        about: "3x3 convolution 512 -> 512 on 64 maps of 8x8 with 90 % of its kernels gone, on the default wgpu device, by the sparse \
                kernel against Burn's operations",
        run: |session| convolution(session, "gpu_sparse_conv_vs_portable", forward),
    },
    Bench {
        name: "gpu_sparse_training_vs_portable",
        about: "the same, forward and backward",
        run: |session| convolution(session, "gpu_sparse_training_vs_portable", training),
    },
];

/// What the notes say of the device.
fn about() -> &'static str {
    if fuses() { "the default wgpu device, Burn's operations fused" } else { "the default wgpu device, nothing fused" }
}

#[cfg(feature = "wgpu")]
fn fuses() -> bool {
    burn_sfp::nn::tensor::fuses()
}

#[cfg(not(feature = "wgpu"))]
fn fuses() -> bool {
    false
}

fn sweep(session: &Session) -> Result<Row> {
    let device = DeviceName::Wgpu.device()?;
    let subject = session.subject()?;
    let config = subject.without_fitting()?;
    let model = subject.model().clone().fork(&device);
    let analysis = || -> Result<f64> { Ok(analyze(&model, subject.calibration(), config)?.seconds.sweep) };
    let pairs = Pairs::in_turn(session.pairs, analysis, || with_portable(analysis))?;
    let note = format!("the sweep's own seconds, forward passes included: {}, but on {}", subject.about(), about());
    Ok(pairs.row("gpu_sweep_vs_portable", Kind::Speedup, Unit::Seconds, note))
}

fn performances(session: &Session) -> Result<Row> {
    let device = DeviceName::Wgpu.device()?;
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let (classes, filters, positions) = (100, WIDTH, 4);
    let means = Array3::from_shape_simple_fn((classes, filters, positions), || rng.random_range(-1.0_f32..1.0));
    let readout = Array3::from_shape_simple_fn((filters, positions, classes), || rng.random_range(-1.0_f32..1.0));
    let on = |device: &Device| {
        seconds(|| {
            std::hint::black_box(device_filter_performances("layer", &means, &readout, 0.3, device)?);
            Ok(())
        })
    };
    let pairs = Pairs::in_turn(session.pairs, || on(&device), || on(&Device::flex()))?;
    let note = format!(
        "clusters are found on the CPU in both: {} against the CPU's kernels; floor: {:.2} G multiply-adds, twice on the device",
        about(),
        1e-9 * (filters * positions * classes * classes) as f64
    );
    Ok(pairs.row("gpu_performances_vs_host", Kind::Speedup, Unit::Seconds, note))
}

type Step = fn(&SparseConv2d, &Tensor<4>) -> Result<f64>;

fn convolution(session: &Session, name: &'static str, step: Step) -> Result<Row> {
    let device = DeviceName::Wgpu.device()?;
    let case = Case { gone: 90, side: 8, batch: 64 };
    let layer = case.sparse(&device)?;
    let x = Tensor::random([case.batch, WIDTH, case.side, case.side], Distribution::Uniform(-1.0, 1.0), &device);
    let pairs = Pairs::in_turn(session.pairs, || step(&layer, &x), || with_portable(|| step(&layer, &x)))?;
    let note = format!(
        "{}; the portable body is a dense convolution over a weight with zeros; floor: {:.2} G of {:.2} G multiply-adds a forward pass",
        about(),
        0.1e-9 * case.macs(),
        1e-9 * case.macs()
    );
    Ok(pairs.row(name, Kind::Speedup, Unit::Seconds, note))
}

fn forward(layer: &SparseConv2d, x: &Tensor<4>) -> Result<f64> {
    let started = Instant::now();
    fetch(&layer.forward(x.clone()).try_into_data()?);
    Ok(started.elapsed().as_secs_f64())
}

fn training(layer: &SparseConv2d, x: &Tensor<4>) -> Result<f64> {
    let layer = layer.clone().train();
    let x = x.clone().autodiff().require_grad();
    let started = Instant::now();
    let y = layer.forward(x.clone());
    let gradients = (y.clone() * y).sum().backward();
    let of_weight = layer.weight.val().grad(&gradients).ok_or("the weight has no gradient")?;
    let of_x = x.grad(&gradients).ok_or("the input has no gradient")?;
    fetch(&of_weight.try_into_data()?);
    fetch(&of_x.try_into_data()?);
    Ok(started.elapsed().as_secs_f64())
}
