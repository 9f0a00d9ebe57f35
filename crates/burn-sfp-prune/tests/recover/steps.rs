//! Each step against plain loops, layer after layer on what the recovered network itself computes.

use burn::module::Module;
use burn::tensor::Tensor;
use burn_sfp_core::{NoProgress, TensorCalibration};
use burn_sfp_prune::{Magnitude, Planner, PrunePlan, PrunedModule, Pruner, Recover, Recovered, RecoveryStep, recover};

use super::graph::inspect::{bytes, difference, edited, values};
use super::net::{CLASSES, LastFirst, Net, Seen, calibration, images};
use super::plain::{self, Map, mean, patches, ridge, variance};

use RecoveryStep::{LeastSquares, Means, Statistics};

const SAMPLES: usize = 13;

pub fn pruned(net: &Net, masked: &'static [&'static str]) -> PrunedModule<Net> {
    Planner::new().prune(net, &images(2, 3), &LastFirst { masked }).unwrap()
}

pub fn recovered(net: &Net, pruned: &PrunedModule<Net>, config: &Recover) -> Recovered<Net> {
    recover(net, &pruned.model, &pruned.plan, &calibration(SAMPLES), config, &NoProgress).unwrap()
}

/// The filters of a layer that the plan keeps.
fn filters(plan: &PrunePlan, layer: &Seen) -> Vec<usize> {
    kept(plan, layer, usize::from(!layer.geometry.outputs_first), layer.output.dims()[1])
}

/// The indices of an axis of a layer's weight that the plan keeps.
fn kept(plan: &PrunePlan, layer: &Seen, axis: usize, length: usize) -> Vec<usize> {
    let path = format!("{}.weight", layer.path);
    let cut =
        plan.cuts.iter().find(|cut| cut.path == path).and_then(|cut| cut.axes.iter().find(|cut| cut.axis == axis));
    cut.map_or_else(|| (0..length).collect(), |cut| cut.keep.clone())
}

/// The weight of a layer, masks applied: a column for each input and element of the kernel, by filter.
pub fn weight(net: &Net, path: &str) -> Vec<Vec<f64>> {
    fn rows<const D: usize>(weight: Tensor<D>) -> (usize, Vec<f64>) {
        (weight.dims()[0], plain::values(weight))
    }
    let (first, values) = match path {
        "first" => rows(net.first.weight.val()),
        "grouped" => rows(net.grouped.weight.val()),
        "dilated" => rows(net.dilated.weight.val()),
        "hidden" => rows(net.hidden.weight.val().transpose()),
        _ => rows(net.classifier.weight.val().transpose()),
    };
    values.chunks(values.len() / first).map(<[f64]>::to_vec).collect()
}

/// Whether the test's mask keeps a connection between filters that stay.
fn keeps(output: usize, input: usize) -> bool {
    !(3 * output + input).is_multiple_of(4)
}

/// The weights of each layer of a recovered network are those that plain loops find, on what the network itself reads there.
fn check_weights(net: &Net, made: &PrunedModule<Net>, config: &Recover, strength: f64, masked: &[&str]) {
    let result = recovered(net, made, config).model;
    let x = images(SAMPLES, 11);
    let ((_, original, _), (_, own, _)) = (net.trace(x.clone()), result.valid().trace(x));
    for (layer, target) in own.iter().zip(&original).skip(1) {
        let inputs = kept(&made.plan, target, usize::from(target.geometry.outputs_first), target.input.dims()[1]);
        let kept = filters(&made.plan, target);
        let (input, target) = (Map::new(&layer.input), Map::new(&target.output));
        let (before, after) = (weight(&made.model, layer.path), weight(&result, layer.path));
        let [_, outputs, height, width] = layer.output.dims();
        assert_eq!(kept.len(), outputs);
        let groups = layer.geometry.groups;
        for group in 0..groups {
            let rows = patches(&input, layer.geometry, group, [height, width]);
            for filter in group * outputs / groups..(group + 1) * outputs / groups {
                let columns = before[filter].len();
                let elements = layer.geometry.kernel * layer.geometry.kernel;
                let is_masked = masked.contains(&layer.path);
                let stays = |k: &usize| !is_masked || keeps(kept[filter], inputs[k / elements]);
                let columns: Vec<usize> = (0..columns).filter(stays).collect();
                // Without bias or normalisation nothing takes an intercept in.
                let has_intercept = ["grouped", "hidden"].contains(&layer.path);
                let expected =
                    ridge(&rows, &target.channel(kept[filter]), &before[filter], &columns, strength, has_intercept);
                let scale = expected.iter().fold(0.1, |most: f64, value| most.max(value.abs()));
                for (found, expected) in after[filter].iter().zip(&expected) {
                    let off = (found - expected).abs();
                    assert!(off < 2e-3 * scale, "{} {filter}: {found} {expected}", layer.path);
                }
                assert!(after[filter].iter().zip(&expected).all(|(found, expected)| *expected != 0.0 || *found == 0.0));
            }
        }
    }
}

#[test]
fn least_squares_are_those_of_plain_loops() {
    for seed in [1, 2] {
        let net = Net::new(seed);
        let config = Recover::new().patches(1 << 20).ridge(1e-2);
        check_weights(&net, &pruned(&net, &[]), &config, 1e-2, &[]);
    }
}

#[test]
fn masked_connections_are_left_out_and_stay_zero() {
    let net = Net::new(3);
    let masked = &["dilated", "hidden", "classifier"];
    let made = pruned(&net, masked);
    assert_eq!(made.plan.masks.len(), 3);
    let config = Recover::new().patches(1 << 20).ridge(1e-2);
    check_weights(&net, &made, &config, 1e-2, masked);
    // Folded into the weights, masks are known from the plan.
    let mut folded = made.clone();
    folded.model = folded.model.materialize();
    check_weights(&net, &folded, &config, 1e-2, masked);
    let of_model = recovered(&net, &made, &config).model.materialize();
    assert_eq!(bytes(&of_model), bytes(&recovered(&net, &folded, &config).model));
}

#[test]
fn means_and_statistics_are_those_of_what_the_network_computes() {
    let net = Net::new(4);
    let made = pruned(&net, &["dilated"]);
    for config in [Recover::new(), Recover::only([Statistics, Means]), Recover::only([Statistics])] {
        let result = recovered(&net, &made, &config);
        assert!(result.report.all_samples && result.report.samples == SAMPLES as u64);
        let x = images(SAMPLES, 11);
        let ((_, original, _), (_, own, normed)) = (net.trace(x.clone()), result.model.valid().trace(x));
        for (path, input) in normed {
            let norm = if path == "norm" { &result.model.norm } else { &result.model.sum_norm };
            let (mean_found, var) = (plain::values(norm.running_mean.value()), plain::values(norm.running_var.value()));
            let input = Map::new(&input);
            for channel in 0..mean_found.len() {
                let values = input.channel(channel);
                assert!((mean_found[channel] - mean(&values)).abs() < 1e-5, "{path} {channel}");
                assert!((var[channel] - variance(&values)).abs() < 1e-5 * (1.0 + var[channel]), "{path} {channel}");
            }
        }
        if config.has(Means) {
            // The only layer without a normalisation that is measured, and with a bias.
            let (kept, hidden) = (filters(&made.plan, &original[3]), Map::new(&own[3].output));
            let target = Map::new(&original[3].output);
            for (filter, &of_original) in kept.iter().enumerate() {
                let off = mean(&hidden.channel(filter)) - mean(&target.channel(of_original));
                assert!(off.abs() < 1e-4, "{filter}: {off}");
            }
        }
    }
}

#[test]
fn means_go_into_the_running_mean_of_a_layer_without_bias() {
    let net = Net::new(5);
    let made = pruned(&net, &[]);
    let result = recovered(&net, &made, &Recover::only([Means]));
    let x = images(SAMPLES, 11);
    let ((_, original, _), (_, own, normed)) = (net.trace(x.clone()), result.model.valid().trace(x));
    let kept = filters(&made.plan, &original[1]);
    let before = plain::values(net.norm.running_mean.value());
    let after = plain::values(result.model.norm.running_mean.value());
    assert_eq!(normed[0].0, "norm");
    let (target, own) = (Map::new(&original[1].output), Map::new(&own[1].output));
    for (filter, &of_original) in kept.iter().enumerate() {
        // What is normalised has the original's mean.
        let expected = mean(&target.channel(of_original)) - before[of_original];
        assert!((mean(&own.channel(filter)) - after[filter] - expected).abs() < 1e-4, "{filter}");
    }
    // Variances stay, and so do weights.
    let (cut, own) = (made.model.norm.running_var.value(), result.model.norm.running_var.value());
    assert_eq!(values(cut), values(own));
    assert_eq!(values(made.model.dilated.weight.val()), values(result.model.dilated.weight.val()));
    // Nothing can take the mean of the convolution before the sum in, nor that of the classifier.
    let left: Vec<&str> = result.report.left_out.iter().map(|left| left.path.as_str()).collect();
    assert_eq!(left, ["dilated", "classifier"]);
    assert!(result.report.left_out[0].reason.contains("neither a bias"));
}

/// Where a removed channel is a multiple of one that stays, least squares give the original's outputs back.
#[test]
fn removed_channels_that_depend_on_kept_ones_cost_nothing() {
    let net = edited(&Net::new(6), |path, shape, values| {
        let half = |values: &mut [f32], size: usize, factor: f32| {
            let (first, second) = values.split_at_mut(values.len() / 2);
            assert_eq!(first.len() % size, 0);
            second.iter_mut().zip(first).for_each(|(own, other)| *own = factor * *other);
        };
        match path {
            // Channels leave from each of the groups that read them.
            "first.weight" | "first.bias" => {
                let group = values.len() / 2;
                values.chunks_mut(group).for_each(|own| half(own, 1, 1.5));
            }
            "hidden.weight" => values.chunks_mut(shape[1]).for_each(|row| half(row, shape[1] / 2, 0.5)),
            "hidden.bias" => half(values, shape[0] / 2, 0.5),
            _ => {}
        }
    });
    let made =
        Planner::new().exclude(["grouped", "dilated"]).prune(&net, &images(2, 3), &LastFirst { masked: &[] }).unwrap();
    assert_eq!((made.model.first.weight.dims()[0], made.model.hidden.weight.dims()[1]), (4, 5));
    let config = Recover::only([LeastSquares]).patches(1 << 20).ridge(1e-9);
    let result = recovered(&net, &made, &config);
    let x = images(40, 21);
    let (original, before, after) = (net.trace(x.clone()).0, made.model.trace(x.clone()).0, result.model.trace(x).0);
    assert!(difference(before, original.clone(), 1e-3) > 0.1);
    assert!(difference(after, original, 1e-3) < 1e-3);
    let error = result.report.correction("grouped", LeastSquares).unwrap().error.unwrap();
    assert!(error.0 > 0.05 && error.1 < 1e-6, "{error:?}");
}

#[test]
fn both_models_stay_as_they_are() {
    let net = Net::new(7);
    let made = pruned(&net, &["hidden"]);
    let (original, smaller) = (bytes(&net), bytes(&made.model));
    let result = recovered(&net, &made, &Recover::new());
    assert_eq!((bytes(&net), bytes(&made.model)), (original, smaller));
    assert_ne!(bytes(&result.model), bytes(&made.model));
    assert_eq!(result.model.classifier.weight.dims()[1], CLASSES);
    // The first layer lost no input.
    assert_eq!(values(result.model.first.weight.val()), values(made.model.first.weight.val()));
    assert!(result.report.corrected.iter().all(|corrected| corrected.path != "first"));
    // A recovered model is the plan's.
    recover(&net, &result.model, &made.plan, &calibration(4), &Recover::new(), &NoProgress).unwrap();
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let net = Net::new(8);
    let made = pruned(&net, &["hidden"]);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| bytes(&recovered(&net, &made, &Recover::new().patches(100)).model))
    };
    let one = run(1);
    assert!(run(2) == one && run(5) == one);
}

#[test]
fn a_pruner_recovers_unless_it_is_told_not_to() {
    let net = Net::new(6);
    let labels = (0..SAMPLES).map(|sample| sample % CLASSES).collect();
    let data = TensorCalibration::new(images(SAMPLES, 5), labels, 6);
    let pruner = || Pruner::new(&data).policy(Magnitude::l2()).ratio(0.5);
    let left = pruner().without_recovery().analyze_and_prune(&net).unwrap();
    assert!(left.recovery.is_none());
    assert_eq!(bytes(&left.model), bytes(&left.plan.apply(&net).unwrap()));
    let fitted = pruner().analyze_and_prune(&net).unwrap();
    assert_eq!(fitted.plan, left.plan);
    assert!(fitted.recovery.is_some());
    let by_hand = recover(&net, &left.model, &left.plan, &data, &Recover::new(), &NoProgress).unwrap();
    assert_eq!(bytes(&fitted.model), bytes(&by_hand.model));
    assert_ne!(bytes(&fitted.model), bytes(&left.model));
}
