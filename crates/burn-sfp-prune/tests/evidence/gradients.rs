//! Gradients, and the policies that rank by them.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use burn_sfp_core::{NoProgress, SfpError, SfpModule, TensorCalibration};
use burn_sfp_prune::{Evidence, HessianDiagonal, Needs, PruneError, Taylor};

use super::plain::{Plain, values};
use super::small::{SIDE, Small, images};
use super::varied::{Varied, signals};
use super::{BATCH, SAMPLES, close, data, gathered, ranking};

/// The gradients of each batch's mean loss by the weights of a layer, with the batch's samples.
fn gradients(plain: &Plain, layer: &str) -> Vec<(f64, Vec<f64>)> {
    let (x, labels) = images(SAMPLES);
    let x = values(x);
    let samples: Vec<(Vec<f64>, usize)> = x.chunks(2 * SIDE * SIDE).map(<[f64]>::to_vec).zip(labels).collect();
    samples.chunks(BATCH).map(|batch| (batch.len() as f64, plain.gradient(batch, layer))).collect()
}

#[test]
fn gradients_of_a_small_network() {
    for skip in [false, true] {
        let model = Small::new(7, skip);
        let plain = Plain::of(&model);
        let (_, evidence) = gathered(&model, &Taylor::new());
        let policies = [ranking(&model, &Taylor::new()), ranking(&model, &Taylor::elements())];
        let hessian = ranking(&model, &HessianDiagonal::new());
        let all = SAMPLES as f64;
        for layer in ["first", "second", "fc"] {
            let weights = plain.clone().weight(layer).clone();
            let batches = gradients(&plain, layer);
            let over = |term: &dyn Fn(f64, &[f64]) -> f64| batches.iter().map(|(n, g)| term(*n, g)).sum::<f64>() / all;
            let found = &evidence.parameter_gradients[&format!("{layer}.weight")];
            let elements = 0..weights.len();
            let mean: Vec<f64> = elements.clone().map(|k| over(&|n, g| n * g[k])).collect();
            let fisher: Vec<f64> = elements.clone().map(|k| over(&|n, g| (n * g[k]).powi(2))).collect();
            close(&found.mean, &mean, 1e-4);
            close(&found.fisher, &fisher, 1e-4);
            // Filters of convolutions are rows of the weight, those of linear layers columns.
            let (filters, stride) = if layer == "fc" { (4, 4) } else { (plain.filters, 1) };
            let of = |filter: usize| -> Vec<usize> {
                let size = weights.len() / filters;
                (0..size).map(|k| if stride == 1 { filter * size + k } else { k * filters + filter }).collect()
            };
            let each = |term: &dyn Fn(&[usize]) -> f64| (0..filters).map(|f| term(&of(f))).collect::<Vec<f64>>();
            let whole = each(&|own| over(&|n, g| n * own.iter().map(|&k| g[k] * weights[k]).sum::<f64>().powi(2)));
            let squares = each(&|own| over(&|n, g| n * own.iter().map(|&k| (g[k] * weights[k]).powi(2)).sum::<f64>()));
            close(&evidence.filter_gradients[layer].whole, &whole, 1e-4);
            close(&evidence.filter_gradients[layer].elements, &squares, 1e-4);
            if layer != "fc" {
                close(&policies[0].filters[layer], &whole, 1e-4);
                close(&policies[1].filters[layer], &squares, 1e-4);
                let saliency = each(&|own| own.iter().map(|&k| 0.5 * fisher[k] * weights[k].powi(2)).sum());
                close(&hessian.filters[layer], &saliency, 1e-4);
            }
        }
    }
}

#[test]
fn grouped_and_transposed_filters_are_summed_over_their_own_weights() {
    let device = Device::flex();
    let model = Varied::new(&device);
    let (x, labels) = signals(9, &device);
    // One batch, so that all follows from the mean gradient.
    let data = TensorCalibration::new(x, labels, 9);
    let evidence = Evidence::gather(&model, &data, Needs::none().gradients(), &NoProgress).unwrap();
    let check = |path: &str, weight: Vec<f64>, filter_of: &dyn Fn(usize) -> usize, filters: usize| {
        let g = &evidence.parameter_gradients[&format!("{path}.weight")].mean;
        let (mut whole, mut elements) = (vec![0.0; filters], vec![0.0; filters]);
        for (k, weight) in weight.iter().enumerate() {
            whole[filter_of(k)] += g[k] * weight;
            elements[filter_of(k)] += (g[k] * weight).powi(2);
        }
        let whole: Vec<f64> = whole.into_iter().map(|sum: f64| sum * sum).collect();
        close(&evidence.filter_gradients[path].whole, &whole, 1e-9);
        close(&evidence.filter_gradients[path].elements, &elements, 1e-9);
    };
    // [6, 4 / 2, 3], [6, 4, 4] with filters second, [4, 1, 3], [4, 5] with filters last.
    check("grouped", values(model.grouped.weight.val()), &|k| k / 6, 6);
    check("up", values(model.up.weight.val()), &|k| k / 4 % 4, 4);
    check("depthwise", values(model.depthwise.weight.val()), &|k| k / 3, 4);
    check("hidden", values(model.hidden.weight.val()), &|k| k % 5, 5);
}

#[test]
fn evaluation_mode_frozen_layers_and_the_original() {
    // A model in training, with a dropout that would make gradients random, and frozen ones.
    let device = Device::flex();
    let (x, labels) = signals(9, &device);
    let data = TensorCalibration::new(x, labels, 4);
    let gather = |model: &Varied| Evidence::gather(model, &data, Needs::none().gradients(), &NoProgress).unwrap();
    let model = Varied::new(&device);
    let plain = gather(&model).parameter_gradients;
    assert_eq!(plain.len(), 12);
    let training = model.clone().train();
    assert!(training.fc.weight.is_require_grad());
    let frozen = model.clone().freeze();
    for model in [training, frozen.clone(), frozen.train(), model.valid()] {
        let before = model.fc.weight.is_require_grad();
        assert_eq!(gather(&model).parameter_gradients, plain);
        assert_eq!(model.fc.weight.is_require_grad(), before);
    }

    // Batch normalisations neither use nor change statistics of batches.
    let small = Small::new(8, true).train();
    let before = small.valid();
    let statistics = |model: &Small| {
        [&model.norm, &model.second_norm].map(|n| (values(n.running_mean.value()), values(n.running_var.value())))
    };
    let needs = Needs::none().outputs().gradients().inputs(256);
    let evidence = Evidence::gather(&small, &super::data(), needs.clone(), &NoProgress).unwrap();
    assert_eq!(statistics(&small), statistics(&before));
    assert_eq!(values(small.valid().logits(images(6).0)), values(before.logits(images(6).0)));
    let again = Evidence::gather(&before, &super::data(), needs, &NoProgress).unwrap();
    assert_eq!(evidence.filter_gradients, again.filter_gradients);
}

#[test]
fn zero_weights_score_zero() {
    let mut model = Small::new(9, false);
    model.first.weight = Param::from_tensor(model.first.weight.val().slice_fill([0..2, 0..2, 0..3, 0..3], 0.0));
    let policies: [&dyn burn_sfp_prune::RankingPolicy; 3] =
        [&Taylor::new(), &Taylor::elements(), &HessianDiagonal::new()];
    for policy in policies {
        let scores = &ranking(&model, policy).filters["first"];
        assert_eq!(scores[..2], [0.0, 0.0]);
        assert!(scores[2..].iter().all(|score| *score > 0.0));
    }
}

#[test]
fn what_cannot_be_differentiated_is_an_error() {
    let model = Small::new(10, false);
    let gather = |x: Tensor<4>, labels: Vec<usize>| {
        let data = TensorCalibration::new(x, labels, BATCH);
        Evidence::gather(&model, &data, Needs::none().gradients(), &NoProgress).unwrap_err()
    };
    let (x, mut labels) = images(SAMPLES);
    let broken = x.clone().slice_fill([7..8, 0..1, 0..1, 0..1], f32::NAN);
    assert!(matches!(gather(broken, labels.clone()), PruneError::NonFiniteLoss { batch: 1, value } if value.is_nan()));
    labels[11] = 4;
    let error = gather(x.clone(), labels);
    let PruneError::Analysis(SfpError::LabelOutOfRange { batch: 2, sample: 1, label: 4, classes: 4 }) = error else {
        panic!("{error}");
    };
    let none = TensorCalibration::new(x.slice_dim(0, 0..0), vec![], BATCH);
    for needs in [Needs::none().gradients(), Needs::none().outputs()] {
        let error = Evidence::gather(&model, &none, needs, &NoProgress).unwrap_err();
        assert!(matches!(error, PruneError::Analysis(SfpError::NoSamples)), "{error}");
    }
    // Loss and activations are finite here; the gradient of a square root at zero is not.
    let error =
        Evidence::gather(&Rooted { inner: Small::new(1, false) }, &data(), Needs::none().gradients(), &NoProgress);
    let error = error.unwrap_err();
    assert!(matches!(&error, PruneError::NonFiniteGradient { batch: 0, .. }), "{error}");
}

/// Adds the square root of zero to its logits.
#[derive(Module, Debug)]
struct Rooted {
    inner: Small,
}

impl burn_sfp_graph::GraphModule for Rooted {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<4>) -> Tensor<2> {
        let logits = self.inner.run(x);
        let nothing = logits.clone() - logits.clone();
        logits + nothing.sqrt()
    }
}
