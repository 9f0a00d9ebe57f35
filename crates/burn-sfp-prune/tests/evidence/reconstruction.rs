//! Gram matrices of inputs, and the least-squares loss of removed channels.

use burn::module::Param;
use burn::tensor::{Device, Tensor};
use burn_sfp_core::{NoProgress, RemovedInputs, TensorCalibration};
use burn_sfp_graph::Network;
use burn_sfp_prune::{Evidence, Needs, PolicyContext, RankingPolicy, ReconstructionError};

use super::plain::{Plain, Rows, add_ridge, gram, loss_without, padded, solve, values};
use super::small::{CLASSES, SIDE, Small, images};
use super::varied::{Varied, signals};
use super::{SAMPLES, close, ranking};

const RIDGE: f64 = 1e-3;
const MAP: usize = SIDE * SIDE;

/// What the second convolution and the classifier multiply by their weights, and those weights as `[columns, outputs]`.
fn consumers(model: &Small) -> [(Rows, Rows); 2] {
    let (plain, x) = (Plain::of(model), values(images(SAMPLES).0));
    let filters = plain.filters;
    let (mut of_conv, mut of_fc) = (Rows::new(), Rows::new());
    for sample in x.chunks(2 * MAP) {
        let [first, second, _] = plain.run(sample);
        for p in 0..MAP {
            let column = |k: usize| padded(p, k % 9).map_or(0.0, |at| first[k / 9 * MAP + at]);
            of_conv.push((0..filters * 9).map(column).collect());
        }
        of_fc.push(second);
    }
    let conv = (0..filters * 9).map(|k| (0..filters).map(|b| plain.second[b * filters * 9 + k]).collect()).collect();
    let fc = plain.fc.chunks(CLASSES).map(<[f64]>::to_vec).collect();
    [(of_conv, conv), (of_fc, fc)]
}

/// The loss of each channel, of so many columns each, without the outputs that leave with it.
fn losses(rows: &Rows, weights: &Rows, columns: usize, is_exact: bool, leaves_with: bool) -> Vec<f64> {
    let whole = gram(rows, SAMPLES);
    let channels = whole.len() / columns;
    let loss = |c: usize| {
        let stays = |b: &usize| !leaves_with || *b != c;
        let weights: Rows = weights.iter().map(|row| (0..row.len()).filter(stays).map(|b| row[b]).collect()).collect();
        let own: Vec<usize> = (c * columns..(c + 1) * columns).collect();
        if is_exact {
            return loss_without(&whole, RIDGE, &weights, &own);
        }
        // The mean over the elements of the matrices over channels.
        let mean = |i: usize, j: usize| {
            (0..columns).map(|e| whole[i * columns + e][j * columns + e]).sum::<f64>() / columns as f64
        };
        let alike: Rows = (0..channels).map(|i| (0..channels).map(|j| mean(i, j)).collect()).collect();
        let unit = (0..channels).map(|k| vec![f64::from(u8::from(k == c))]).collect();
        let inverse = solve(add_ridge(alike, RIDGE), unit)[c][0];
        own.iter().flat_map(|&k| &weights[k]).map(|weight| weight * weight).sum::<f64>() / inverse
    };
    (0..channels).map(loss).collect()
}

#[test]
fn losses_of_a_small_network() {
    for (is_exact, policy) in [(true, ReconstructionError::new()), (false, ReconstructionError::new().columns(71))] {
        let model = Small::with_filters(11, false, 8);
        let [(x, w), (y, fc)] = consumers(&model);
        let found = ranking(&model, &policy);
        close(&found.filters["first"], &losses(&x, &w, 9, is_exact, false), 1e-4);
        close(&found.filters["second"], &losses(&y, &fc, MAP, is_exact, false), 1e-4);

        // A channel of the sum is read by the second convolution, which also writes to it, and by the classifier.
        let model = Small::with_filters(12, true, 8);
        let [(x, w), (y, fc)] = consumers(&model);
        let both: Vec<f64> = losses(&x, &w, 9, is_exact, true)
            .into_iter()
            .zip(losses(&y, &fc, MAP, is_exact, false))
            .map(|(a, b)| a + b)
            .collect();
        let found = ranking(&model, &policy);
        close(&found.filters["first"], &both, 1e-4);
        assert_eq!(found.filters["first"], found.filters["second"]);
    }
}

/// What each channel adds when it goes, one after the other, where `loss` is that of any set of channels.
fn greedy(channels: usize, loss: impl Fn(&[usize]) -> f64) -> Vec<f64> {
    let (mut gone, mut scores): (Vec<usize>, _) = (Vec::new(), vec![0.0; channels]);
    let (mut before, mut largest) = (0.0, 0.0_f64);
    while gone.len() < channels {
        let with = |c: usize| loss(&gone.iter().copied().chain([c]).collect::<Vec<_>>());
        let left = (0..channels).filter(|c| !gone.contains(c));
        let (least, next) = left.map(|c| (with(c), c)).min_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
        largest = largest.max(least - before);
        scores[next] = largest;
        gone.push(next);
        before = least;
    }
    scores
}

#[test]
fn one_channel_after_the_other() {
    let policy = ReconstructionError::new().greedy();
    let model = Small::with_filters(11, false, 6);
    let [(x, w), (y, fc)] = consumers(&model);
    let (of_conv, of_fc) = (gram(&x, SAMPLES), gram(&y, SAMPLES));
    let columns = |gone: &[usize], own: usize| gone.iter().flat_map(|c| c * own..(c + 1) * own).collect::<Vec<_>>();
    let found = ranking(&model, &policy);
    let first = greedy(6, |gone| loss_without(&of_conv, RIDGE, &w, &columns(gone, 9)));
    close(&found.filters["first"], &first, 1e-3);
    let second = greedy(6, |gone| loss_without(&of_fc, RIDGE, &fc, &columns(gone, MAP)));
    close(&found.filters["second"], &second, 1e-3);
    // The first one to go costs what it costs alone.
    let alone = ranking(&model, &ReconstructionError::new());
    for (path, scores) in &found.filters {
        let least = |scores: &[f64]| scores.iter().copied().fold(f64::INFINITY, f64::min);
        close(&[least(scores)], &[least(&alone.filters[path])], 1e-9);
        assert_ne!(scores, &alone.filters[path]);
    }

    // A channel of the sum is read by the second convolution, which also writes to it, and by the classifier.
    let model = Small::with_filters(12, true, 6);
    let [(x, w), (y, fc)] = consumers(&model);
    let (of_conv, of_fc) = (gram(&x, SAMPLES), gram(&y, SAMPLES));
    let both = |gone: &[usize]| {
        let stays = |row: &Vec<f64>| (0..6).map(|b| if gone.contains(&b) { 0.0 } else { row[b] }).collect();
        let w: Rows = w.iter().map(stays).collect();
        loss_without(&of_conv, RIDGE, &w, &columns(gone, 9)) + loss_without(&of_fc, RIDGE, &fc, &columns(gone, MAP))
    };
    // Outputs that leave take their share of the loss with them, so that a set can cost less than a part of it; what a channel adds
    // is counted without them.
    let (mut gone, mut before): (Vec<usize>, f64) = (Vec::new(), 0.0);
    let found = ranking(&model, &policy);
    let mut order: Vec<usize> = (0..6).collect();
    order.sort_by(|&a, &b| found.filters["first"][a].total_cmp(&found.filters["first"][b]));
    let first = (0..6).map(|c| both(&[c])).fold(f64::INFINITY, f64::min);
    close(&[both(&order[..1])], &[first], 1e-9);
    close(&[found.filters["first"][order[0]]], &[first], 1e-3);
    for &channel in &order {
        gone.push(channel);
        let after = both(&gone);
        let added = found.filters["first"][channel];
        assert!(after - before <= added * (1.0 + 1e-3), "{after} {before} {added}");
        before = after;
    }
}

#[test]
fn elements_alike_one_after_the_other() {
    let model = Small::with_filters(11, false, 6);
    let found = ranking(&model, &ReconstructionError::new().columns(5).greedy());
    let [(x, w), _] = consumers(&model);
    let whole = gram(&x, SAMPLES);
    let mean = |i: usize, j: usize| (0..9).map(|e| whole[i * 9 + e][j * 9 + e]).sum::<f64>() / 9.0;
    let alike: Rows = (0..6).map(|i| (0..6).map(|j| mean(i, j)).collect()).collect();
    // Each element reads a map of its own: nine problems with the same matrix.
    let of_element = |e: usize| (0..6).map(|c| w[c * 9 + e].clone()).collect::<Rows>();
    let problems: Vec<Rows> = (0..9).map(of_element).collect();
    let expected = greedy(6, |gone| problems.iter().map(|w| loss_without(&alike, RIDGE, w, gone)).sum());
    close(&found.filters["first"], &expected, 1e-3);
}

#[test]
fn copies_cost_nothing_and_what_nothing_reads_neither() {
    let device = Device::flex();
    let mut model = Small::new(13, false);
    // Filters 0 and 1 are the same up to a factor behind the activation; filter 2 is not read; filter 3 is dead.
    let row = |t: Tensor<1>| {
        let first = t.clone().narrow(0, 0, 1);
        Tensor::cat(vec![first.clone(), first, t.narrow(0, 2, 6)], 0)
    };
    let w = model.first.weight.val();
    let copied =
        Tensor::cat(vec![w.clone().slice([0..1, 0..2]), w.clone().slice([0..1, 0..2]), w.slice([2..8, 0..2])], 0);
    model.first.weight = Param::from_tensor(copied);
    model.first.bias = model.first.bias.map(|bias| Param::from_tensor(row(bias.val())));
    for param in [&mut model.norm.gamma, &mut model.norm.beta] {
        *param = Param::from_tensor(row(param.val()));
    }
    for state in [&mut model.norm.running_mean, &mut model.norm.running_var] {
        *state = burn::module::RunningState::new(row(state.value()));
    }
    let alive = Tensor::from_floats([1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0], &device);
    for param in [&mut model.norm.gamma, &mut model.norm.beta] {
        *param = Param::from_tensor(param.val() * alive.clone());
    }
    let unread = model.second.weight.val().slice_fill([0..8, 2..3, 0..3, 0..3], 0.0);
    model.second.weight = Param::from_tensor(unread);
    let scores = &ranking(&model, &ReconstructionError::new()).filters["first"];
    let others = scores[4..].iter().copied().fold(f64::INFINITY, f64::min);
    assert!(scores[0] < 0.1 * others && scores[1] < 0.1 * others, "{scores:?}");
    assert!(scores[2] < 1e-12 && scores[3] < 0.1 * others, "{scores:?}");
    // A network that is dead everywhere.
    model.norm.gamma = Param::from_tensor(Tensor::zeros([8], &device));
    model.norm.beta = Param::from_tensor(Tensor::zeros([8], &device));
    assert_eq!(ranking(&model, &ReconstructionError::new()).filters["first"], [0.0; 8]);
}

#[test]
fn one_filter() {
    let found = ranking(&Small::with_filters(14, false, 1), &ReconstructionError::new());
    // What leaves all filters cannot leave; where it can be scored it has a score.
    assert!(found.filters.values().all(|scores| scores.len() == 1 && scores[0] > 0.0));
}

/// `[n, channels, length]` as `value(n, c, p)`.
fn read(tensor: Tensor<3>) -> (Vec<f64>, [usize; 3]) {
    let dims = tensor.dims();
    (values(tensor), dims)
}

#[test]
fn grouped_transposed_and_depthwise_consumers() {
    let device = Device::flex();
    let model = Varied::new(&device);
    let (x, labels) = signals(SAMPLES, &device);
    let (stem, grouped, _, pooled, hidden) = model.inputs(x.clone());
    let policy = ReconstructionError::new();
    let data = TensorCalibration::new(x.clone(), labels, 5);
    let evidence = Evidence::gather(&model, &data, policy.needs(), &NoProgress).unwrap();
    let paths: Vec<&str> = evidence.inputs.keys().map(String::as_str).collect();
    assert_eq!(paths, ["fc", "grouped", "hidden", "up"], "not the first layer, nor the depthwise one");
    let network = Network::capture(&model, &x).unwrap();
    let ranked = policy.rank(&PolicyContext::new(&network, None).with_evidence(&evidence)).unwrap();

    // Through the depthwise convolution, at the layer on vectors.
    let rows = |tensor: Tensor<2>| {
        let width = tensor.dims()[1];
        values(tensor).chunks(width).map(<[f64]>::to_vec).collect::<Rows>()
    };
    let weights = |tensor: Tensor<2>| rows(tensor);
    let expected = losses(&rows(pooled), &weights(model.hidden.weight.val()), 1, true, false);
    close(&ranked.filters["up"], &expected, 1e-4);
    let expected = losses(&rows(hidden), &weights(model.fc.weight.val()), 1, true, false);
    close(&ranked.filters["hidden"], &expected, 1e-4);

    // Transposed: each position of the input adds to the positions that its kernel covers.
    let (map, [n, channels, length]) = read(grouped);
    let out = (length - 1) * 3 + 4 - 2 + 1;
    let mut rows = vec![vec![0.0; channels * 4]; n * out];
    for (at, value) in map.iter().enumerate() {
        let (sample, c, q) = (at / (channels * length), at / length % channels, at % length);
        for k in 0..4 {
            if let Some(p) = (q * 3 + k).checked_sub(1).filter(|p| *p < out) {
                rows[sample * out + p][c * 4 + k] += value;
            }
        }
    }
    // [6, 4, 4]: inputs, filters, kernel.
    let up = values(model.up.weight.val());
    let weights: Rows = (0..24).map(|k| (0..4).map(|b| up[(k / 4 * 4 + b) * 4 + k % 4]).collect()).collect();
    close(&ranked.filters["grouped"], &losses(&rows, &weights, 4, true, false), 1e-4);

    // Grouped: two channels to three filters each, stride 2, padding 2.
    let (map, [n, _, length]) = read(stem);
    let out = (length + 4 - 3) / 2 + 1;
    let kernels = values(model.grouped.weight.val());
    let mut expected = Vec::new();
    for group in 0..2 {
        let row = |sample: usize, p: usize| -> Vec<f64> {
            let column = |k: usize| {
                let q = (p * 2 + k % 3).checked_sub(2).filter(|q| *q < length);
                q.map_or(0.0, |q| map[(sample * 4 + group * 2 + k / 3) * length + q])
            };
            (0..6).map(column).collect()
        };
        let rows: Rows = (0..n * out).map(|at| row(at / out, at % out)).collect();
        let weights: Rows = (0..6).map(|k| (0..3).map(|b| kernels[(group * 3 + b) * 6 + k]).collect()).collect();
        expected.extend(losses(&rows, &weights, 3, true, false));
    }
    let (_, gram) = evidence.inputs.iter().find(|(path, _)| *path == "grouped").unwrap();
    assert_eq!(gram.columns(), [6, 6]);
    let context = PolicyContext::new(&network, None);
    let own = context.kernels(network.layer("grouped").unwrap()).unwrap();
    let sets: Vec<RemovedInputs> = (0..4).map(|c| RemovedInputs { inputs: vec![c], outputs: vec![] }).collect();
    let kernel = |output: usize, input: usize| own.kernel(output, input);
    let found = gram.removal_losses("grouped", 6, &kernel, RIDGE, &sets).unwrap();
    close(&found, &expected, 1e-4);
    close(&ranked.filters["stem"], &expected, 1e-4);

    // One after the other: the first to go costs what it costs alone, exactly and with elements alike.
    for policy in [ReconstructionError::new(), ReconstructionError::new().columns(3)] {
        let rank = |policy: ReconstructionError| {
            policy.rank(&PolicyContext::new(&network, None).with_evidence(&evidence)).unwrap()
        };
        let (alone, greedy) = (rank(policy), rank(policy.greedy()));
        assert_eq!(greedy.filters.keys().collect::<Vec<_>>(), alone.filters.keys().collect::<Vec<_>>());
        for (path, scores) in &greedy.filters {
            let least = |scores: &[f64]| scores.iter().copied().fold(f64::INFINITY, f64::min);
            close(&[least(scores)], &[least(&alone.filters[path])], 1e-9);
            assert!(scores.iter().all(|score| score.is_finite()), "{path}");
        }
    }
    // Groups have nothing to do with each other: a channel of one costs the same whatever goes in the other.
    let mut left = gram.elimination("grouped", 6, &kernel, RIDGE).unwrap();
    let before = left.loss(&sets[2]).unwrap();
    close(&[left.remove(&sets[0]).unwrap()], &[expected[0]], 1e-4);
    close(&[left.loss(&sets[2]).unwrap()], &[before], 1e-12);
    // What is gone is gone.
    close(&[1.0 + left.remove(&sets[0]).unwrap()], &[1.0], 1e-12);
}

#[test]
fn layers_without_readers_have_no_scores() {
    let model = Small::new(15, false);
    let network = Network::capture(&model, &images(2).0).unwrap();
    let evidence = Evidence::gather(&model, &super::data(), Needs::none().inputs(10), &NoProgress).unwrap();
    assert!(!evidence.inputs["second"].is_exact() && evidence.inputs["second"].columns() == [8]);
    // Evidence that lacks the readers of a layer.
    let mut partial = evidence.clone();
    partial.inputs.remove("fc");
    let context = PolicyContext::new(&network, None).with_evidence(&partial);
    let found = ReconstructionError::new().rank(&context).unwrap();
    assert_eq!(found.filters.keys().collect::<Vec<_>>(), ["first"]);
}
