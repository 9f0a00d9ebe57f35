//! The last convolution of the trained network against an independent double-precision program.
//!
//! The files lie in the folder that `BURN_SFP_SHARED` names, or in `shared` next to the repository; without them the
//! test says so and passes.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use burn_sfp::core::{AnalyzeConfig, ReadoutInfo, analyze};
use serde::Deserialize;
use vgg11_cifar100::cifar::Cifar;
use vgg11_cifar100::weights;

#[derive(Deserialize)]
struct Golden {
    samples: usize,
    top1: f64,
    filters: Vec<GoldenFilter>,
}

#[derive(Deserialize)]
struct GoldenFilter {
    clusters: Vec<Vec<usize>>,
    noise: usize,
    column_noise: usize,
    max: f64,
    near: bool,
}

fn shared() -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    std::env::var_os("BURN_SFP_SHARED").map_or_else(beside, PathBuf::from)
}

#[test]
fn the_last_convolution_matches_the_independent_program() {
    let shared = shared();
    let golden = shared.join("data/golden-layer10.json");
    let weights = shared.join("models/vgg11_cifar100.safetensors");
    let images = shared.join("data/cifar100");
    for path in [&golden, &weights, &images.join("train-25k.bin")] {
        if !path.is_file() {
            println!("skipped: {} is not there; set BURN_SFP_SHARED to the folder that holds it", path.display());
            return;
        }
    }
    let golden: Golden = serde_json::from_slice(&std::fs::read(golden).unwrap()).unwrap();

    let device = Device::flex();
    let model = weights::load(&weights, &device).unwrap();
    let cifar = Cifar::load_exactly(&images, &["train-25k.bin"], golden.samples).unwrap();
    let config = AnalyzeConfig::new().with_threshold(0.3).with_layers(["convs.9"]);
    let analysis = analyze(&model, &cifar.calibration(100, &device), &config).unwrap();

    assert!((analysis.top1 - golden.top1).abs() <= 1.0001 / golden.samples as f64, "top-1 {}", analysis.top1);
    let layer = analysis.layer("convs.9").unwrap();
    assert!(matches!(layer.readout, ReadoutInfo::Classifier { .. }));
    assert_eq!((layer.performance.len(), layer.positions), (golden.filters.len(), 4));

    let mut compared = 0;
    for (f, (found, expected)) in layer.performance.iter().zip(&golden.filters).enumerate() {
        let error = (found.max - expected.max).abs() / expected.max.abs();
        assert!(error <= 1e-4, "filter {f}: largest element {} instead of {}", found.max, expected.max);
        if expected.near {
            continue;
        }
        assert_eq!(found.clusters, expected.clusters, "filter {f}");
        assert_eq!((found.noise, found.column_noise), (expected.noise, expected.column_noise), "filter {f}");
        compared += 1;
    }
    println!("{compared} of {} filters compared, top-1 {}", golden.filters.len(), analysis.top1);
    assert!(compared > golden.filters.len() / 2);
}
