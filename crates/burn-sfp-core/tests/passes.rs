//! Every pass over the data is checked as the first one is: later epochs of a readout, the accuracy. Results that are not finite are
//! errors.

mod common;

use std::cell::Cell;

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use burn_sfp_core::{
    Analysis, AnalyzeConfig, Batch, Calibration, DataError, FnCalibration, GradientConfig, Grid, Readout, SfpError,
    TensorCalibration, analyze,
};
use burn_sfp_graph::{GraphError, GraphModule};
use common::{CLASSES, Cnn, images};

type Loaded = Result<Batch<Tensor<4>>, DataError>;

fn device() -> Device {
    Device::flex()
}

fn batch(samples: usize) -> Batch<Tensor<4>> {
    let (input, labels) = images(samples, 1.0, 1, &device());
    Batch { input, labels }
}

/// One batch in every pass, another list in pass `number` (from 0, the capture not counted).
fn other_in(number: usize, other: Vec<Batch<Tensor<4>>>) -> FnCalibration<impl Fn() -> std::vec::IntoIter<Loaded>> {
    let passes = Cell::new(0);
    FnCalibration::new(move || {
        // The first start is that of the capture.
        let pass = passes.replace(passes.get() + 1);
        let list = if pass == number + 1 { other.clone() } else { vec![batch(10), batch(10)] };
        list.into_iter().map(Ok).collect::<Vec<_>>().into_iter()
    })
}

fn gradient(epochs: usize) -> AnalyzeConfig {
    AnalyzeConfig::new().with_readout(Readout::Gradient(GradientConfig::new().with_epochs(epochs)))
}

fn holds(error: &SfpError, texts: &[&str]) {
    let message = error.to_string();
    for text in texts {
        assert!(message.contains(text), "`{text}` is not in: {message}");
    }
}

#[test]
fn later_passes_are_checked() {
    let model = Cnn::new(1, &device());
    // The second pass of each: that of the accuracy, the second epoch of a readout, the accuracy of a given one.
    let given = analyze(&model, &other_in(9, vec![]), &AnalyzeConfig::new().with_state(true)).unwrap();
    let given = AnalyzeConfig::new().with_readout(Readout::Given(Box::new(given)));
    for config in [AnalyzeConfig::new().with_accuracy(true), gradient(2), given.with_accuracy(true)] {
        let refused = |other: Vec<Batch<Tensor<4>>>| analyze(&model, &other_in(1, other), &config).unwrap_err();
        for (other, label, found) in [
            (vec![batch(10)], 0, 2),
            (vec![batch(10), batch(10), batch(1)], 0, 5),
            (vec![], 0, 0),
            (vec![batch(10), Batch { labels: vec![0, 1, 2, 3, 3, 0, 1, 2, 3, 3], ..batch(10) }], 3, 6),
        ] {
            let error = refused(other);
            holds(&error, &["pass 2", "return the same samples in every pass"]);
            let SfpError::PassDiffers { pass: 2, label: at, found: seen, expected: 4 } = error else {
                panic!("{error}")
            };
            assert_eq!((at, seen), (label, found));
        }
        let mut short = batch(10);
        short.labels.pop();
        assert!(matches!(refused(vec![batch(10), short]), SfpError::LabelCount { batch: 1, inputs: 10, labels: 9 }));
        let large = Batch { input: Tensor::zeros([10, 2, 8, 8], &device()), ..batch(10) };
        assert!(matches!(refused(vec![batch(10), large]), SfpError::BatchShape { batch: 1, .. }));
        let empty = Batch { input: Tensor::zeros([0, 2, 6, 6], &device()), labels: vec![] };
        assert!(matches!(refused(vec![batch(10), empty]), SfpError::EmptyBatch { batch: 1 }));
        let mut wrong = batch(10);
        wrong.labels[7] = CLASSES;
        assert!(matches!(refused(vec![wrong]), SfpError::LabelOutOfRange { batch: 0, sample: 7, label: CLASSES, .. }));
    }
    // Readouts of several epochs and an accuracy of the network alone take as many passes as they did.
    analyze(&model, &other_in(3, vec![]), &gradient(3)).unwrap();
}

#[test]
fn not_finite_in_a_later_pass() {
    let model = Cnn::new(1, &device());
    let broken = || Batch { input: batch(10).input.slice_fill([2..3, 0..1, 3..4, 3..4], f32::NAN), ..batch(10) };
    for config in [AnalyzeConfig::new().with_accuracy(true), gradient(2)] {
        let error = analyze(&model, &other_in(1, vec![broken(), batch(10)]), &config).unwrap_err();
        holds(&error, &["layer `first`", "clean"]);
        assert!(matches!(error, SfpError::Readout { .. }));
    }
}

#[test]
fn logits_that_are_not_finite() {
    for value in [f32::NAN, f32::INFINITY] {
        let mut model = Cnn::new(1, &device());
        model.fc.weight = Param::from_tensor(model.fc.weight.val().slice_fill([3..4, 2..3], value));
        let error = analyze(&model, &other_in(9, vec![]), &AnalyzeConfig::new()).unwrap_err();
        assert!(matches!(error, SfpError::Readout { .. } | SfpError::NonFiniteLogit { .. }), "{error}");
        // Where no layer reads the classifier as its readout.
        let config = AnalyzeConfig::new().with_layers(["first"]);
        let error = analyze(&model, &other_in(9, vec![]), &config).unwrap_err();
        assert!(matches!(error, SfpError::NonFiniteLogit { batch: 0, label: 2, .. }), "{error}");
        holds(&error, &["batch 0", "logit of label 2", "clean them"]);
    }
}

#[test]
fn readouts_that_diverge() {
    let model = Cnn::new(1, &device());
    for (scale, learning_rate, momentum) in [(1e20, 1.0, 0.975), (1e20, 1.0, 0.5), (1e36, 1e-3, 0.5)] {
        let (x, labels) = images(20, 1.0, 1, &device());
        let data = TensorCalibration::new(x * scale, labels, 10);
        let config = GradientConfig::new().with_learning_rate(learning_rate).with_momentum(momentum).with_epochs(30);
        let config = AnalyzeConfig::new().with_readout(Readout::Gradient(config)).with_layers(["first"]);
        let error = analyze(&model, &data, &config).unwrap_err();
        assert!(matches!(error, SfpError::Readout { .. } | SfpError::NonFinite { .. }), "{error}");
    }
    for config in [
        GradientConfig::new().with_learning_rate(1e30),
        GradientConfig::new().with_decay(f64::NAN),
        GradientConfig::new().with_decay(-0.5),
        GradientConfig::new().with_decay(1e-320),
        GradientConfig::new().with_weight_decay(f64::NAN),
        GradientConfig::new().with_weight_decay(1e39),
        GradientConfig::new().with_momentum(f64::INFINITY),
    ] {
        let config = AnalyzeConfig::new().with_readout(Readout::Gradient(config));
        let error = analyze(&model, &other_in(9, vec![]), &config).unwrap_err();
        assert!(matches!(error, SfpError::Config(_)), "{error}");
    }
}

/// Activations whose products with a readout overflow.
#[test]
fn performance_that_overflows() {
    let (x, labels) = images(20, 1.0, 1, &device());
    let data = TensorCalibration::new(x * 1e30, labels, 10);
    let mut model = Cnn::new(1, &device());
    model.fc.weight = Param::from_tensor(model.fc.weight.val() * 1e-30);
    let scaled = analyze(&model, &data, &AnalyzeConfig::new().with_layers(["second"])).unwrap();
    assert!(scaled.layers[0].performance.iter().all(|filter| filter.max.is_finite()));
    let mut model = Cnn::new(1, &device());
    model.second.weight = Param::from_tensor(model.second.weight.val() * 1e5);
    model.fc.weight = Param::from_tensor(model.fc.weight.val() * 1e6);
    let error = analyze(&model, &data, &AnalyzeConfig::new()).unwrap_err();
    assert!(matches!(&error, SfpError::Readout { path, .. } if path == "second"), "{error}");
    holds(&error, &["performance matrix of filter", "is inf", "scale the inputs"]);
}

#[derive(Module, Debug)]
struct OneClass {
    conv: Conv2d,
    deep: Conv2d,
    fc: Linear,
}

impl GraphModule for OneClass {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<4>) -> Tensor<2> {
        self.fc.forward(relu(self.deep.forward(relu(self.conv.forward(x)))).flatten::<2>(1, 3))
    }
}

#[test]
#[allow(deprecated)]
fn one_class() {
    for device in [Device::flex(), Device::ndarray()] {
        let conv = |from, to| Conv2dConfig::new([from, to], [3, 3]).init(&device);
        let model = OneClass { conv: conv(2, 4), deep: conv(4, 4), fc: LinearConfig::new(16, 1).init(&device) };
        let data = TensorCalibration::new(images(6, 1.0, 1, &device).0, vec![0; 6], 4);
        for config in [AnalyzeConfig::new(), gradient(2)] {
            let found = analyze(&model, &data, &config.with_accuracy(true)).unwrap();
            assert_eq!((found.classes, found.top1, found.layers.len()), (1, 1.0, 2));
        }
    }
}

#[test]
fn messages_stay_short() {
    let device = device();
    let model = OneClass {
        conv: Conv2dConfig::new([2, 4], [3, 3]).init(&device),
        deep: Conv2dConfig::new([4, 4], [3, 3]).init(&device),
        fc: LinearConfig::new(16, 10_000).init(&device),
    };
    let (x, _) = images(2, 1.0, 1, &device);
    let error = analyze(&model, &TensorCalibration::new(x.clone(), vec![3, 5], 2), &AnalyzeConfig::new()).unwrap_err();
    holds(&error, &["[0, 1, 2, 4, 6, 7, 8, 9, 10, 11 and 9988 more]"]);
    assert!(error.to_string().len() < 300);
    let error = analyze(&model, &TensorCalibration::new(x, vec![3, -2_i64 as usize], 2), &AnalyzeConfig::new());
    holds(&error.unwrap_err(), &["sample 1 of batch 0 has label -2,", "labels 0 to 9999"]);
}

#[derive(Module, Debug)]
struct Wide {
    a: Linear,
    b: Linear,
    c: Linear,
}

impl GraphModule for Wide {
    type Inputs = Tensor<2>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<2>) -> Tensor<2> {
        self.c.forward(relu(self.b.forward(relu(self.a.forward(x)))))
    }
}

/// The advice fits the grid that is set.
#[test]
fn too_many_features() {
    let linear = |from, to| LinearConfig::new(from, to).init(&device());
    let wide = Wide { a: linear(3, 16_385), b: linear(16_385, 2), c: linear(2, 2) };
    let data = TensorCalibration::new(Tensor::<2>::ones([2, 3], &device()), vec![0, 1], 2);
    for grid in [Grid::Auto, Grid::AtMost(1)] {
        let error = analyze(&wide, &data, &AnalyzeConfig::new().with_grid(grid)).unwrap_err();
        holds(&error, &["16385 features", "cannot be pooled any further", "Readout::Gradient", "with_layers"]);
        assert!(!error.to_string().contains("set a grid"), "{error}");
    }
    let error = analyze(&wide, &data, &AnalyzeConfig::new().with_grid(Grid::Full)).unwrap_err();
    holds(&error, &["set a grid (`Grid::Auto`)"]);
}

/// Images and examples with autodiff are moved, not refused.
#[test]
fn images_with_autodiff() {
    let plain = analyze(&Cnn::new(1, &device()), &other_in(9, vec![]), &gradient(2).with_accuracy(true)).unwrap();
    let (x, labels) = images(10, 1.0, 1, &device());
    let tracked = || Ok(Batch { input: x.clone().autodiff().require_grad(), labels: labels.clone() });
    let data = FnCalibration::new(|| [tracked(), tracked()].into_iter().collect::<Vec<Loaded>>().into_iter());
    for device in [device(), device().autodiff()] {
        let found = analyze(&Cnn::new(1, &device), &data, &gradient(2).with_accuracy(true)).unwrap();
        let same =
            |a: &Analysis, b: &Analysis| a.layers.iter().zip(&b.layers).all(|(a, b)| a.performance == b.performance);
        assert!(same(&found, &plain) && found.top1 == plain.top1);
    }
    // A last batch of another size, which is captured again.
    let tracked = TensorCalibration::new(x.autodiff(), labels, 6);
    analyze(&Cnn::new(1, &device()), &tracked, &AnalyzeConfig::new().with_accuracy(true)).unwrap();
}

#[derive(Module, Debug)]
struct TwoInputs {
    a: Linear,
    b: Linear,
}

impl GraphModule for TwoInputs {
    type Inputs = (Tensor<2>, Tensor<2>);
    type Outputs = Tensor<2>;
    fn run(&self, (x, y): Self::Inputs) -> Tensor<2> {
        self.b.forward(relu(self.a.forward(x)) + y)
    }
}

/// The second input has fewer samples than the first one.
#[test]
fn inputs_of_different_lengths() {
    let linear = |from, to| LinearConfig::new(from, to).init(&device());
    let model = TwoInputs { a: linear(3, 4), b: linear(4, 2) };
    let zeros = |samples, width| Tensor::<2>::ones([samples, width], &device());
    for second in [1, 4, 8] {
        let data = TensorCalibration::new((zeros(6, 3), zeros(second, 4)), vec![0, 1, 0, 1, 0, 1], 4);
        assert!(data.batches().count() == 1);
        let error = analyze(&model, &data, &AnalyzeConfig::new()).unwrap_err();
        assert!(matches!(&error, SfpError::BatchShape { batch: 0, found, .. } if *found == [second, 4]), "{error}");
        holds(&error, &["its first input has 6 samples"]);
    }
    let data = TensorCalibration::new((zeros(0, 3), zeros(0, 4)), vec![], 4);
    assert!(matches!(analyze(&model, &data, &AnalyzeConfig::new()), Err(SfpError::NoSamples)));
    let error = burn_sfp_graph::Network::capture(&model, &(zeros(0, 3), zeros(0, 4))).unwrap_err();
    assert!(matches!(&error, GraphError::NoSamples { shape } if *shape == [0, 3]), "{error}");
}
