//! Pruning by magnitude, half of each layer, over one forward pass on one image.

use std::hint::black_box;
use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};
use burn_sfp::graph::Network;
use burn_sfp::prelude::{Magnitude, Planner, SfpModule};
use models::densenet::DenseNetConfig;
use models::random::randomise;
use models::resnet::ResNetConfig;
use models::vit::VitConfig;

use crate::Result;
use crate::measure::{Kind, Pairs, Row, Unit, median};
use crate::subject::Session;

/// Names of the rows.
pub const RESNET: &str = "prune_resnet50";
/// See [`RESNET`].
pub const DENSENET: &str = "prune_densenet121";
/// See [`RESNET`].
pub const VIT: &str = "prune_vit_s16";
/// What they measure.
pub const ABOUT_RESNET: &str = "capture, plan (magnitude, half of each layer) and rewriting of ResNet-50 over one \
                                forward pass on one 224x224 image; at most 1";
/// See [`ABOUT_RESNET`].
pub const ABOUT_DENSENET: &str = "the same of DenseNet-121; at most 1";
/// See [`ABOUT_RESNET`].
pub const ABOUT_VIT: &str = "the same of ViT-S/16; at most 1";

const SIDE: usize = 224;

/// Measures ResNet-50.
///
/// # Errors
/// As pruning.
pub fn resnet(session: &Session) -> Result<Row> {
    measure(session, RESNET, "ResNet-50", &ResNetConfig::resnet50().init(&Device::flex()))
}

/// Measures DenseNet-121.
///
/// # Errors
/// As pruning.
pub fn densenet(session: &Session) -> Result<Row> {
    measure(session, DENSENET, "DenseNet-121", &DenseNetConfig::densenet121().init(&Device::flex()))
}

/// Measures ViT-S/16.
///
/// # Errors
/// As pruning.
pub fn vit(session: &Session) -> Result<Row> {
    measure(session, VIT, "ViT-S/16", &VitConfig::small_16().init(&Device::flex()))
}

/// Seconds of the parts of pruning.
#[derive(Clone, Copy, Debug, Default)]
pub struct Parts {
    /// [`Network::capture`].
    pub capture: f64,
    /// [`Planner::plan`]: ranking, groups, closure.
    pub plan: f64,
    /// [`PrunePlan::apply`](burn_sfp::prelude::PrunePlan::apply).
    pub rewrite: f64,
    /// All of them, and the release of the captured network.
    pub all: f64,
    /// [`Planner::prune`]: all of them, and the capture of the smaller module that verifies it.
    pub verified: f64,
    /// Bytes of the parameters before and after.
    bytes: (u64, u64),
}

/// Prunes once by parts and once with verification.
///
/// # Errors
/// As pruning.
pub fn prune<M: SfpModule>(model: &M, input: &M::Inputs) -> Result<Parts> {
    let (planner, magnitude) = (Planner::new(), Magnitude::l2());
    let started = Instant::now();
    let network = Network::capture(model, input)?;
    let captured = started.elapsed().as_secs_f64();
    let plan = planner.plan(&network, None, &magnitude)?;
    let planned = started.elapsed().as_secs_f64();
    let smaller = black_box(plan.apply(model)?);
    let rewritten = started.elapsed().as_secs_f64();
    drop(network);
    let all = started.elapsed().as_secs_f64();
    drop(smaller);
    let started = Instant::now();
    black_box(planner.prune(model, input, &magnitude)?);
    Ok(Parts {
        capture: captured,
        plan: planned - captured,
        rewrite: rewritten - planned,
        all,
        verified: started.elapsed().as_secs_f64(),
        bytes: (4 * plan.parameters_before, 4 * plan.parameters_after),
    })
}

/// The median of a part, in milliseconds; the pair to warm up does not count.
pub fn milliseconds(parts: &[Parts], of: impl Fn(&Parts) -> f64) -> f64 {
    1e3 * median(&parts.iter().skip(1).map(of).collect::<Vec<f64>>())
}

fn measure<M: SfpModule<Inputs = Tensor<4>>>(
    session: &Session,
    row: &'static str,
    name: &str,
    model: &M,
) -> Result<Row> {
    let device = Device::flex();
    let model = randomise(model, 0);
    let image = Tensor::random([1, 3, SIDE, SIDE], Distribution::Uniform(-1.0, 1.0), &device);
    let mut parts = Vec::new();
    let ours = || {
        device.sync()?;
        let new = prune(&model, &image)?;
        parts.push(new);
        Ok(new.all)
    };
    let forward = || {
        device.sync()?;
        let started = Instant::now();
        black_box(model.logits(image.clone()).into_data());
        Ok(started.elapsed().as_secs_f64())
    };
    let pairs = Pairs::in_turn(session.pairs, ours, forward)?;
    let (before, after) = parts.last().map(|parts| parts.bytes).unwrap_or_default();
    let bandwidth = bandwidth(before as usize);
    let note = format!(
        "capture {:.1} ms, ranking, groups and plan {:.1} ms, rewriting {:.1} ms and the release of the captured network, \
         over one forward pass: {name}, random weights, one image of {SIDE}x{SIDE}, flex; magnitude (L2), half of each \
         layer; with the capture of the smaller network that verifies it {:.1} ms; wanted: at most 1; floor: {:.1} MB of \
         weights read and {:.1} MB written, {:.1} ms at the {:.1} GB/s (read and written) of a copy of the weights",
        milliseconds(&parts, |parts| parts.capture),
        milliseconds(&parts, |parts| parts.plan),
        milliseconds(&parts, |parts| parts.rewrite),
        milliseconds(&parts, |parts| parts.verified),
        1e-6 * before as f64,
        1e-6 * after as f64,
        1e3 * (before + after) as f64 / bandwidth,
        1e-9 * bandwidth
    );
    Ok(pairs.row(row, Kind::Cost, Unit::Seconds, note))
}

/// Bytes a second, read and written ones together, of a copy of this many bytes into memory that is mapped already.
fn bandwidth(bytes: usize) -> f64 {
    let (from, mut to) = (vec![1u8; bytes], vec![2u8; bytes]);
    let seconds: Vec<f64> = (0..5)
        .map(|_| {
            let started = Instant::now();
            black_box(&mut to).copy_from_slice(black_box(&from));
            started.elapsed().as_secs_f64()
        })
        .collect();
    2.0 * bytes as f64 / median(&seconds)
}
