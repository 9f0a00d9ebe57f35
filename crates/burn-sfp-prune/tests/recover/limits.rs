//! What is left out and why, how much memory is taken, errors.

use std::sync::atomic::{AtomicUsize, Ordering};

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use burn_sfp_core::{FnCalibration, NoProgress, Progress, SfpError, TensorCalibration};
use burn_sfp_graph::GraphModule;
use burn_sfp_nn::Shrink;
use burn_sfp_prune::{Planner, PruneError, Recover, RecoveryStep, recover};

use super::draw::{drawn, uniform};
use super::graph::inspect::bytes;
use super::net::{LastFirst, Net, calibration, images};
use super::steps::{pruned, recovered};

/// A layer that runs twice, between two others.
#[derive(Module, Debug)]
struct Twice {
    stem: Linear,
    shared: Linear,
    classifier: Linear,
}

impl GraphModule for Twice {
    type Inputs = Tensor<2>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<2>) -> Tensor<2> {
        let x = relu(self.stem.forward(x));
        let x = relu(self.shared.forward(x));
        let x = relu(self.shared.forward(x));
        self.classifier.forward(x)
    }
}

#[test]
fn a_layer_that_runs_twice_is_left_out() {
    let device = Device::flex();
    let linear = |from, to| LinearConfig::new(from, to).init(&device);
    let net = drawn(Twice { stem: linear(4, 8), shared: linear(8, 8), classifier: linear(8, 2) });
    let x = uniform([12, 4], 0.0, 1.0, &device);
    let made = Planner::new().prune(&net, &x, &LastFirst { masked: &[] }).unwrap();
    let data = TensorCalibration::new(x, vec![0; 12], 4);
    let result = recover(&net, &made.model, &made.plan, &data, &Recover::new(), &NoProgress).unwrap();
    let left: Vec<(&str, &str)> =
        result.report.left_out.iter().map(|left| (left.path.as_str(), left.reason.as_str())).collect();
    assert_eq!(left, [("shared", "it runs more than once"); 2]);
    assert!(result.report.correction("classifier", RecoveryStep::LeastSquares).is_some());
    assert!(result.report.to_string().contains("shared: no least squares: it runs more than once"));
}

#[test]
fn layers_with_too_many_columns_are_named_and_keep_their_weights() {
    let net = Net::new(1);
    let made = pruned(&net, &[]);
    let result = recovered(&net, &made, &Recover::new().columns(20));
    let left: Vec<&str> = result.report.left_out.iter().map(|left| left.path.as_str()).collect();
    assert_eq!(left, ["dilated", "dilated", "hidden"]);
    assert!(result.report.left_out[2].reason.contains("more than the 20 allowed"));
    let weight = |net: &Net| net.hidden.weight.val().into_data();
    assert_eq!(weight(&result.model), weight(&made.model));
    // Its bias is matched all the same.
    assert!(result.report.correction("hidden", RecoveryStep::Means).is_some());
    assert!(result.report.correction("grouped", RecoveryStep::LeastSquares).is_some());
}

#[test]
fn memory_bounds_the_samples() {
    let net = Net::new(1);
    let made = pruned(&net, &[]);
    let first = recovered(&net, &made, &Recover::new().memory(1));
    assert_eq!((first.report.samples, first.report.all_samples), (5, false));
    assert!(first.report.to_string().contains("on the first 5 samples"));
    // The same as with these samples alone.
    let data = TensorCalibration::new(images(13, 11).narrow(0, 0, 5), vec![0; 5], 5);
    let alone = recover(&net, &made.model, &made.plan, &data, &Recover::new(), &NoProgress).unwrap();
    assert_eq!(bytes(&alone.model), bytes(&first.model));
    let all = recovered(&net, &made, &Recover::new().memory(1 << 20));
    assert!(all.report.all_samples);
}

#[test]
fn steps_that_are_not_asked_for_are_not_made() {
    let net = Net::new(2);
    let made = pruned(&net, &[]);
    let nothing = recovered(&net, &made, &Recover::only([]));
    assert_eq!(bytes(&nothing.model), bytes(&made.model));
    assert!(nothing.report.corrected.is_empty() && nothing.report.left_out.is_empty());
    let statistics = recovered(&net, &made, &Recover::only([RecoveryStep::Statistics]));
    let paths: Vec<&str> = statistics.report.corrected.iter().map(|corrected| corrected.path.as_str()).collect();
    assert_eq!(paths, ["norm", "sum_norm"]);
}

/// Cancels once it has been asked so many times.
pub struct CancelAfter(pub AtomicUsize);

impl Progress for CancelAfter {
    fn start(&self, _stage: &str, _total: Option<usize>) {}
    fn advance(&self, _by: usize) {}
    fn finish(&self) {}
    fn is_cancelled(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err()
    }
}

#[test]
fn cancelled_work_returns_what_is_done() {
    let net = Net::new(3);
    let made = pruned(&net, &[]);
    let run = |asked: usize| {
        let progress = CancelAfter(AtomicUsize::new(asked));
        recover(&net, &made.model, &made.plan, &calibration(13), &Recover::new(), &progress).unwrap()
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
fn data_that_cannot_be_used_are_errors() {
    let net = Net::new(4);
    let made = pruned(&net, &[]);
    let run = |data: &TensorCalibration<Tensor<4>>| {
        recover(&net, &made.model, &made.plan, data, &Recover::new(), &NoProgress).map(|_| ()).unwrap_err()
    };
    let error = run(&TensorCalibration::new(images(0, 1), vec![], 4));
    assert!(matches!(error, PruneError::Analysis(SfpError::NoSamples)), "{error}");
    let error = run(&TensorCalibration::new(images(4, 1), vec![0; 3], 4));
    assert!(matches!(error, PruneError::Analysis(SfpError::LabelCount { batch: 0, .. })), "{error}");
    let error = run(&TensorCalibration::new(images(4, 1) * f32::NAN, vec![0; 4], 4));
    let expected =
        matches!(error, PruneError::Analysis(SfpError::NonFiniteInput { .. } | SfpError::NonFiniteOutput { .. }));
    assert!(expected, "{error}");
    let narrow = || {
        (0..2).map(|k| {
            let input = images(4, 1).slice([0..4, 0..2, 0..8, 0..8 - 2 * k]);
            Ok(burn_sfp_core::Batch { input, labels: vec![0; 4] })
        })
    };
    let data = FnCalibration::new(narrow);
    let error = recover(&net, &made.model, &made.plan, &data, &Recover::new(), &NoProgress).map(|_| ()).unwrap_err();
    assert!(matches!(error, PruneError::Analysis(SfpError::BatchShape { batch: 1, .. })), "{error}");
}

#[test]
fn models_and_settings_that_do_not_fit_are_errors() {
    let net = Net::new(4);
    let made = pruned(&net, &[]);
    let data = calibration(5);
    let run = |original: &Net, pruned: &Net, config: &Recover| {
        recover(original, pruned, &made.plan, &data, config, &NoProgress).map(|_| ()).unwrap_err()
    };
    assert!(matches!(run(&net, &net, &Recover::new()), PruneError::ModelMismatch { .. }));
    assert!(matches!(run(&made.model, &made.model, &Recover::new()), PruneError::ModelMismatch { .. }));
    for config in [Recover::new().ridge(f64::NAN), Recover::new().ridge_of_weights(-1.0), Recover::new().patches(0)] {
        assert!(matches!(run(&net, &made.model, &config), PruneError::Config(_)));
    }
}

/// A network on a device without the memory for more than two samples.
#[derive(Module, Debug, Shrink)]
struct Tight {
    net: Net,
}

impl GraphModule for Tight {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<4>) -> Tensor<2> {
        assert!(x.dims()[0] <= 2, "out of memory");
        self.net.run(x)
    }
    fn shrinkable(&mut self) -> Option<&mut dyn Shrink> {
        Some(self)
    }
}

#[test]
fn without_the_memory_for_a_batch_its_parts_are_taken() {
    let tight = Tight { net: Net::new(1) };
    let made = Planner::new().prune(&tight, &images(2, 3), &LastFirst { masked: &[] }).unwrap();
    let run = |batch: usize| {
        let data = TensorCalibration::new(images(13, 11), vec![0; 13], batch);
        recover(&tight, &made.model, &made.plan, &data, &Recover::new(), &NoProgress).unwrap()
    };
    let (cut, small) = (run(13), run(2));
    assert_eq!((cut.report.samples, cut.report.all_samples), (13, true));
    assert_eq!(bytes(&cut.model), bytes(&small.model));
    assert_ne!(bytes(&cut.model), bytes(&made.model));
}
