//! Every kind of bad input is a typed error that says where and what to do, and leaves the model as it was.

mod common;

use std::fs;
use std::path::Path;

use burn::module::Param;
use burn::tensor::{Device, Tensor};
use burn_sfp_core::{
    Analysis, AnalyzeConfig, Batch, Calibration, DataError, FnCalibration, GradientConfig, Grid, Readout, SfpError,
    SfpModule, TensorCalibration, analyze,
};
use burn_sfp_graph::GraphError;
use common::{CLASSES, Cnn, calibration, images};

fn device() -> Device {
    Device::flex()
}

fn bytes(model: &Cnn) -> Vec<u8> {
    let (x, _) = images(4, 1.0, 3, &device());
    model.logits(x).into_data().as_bytes().to_vec()
}

/// The error of an analysis; its message holds every one of `texts`, and the model's output is the same as before.
fn refused(model: &Cnn, data: &dyn Calibration<Tensor<4>>, config: &AnalyzeConfig, texts: &[&str]) -> SfpError {
    let before = bytes(model);
    let error = analyze(model, data, config).unwrap_err();
    assert_eq!(bytes(model), before, "the model changed");
    holds(error, texts)
}

fn holds(error: SfpError, texts: &[&str]) -> SfpError {
    let message = error.to_string();
    for text in texts {
        assert!(message.contains(text), "`{text}` is not in: {message}");
    }
    error
}

fn labelled(labels: Vec<usize>) -> TensorCalibration<Tensor<4>> {
    TensorCalibration::new(images(10, 1.0, 1, &device()).0, labels, 4)
}

fn batches(
    list: Vec<Result<Batch<Tensor<4>>, String>>,
) -> FnCalibration<impl Fn() -> std::vec::IntoIter<Result<Batch<Tensor<4>>, DataError>>> {
    FnCalibration::new(move || {
        let list = list.clone().into_iter().map(|batch| batch.map_err(DataError::from));
        list.collect::<Vec<_>>().into_iter()
    })
}

fn batch(samples: usize) -> Result<Batch<Tensor<4>>, String> {
    let (input, labels) = images(samples, 1.0, 1, &device());
    Ok(Batch { input, labels })
}

fn model() -> Cnn {
    Cnn::new(1, &device())
}

#[test]
fn no_samples() {
    let error = refused(&model(), &batches(vec![]), &AnalyzeConfig::new(), &["no sample", "at least one"]);
    assert!(matches!(error, SfpError::NoSamples));
}

#[test]
fn a_label_out_of_range() {
    let data = labelled(vec![0, 1, 2, 3, 4, 0, 9, 1, 2, 3]);
    let error = refused(&model(), &data, &AnalyzeConfig::new(), &["sample 2 of batch 1", "label 9", "0 to 4"]);
    assert!(matches!(error, SfpError::LabelOutOfRange { batch: 1, sample: 2, label: 9, classes: CLASSES }));
}

#[test]
fn classes_without_samples() {
    let data = labelled(vec![0, 2, 0, 2, 0, 2, 0, 2, 4, 4]);
    let error = refused(&model(), &data, &AnalyzeConfig::new(), &["[1, 3]", "add samples"]);
    assert!(matches!(error, SfpError::ClassWithoutSamples { missing } if missing == [1, 3]));
}

#[test]
#[allow(deprecated)]
fn nan_in_the_input() {
    for device in [Device::flex(), Device::ndarray()] {
        let model = Cnn::new(1, &device);
        let (x, labels) = images(10, 1.0, 1, &device);
        let before = model.logits(x.clone()).into_data();
        let broken = x.clone().slice_fill([2..3, 0..1, 3..4, 3..4], f32::NAN);
        let error = analyze(&model, &TensorCalibration::new(broken, labels, 4), &AnalyzeConfig::new());
        assert_eq!(model.logits(x).into_data(), before);
        let error = holds(error.unwrap_err(), &["layer `first`", "label 2", "clean them"]);
        assert!(matches!(error, SfpError::NonFinite { .. }));
    }
}

#[test]
fn an_infinite_weight() {
    for value in [f32::INFINITY, f32::NEG_INFINITY] {
        let mut model = model();
        let weight = model.second.weight.val().slice_fill([3..4, 1..2, 1..2, 1..2], value);
        model.second.weight = Param::from_tensor(weight);
        let error =
            refused(&model, &calibration(10, 4, &device()), &AnalyzeConfig::new(), &["layer `second`", "filter 3"]);
        assert!(matches!(error, SfpError::NonFinite { filter: 3, .. }));
    }
}

#[test]
fn a_batch_of_another_image_size() {
    let larger = Batch { input: Tensor::zeros([5, 2, 8, 8], &device()), labels: vec![0, 1, 2, 3, 4] };
    let data = batches(vec![batch(5), Ok(larger)]);
    let error = refused(&model(), &data, &AnalyzeConfig::new(), &["batch 1", "[5, 2, 8, 8]", "[5, 2, 6, 6]", "resize"]);
    assert!(matches!(error, SfpError::BatchShape { batch: 1, .. }));
}

#[test]
fn fewer_labels_than_inputs() {
    let error = refused(&model(), &labelled(vec![0, 1, 2]), &AnalyzeConfig::new(), &["10 inputs and 3 labels"]);
    assert!(matches!(error, SfpError::LabelCount { batch: 0, inputs: 10, labels: 3 }));
    let mut short = batch(5).unwrap();
    short.labels.pop();
    let error = refused(&model(), &batches(vec![batch(5), Ok(short)]), &AnalyzeConfig::new(), &["batch 1"]);
    assert!(matches!(error, SfpError::LabelCount { batch: 1, inputs: 5, labels: 4 }));
}

#[test]
fn a_forward_pass_that_panics() {
    let small = TensorCalibration::new(Tensor::zeros([5, 2, 4, 4], &device()), vec![0, 1, 2, 3, 4], 5);
    let error =
        refused(&model(), &small, &AnalyzeConfig::new(), &["[5, 2, 4, 4]", "the images are too small", "`logits`"]);
    assert!(matches!(error, SfpError::Graph(GraphError::Forward { .. })));
    // Burn's own check, in the capture or on the device: typed either way.
    let grey = TensorCalibration::new(Tensor::zeros([5, 1, 6, 6], &device()), vec![0, 1, 2, 3, 4], 5);
    let error = refused(&model(), &grey, &AnalyzeConfig::new(), &[]);
    assert!(matches!(error, SfpError::Graph(GraphError::Forward { .. } | GraphError::Replay { .. })), "{error}");
}

#[test]
fn an_unknown_layer() {
    let config = AnalyzeConfig::new().with_layers(["second", "third"]);
    let error = refused(&model(), &calibration(10, 5, &device()), &config, &["`third`", "first, second, fc"]);
    assert!(matches!(error, SfpError::Graph(GraphError::UnknownLayer { .. })));
}

#[test]
fn settings_out_of_range() {
    let ridge = |strength| AnalyzeConfig::new().with_readout(Readout::Ridge { strength });
    let threshold = |threshold| AnalyzeConfig::new().with_threshold(threshold);
    let gradient = |config| AnalyzeConfig::new().with_readout(Readout::Gradient(config));
    for (config, text) in [
        (threshold(0.0), "threshold is 0"),
        (threshold(1.0), "threshold is 1"),
        (threshold(f64::NAN), "threshold is NaN"),
        (ridge(0.0), "ridge strength is 0"),
        (ridge(f64::NAN), "ridge strength is NaN"),
        (AnalyzeConfig::new().with_grid(Grid::AtMost(0)), "grid is 0"),
        (gradient(GradientConfig::new().with_epochs(0)), "epochs is 0"),
        (gradient(GradientConfig::new().with_learning_rate(f64::NAN)), "learning rate is NaN"),
        (gradient(GradientConfig::new().with_decay(1.5)), "decay is 1.5"),
        (gradient(GradientConfig::new().with_momentum(1.0)), "momentum is 1"),
        (gradient(GradientConfig::new().with_weight_decay(-1.0)), "weight decay is -1"),
    ] {
        let error = refused(&model(), &calibration(10, 5, &device()), &config, &[text, "must be"]);
        assert!(matches!(error, SfpError::Config { .. }));
    }
}

#[test]
fn a_data_source_that_fails() {
    let error = refused(
        &model(),
        &batches(vec![batch(5), Err("disk on fire".into())]),
        &AnalyzeConfig::new(),
        &["disk on fire"],
    );
    assert!(matches!(error, SfpError::Data { batch: 1, .. }));
    let error = refused(&model(), &batches(vec![Err("no disk".into())]), &AnalyzeConfig::new(), &["no disk"]);
    assert!(matches!(error, SfpError::Data { batch: 0, .. }));
}

#[test]
fn the_error_of_a_data_source_survives() {
    let data = FnCalibration::new(|| {
        let broken = std::io::Error::new(std::io::ErrorKind::NotFound, "no disk");
        [Ok(batch(5).unwrap()), Err(broken.into())].into_iter()
    });
    let error = refused(&model(), &data, &AnalyzeConfig::new(), &["batch 1", "no disk"]);
    let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<std::io::Error>());
    assert_eq!(source.map(std::io::Error::kind), Some(std::io::ErrorKind::NotFound));
    let data = FnCalibration::new(|| std::iter::once(Err("no disk".into())));
    refused(&model(), &data, &AnalyzeConfig::new(), &["batch 0", "no disk"]);
}

#[test]
fn a_batch_without_samples() {
    let empty = Batch { input: Tensor::zeros([0, 2, 6, 6], &device()), labels: vec![] };
    let data = batches(vec![batch(5), Ok(empty)]);
    let error = refused(&model(), &data, &AnalyzeConfig::new(), &["batch 1", "no sample"]);
    assert!(matches!(error, SfpError::EmptyBatch { batch: 1 }));
}

fn analysis(model: &Cnn, config: AnalyzeConfig) -> Analysis {
    analyze(model, &calibration(10, 5, &device()), &config).unwrap()
}

fn unreadable(path: &Path, texts: &[&str]) {
    let name = path.file_name().unwrap().to_str().unwrap();
    let error = holds(Analysis::load(path).unwrap_err(), &[&[name], texts].concat());
    assert!(matches!(error, SfpError::File { .. }));
}

#[test]
fn analysis_files_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("analysis.json");
    unreadable(&path, &["cannot be read"]);
    analysis(&model(), AnalyzeConfig::new()).save(&path).unwrap();
    let whole = fs::read(&path).unwrap();
    for length in [0, 1, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        unreadable(&path, &["truncated", "write it again"]);
    }
    for foreign in ["{\"name\": \"other\"}", "[1, 2]", "not json", "\u{0}\u{1}"] {
        fs::write(&path, foreign).unwrap();
        unreadable(&path, &["not an analysis"]);
    }
    // The format of the first versions, which had no checksum.
    fs::write(&path, "{\"version\":2,\"threshold\":0.3,\"classes\":5}").unwrap();
    unreadable(&path, &["version 2", "version 3", "analyse again"]);
    let text = String::from_utf8(whole).unwrap();
    fs::write(&path, text.replacen("\"version\":3", "\"version\":99", 1)).unwrap();
    unreadable(&path, &["version 99", "version 3", "analyse again"]);
    let mut other = analysis(&model(), AnalyzeConfig::new());
    assert!(other.save(folder.path().join("missing/analysis.json")).is_err());
    other.version = 99;
    let error = holds(other.save(&path).unwrap_err(), &["version 99", "version 3"]);
    assert!(matches!(error, SfpError::InvalidAnalysis(_)));
}

#[test]
fn state_files_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("analysis.safetensors");
    let error = analysis(&model(), AnalyzeConfig::new()).save_with_state(&path).unwrap_err();
    assert!(matches!(holds(error, &["with_state(true)"]), SfpError::Merge(_)));
    assert!(!path.exists());
    analysis(&model(), AnalyzeConfig::new().with_state(true)).save_with_state(&path).unwrap();
    let whole = fs::read(&path).unwrap();
    for length in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        let error = holds(Analysis::load(&path).unwrap_err(), &["analysis.safetensors", "truncated"]);
        assert!(matches!(error, SfpError::File(_)));
    }
    fs::write(&path, [whole.as_slice(), b"x"].concat()).unwrap();
    unreadable(&path, &["longer than it says"]);
    // A file of weights.
    let mut weights = 12_u64.to_le_bytes().to_vec();
    weights.extend(b"{\"a\":[1,2]} ");
    fs::write(&path, weights).unwrap();
    unreadable(&path, &["is not an analysis"]);
}

#[test]
fn analyses_that_do_not_belong_together() {
    let state = AnalyzeConfig::new().with_state(true);
    let ours = analysis(&model(), state.clone());
    let ridge = |strength| state.clone().with_readout(Readout::Ridge { strength });
    for (theirs, text) in [
        (analysis(&Cnn::with_filters(1, 7, &device()), state.clone()), "other parameters"),
        (analysis(&Cnn::new(2, &device()), state.clone()), "two checkpoints of the model: parameter `"),
        (analysis(&model(), AnalyzeConfig::new()), "with_state(true)"),
        (analysis(&model(), state.clone().with_threshold(0.4)), "thresholds"),
        (analysis(&model(), state.clone().with_layers(["first"])), "different layers"),
        (analysis(&model(), state.clone().with_grid(Grid::AtMost(2))), "different grids"),
        (analysis(&model(), ridge(0.5)), "readouts that differ"),
    ] {
        for error in [ours.merge(&theirs).unwrap_err(), theirs.merge(&ours).unwrap_err()] {
            assert!(matches!(holds(error, &[text]), SfpError::Merge(_)));
        }
    }
}
