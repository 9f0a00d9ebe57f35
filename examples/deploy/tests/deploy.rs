//! The programs: from PyTorch's files and from an .onnx file to a pruned .onnx file that computes what the pruned network computes.

#[path = "../../../crates/burn-sfp-prune/tests/onnx/run.rs"]
mod run;

use std::path::Path;
use std::process::Command;

use burn::module::Module;
use burn::tensor::{Device, Distribution, Tensor};
use burn_sfp::prelude::*;
use deploy::{Classifier, WeightsError, load};
use models::resnet::{ResNet, ResNetConfig};
use run::{check_in_python, difference};

fn images(samples: usize) -> Tensor<4> {
    Tensor::random([samples, 3, 32, 32], Distribution::Uniform(-1.0, 1.0), &Device::flex())
}

fn run_program(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Weights as PyTorch writes them, from a script; `None` without Python.
fn weights() -> Option<tempfile::TempDir> {
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/resnet_weights.py");
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    match Command::new(&python).arg(script).arg(folder.path()).output() {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(folder)
        }
        Err(_) => {
            println!("skipped: there is no {python}, which writes the weights");
            None
        }
    }
}

/// The network that the script's weights are of.
fn config() -> ResNetConfig {
    ResNetConfig::resnet18().with_width(0.125).with_classes(10)
}

fn resnet(path: &Path) -> Result<ResNet, WeightsError> {
    load(path, config().init(&Device::flex()), &config().blocks)
}

#[test]
fn from_pytorch() {
    let Some(folder) = weights() else { return };
    let path = |name: &str| folder.path().join(name);
    let export = |weights: &str, ratio: &str, output: &str| {
        let (weights, output) = (path(weights), path(output));
        let [weights, output] = [&weights, &output].map(|path| path.to_str().unwrap());
        let size = ["--width", "0.125", "--classes", "10", "--side", "32"];
        let arguments = [&[weights, "--ratio", ratio, "--output", output], &size[..]].concat();
        run_program(env!("CARGO_BIN_EXE_from-pytorch"), &arguments);
    };
    export("resnet.safetensors", "0", "whole.onnx");
    export("resnet.safetensors", "0.5", "safetensors.onnx");
    let bytes = |name: &str| std::fs::read(path(name)).unwrap();
    assert!(3 * bytes("safetensors.onnx").len() < bytes("whole.onnx").len());
    if cfg!(feature = "pytorch") {
        export("resnet.pt", "0.5", "pt.onnx");
        assert_eq!(bytes("pt.onnx"), bytes("safetensors.onnx"));
    } else {
        let error = resnet(&path("resnet.pt")).unwrap_err().to_string();
        assert!(error.contains("--features pytorch"), "{error}");
    }

    let model = resnet(&path("resnet.safetensors")).unwrap();
    assert!(difference(&path("whole.onnx"), images(3), model.run(images(3))) > 1e-3, "other images, other logits");
    let x = images(3);
    assert!(difference(&path("whole.onnx"), x.clone(), model.run(x)) < 1e-5);
    // Where torch is, its own logits are those of the file.
    if path("whole.0.output.npy").exists() {
        check_in_python(&[&path("whole.onnx")], 1e-4);
    }
}

#[test]
fn files_that_are_not_such_weights() {
    let Some(folder) = weights() else { return };
    let path = |name: &str| folder.path().join(name);
    let other = ResNetConfig::resnet50().with_width(0.125).with_classes(10);
    let found = load(&path("resnet.safetensors"), other.init(&Device::flex()), &other.blocks);
    assert!(matches!(&found, Err(WeightsError::Foreign { missing: 1.., .. })), "{:?}", found.err());
    for name in ["resnet.pt", "resnet.safetensors"] {
        let whole = std::fs::read(path(name)).unwrap();
        std::fs::write(path(name), &whole[..whole.len() / 2]).unwrap();
        let found = resnet(&path(name));
        assert!(matches!(&found, Err(WeightsError::File { .. })), "{name}: {:?}", found.err());
    }
    assert!(matches!(resnet(&path("nothing.pt")), Err(WeightsError::File { .. })));
}

#[test]
fn from_onnx() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pruned.onnx");
    run_program(env!("CARGO_BIN_EXE_from-onnx"), &["--ratio", "0.5", "--output", file.to_str().unwrap()]);

    let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("../zoo-elsewhere/onnx/classifier.onnx");
    let model = Classifier::from_embedded(&Device::flex());
    let x = images(4);
    assert!(difference(&original, x.clone(), model.run(x.clone())) < 1e-4);
    let planner = Planner::new().budget(Budget::PerLayer(0.5));
    let pruned = planner.prune(&model, &x, &Magnitude::l2()).unwrap();
    for samples in [1, 4] {
        let x = images(samples);
        assert!(difference(&file, x.clone(), pruned.model.run(x)) < 1e-5);
    }
    let bytes = |path: &Path| std::fs::metadata(path).unwrap().len() as f64;
    let parameters = |model: &Classifier| model.num_params() as f64;
    let (smaller, expected) = (bytes(&file) / bytes(&original), parameters(&pruned.model) / parameters(&model));
    assert!((smaller - expected).abs() < 0.05, "{smaller:.3} of the bytes, {expected:.3} of the parameters");
}
