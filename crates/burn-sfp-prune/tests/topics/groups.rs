//! Convolutions whose channels come in groups, plain and transposed, and normalisations by groups of channels.

use burn::module::Module;
use burn::nn::conv::{Conv2d, ConvTranspose2d, ConvTranspose2dConfig};
use burn::nn::{GroupNorm, GroupNormConfig, InstanceNorm, InstanceNormConfig, Linear};
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn_sfp_graph::GraphModule;
use burn_sfp_nn::Shrink;
use burn_sfp_prune::GroupCut;

use crate::support::*;

#[derive(Module, Debug, Shrink)]
struct Grouped {
    a: Conv2d,
    b: Conv2d,
    fc: Linear,
}

graph!(shrink Grouped: Tensor<4> => Tensor<2>, |net, x| {
    net.fc.forward(mean(relu(net.b.forward(relu(net.a.forward(x))))))
});

/// 12 channels into 8 filters, in 4 groups: three inputs and two filters each.
fn four_groups() -> (Grouped, Tensor<4>) {
    (random(Grouped { a: conv(2, 12), b: grouped(12, 8, 4), fc: linear(8, 3) }), input([2, 2, 4, 4]))
}

/// Indices of members of every block.
fn inside(members: &[usize], length: usize, blocks: usize) -> Vec<usize> {
    (0..blocks).flat_map(|block| members.iter().map(move |k| block * length + k)).collect()
}

/// Indices of whole blocks.
fn whole(blocks: &[usize], length: usize) -> Vec<usize> {
    blocks.iter().flat_map(|block| block * length..(block + 1) * length).collect()
}

#[test]
fn groups_lose_the_same_members() {
    let (net, x) = four_groups();
    let smaller = prune(&net, &x, 0.5);
    let (plan, model) = (&smaller.plan, &smaller.model);
    let read = strongest(&folded(&norms(&net.a.weight, 0), 3, GroupCut::WithinGroups), 1);
    let made = strongest(&folded(&norms(&net.b.weight, 0), 2, GroupCut::WithinGroups), 1);
    assert_eq!(kept(plan, "a.weight", 0), inside(&read, 3, 4));
    assert_eq!(kept(plan, "b.weight", 1), read);
    assert_eq!(kept(plan, "b.weight", 0), inside(&made, 2, 4));
    assert_eq!(kept(plan, "fc.weight", 0), inside(&made, 2, 4));
    assert_eq!((model.b.groups, model.b.weight.dims()), (4, [4, 2, 3, 3]));
    let (a, b) = (gone_of(plan, "a.weight", 0, 12), gone_of(plan, "b.weight", 0, 8));
    let zero = silence(&net, &[("a.weight", 0, &a), ("a.bias", 0, &a), ("b.weight", 0, &b), ("b.bias", 0, &b)]);
    assert!(difference(model.run(x.clone()), zero.run(x.clone())) < TOLERANCE);
    sweep(&net, &x, GroupCut::WithinGroups);
}

#[test]
fn whole_groups_leave() {
    let (net, x) = four_groups();
    let smaller = prune_whole(&net, &x, 0.5);
    let (plan, model) = (&smaller.plan, &smaller.model);
    // Filters of both layers speak for a group.
    let scores = together(&[
        &folded(&norms(&net.a.weight, 0), 3, GroupCut::WholeGroups),
        &folded(&norms(&net.b.weight, 0), 2, GroupCut::WholeGroups),
    ]);
    let stay = strongest(&scores, 2);
    assert_eq!(kept(plan, "a.weight", 0), whole(&stay, 3));
    assert_eq!(kept(plan, "b.weight", 0), whole(&stay, 2));
    assert_eq!(cut(plan, "b.weight", 1), None);
    assert_eq!((model.b.groups, model.b.weight.dims()), (2, [4, 3, 3, 3]));
    assert_eq!((plan.fields[0].field.as_str(), plan.fields[0].before, plan.fields[0].after), ("groups", 4.0, 2.0));
    sweep(&net, &x, GroupCut::WholeGroups);
}

#[test]
fn depthwise() {
    let net = random(Grouped { a: conv(2, 8), b: grouped(8, 8, 8), fc: linear(8, 3) });
    let x = input([2, 2, 4, 4]);
    let smaller = prune(&net, &x, 0.5);
    let stay = strongest(&together(&[&norms(&net.a.weight, 0), &norms(&net.b.weight, 0)]), 4);
    for (path, axis) in [("a.weight", 0), ("b.weight", 0), ("b.bias", 0), ("fc.weight", 0)] {
        assert_eq!(kept(&smaller.plan, path, axis), stay, "{path}");
    }
    assert_eq!((smaller.model.b.groups, smaller.model.b.weight.dims()), (4, [4, 1, 3, 3]));
    sweep(&net, &x, GroupCut::WithinGroups);
    sweep(&net, &x, GroupCut::WholeGroups);
}

#[test]
fn depthwise_with_two_filters_a_channel() {
    let net = random(Grouped { a: conv(2, 6), b: grouped(6, 12, 6), fc: linear(12, 3) });
    let x = input([2, 2, 4, 4]);
    // Whole: a channel with both of its filters.
    let smaller = prune_whole(&net, &x, 0.5);
    let scores = together(&[&norms(&net.a.weight, 0), &folded(&norms(&net.b.weight, 0), 2, GroupCut::WholeGroups)]);
    let stay = strongest(&scores, 3);
    assert_eq!(kept(&smaller.plan, "a.weight", 0), stay);
    assert_eq!(kept(&smaller.plan, "fc.weight", 0), whole(&stay, 2));
    assert_eq!((smaller.model.b.groups, smaller.model.b.weight.dims()), (3, [6, 1, 3, 3]));
    // Inside: the first or the second filter of every channel.
    let smaller = prune(&net, &x, 0.5);
    let filter = strongest(&folded(&norms(&net.b.weight, 0), 2, GroupCut::WithinGroups), 1);
    assert_eq!(kept(&smaller.plan, "b.weight", 0), inside(&filter, 2, 6));
    assert_eq!((smaller.model.b.groups, smaller.model.b.weight.dims()), (6, [6, 1, 3, 3]));
    sweep(&net, &x, GroupCut::WithinGroups);
    sweep(&net, &x, GroupCut::WholeGroups);
}

#[derive(Module, Debug, Shrink)]
struct Transposed {
    a: Conv2d,
    up: ConvTranspose2d,
    b: Conv2d,
}

graph!(shrink Transposed: Tensor<4> => Tensor<4>, |net, x| {
    net.b.forward(relu(net.up.forward(relu(net.a.forward(x)))))
});

fn up(from: usize, to: usize, groups: usize) -> ConvTranspose2d {
    ConvTranspose2dConfig::new([from, to], [2, 2]).with_stride([2, 2]).with_groups(groups).init(&device())
}

#[test]
fn transposed() {
    let net = random(Transposed { a: conv(2, 6), up: up(6, 8, 1), b: conv(8, 3) });
    let x = input([2, 2, 3, 3]);
    let smaller = prune(&net, &x, 0.5);
    let (plan, model) = (&smaller.plan, &smaller.model);
    assert_eq!(kept(plan, "up.weight", 0), strongest(&norms(&net.a.weight, 0), 3));
    // The weight counts inputs first.
    let stay = strongest(&norms(&net.up.weight, 1), 4);
    for (path, axis) in [("up.weight", 1), ("up.bias", 0), ("b.weight", 1)] {
        assert_eq!(kept(plan, path, axis), stay, "{path}");
    }
    let (a, made) = (gone_of(plan, "a.weight", 0, 6), gone(&stay, 8));
    let zero = silence(&net, &[("a.weight", 0, &a), ("a.bias", 0, &a), ("up.weight", 1, &made), ("up.bias", 0, &made)]);
    assert!(difference(model.run(x.clone()), zero.run(x.clone())) < TOLERANCE);
    sweep(&net, &x, GroupCut::WithinGroups);
}

#[test]
fn transposed_in_groups() {
    // 6 channels into 8 filters, in 2 groups: the weight is [6, 4, 2, 2].
    let net = random(Transposed { a: conv(2, 6), up: up(6, 8, 2), b: conv(8, 3) });
    let x = input([2, 2, 3, 3]);
    let smaller = prune(&net, &x, 0.5);
    let read = strongest(&folded(&norms(&net.a.weight, 0), 3, GroupCut::WithinGroups), 1);
    assert_eq!(kept(&smaller.plan, "up.weight", 0), inside(&read, 3, 2));
    assert_eq!(smaller.model.up.weight.dims(), [4, 2, 2, 2]);
    let made = kept(&smaller.plan, "up.weight", 1);
    assert_eq!(kept(&smaller.plan, "b.weight", 1), inside(&made, 4, 2));
    assert_eq!(made, strongest(&folded(&transposed_norms(&net.up, 2), 4, GroupCut::WithinGroups), 2));

    let smaller = prune_whole(&net, &x, 0.5);
    assert_eq!((smaller.model.up.groups, smaller.model.up.weight.dims()), (1, [3, 4, 2, 2]));
    let scores = together(&[
        &folded(&norms(&net.a.weight, 0), 3, GroupCut::WholeGroups),
        &folded(&transposed_norms(&net.up, 2), 4, GroupCut::WholeGroups),
    ]);
    assert_eq!(kept(&smaller.plan, "a.weight", 0), whole(&strongest(&scores, 1), 3));
    sweep(&net, &x, GroupCut::WithinGroups);
    sweep(&net, &x, GroupCut::WholeGroups);
}

/// Norms of the filters of a transposed convolution in groups, over their mean.
fn transposed_norms(layer: &ConvTranspose2d, groups: usize) -> Vec<f64> {
    let [inputs, members, height, width] = layer.weight.dims();
    let (values, area, share) = (values(layer.weight.val()), height * width, inputs / groups);
    let squares = |input: usize, member: usize| -> f64 {
        let at = (input * members + member) * area;
        values[at..at + area].iter().map(|value| f64::from(*value).powi(2)).sum()
    };
    let norm =
        |group: usize, member| (group * share..(group + 1) * share).map(|k| squares(k, member)).sum::<f64>().sqrt();
    let all: Vec<f64> = (0..groups * members).map(|k| norm(k / members, k % members)).collect();
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    all.into_iter().map(|norm| norm / mean).collect()
}

/// Normalisation by groups of channels, and by single channels.
#[derive(Module, Debug, Shrink)]
struct Norms {
    a: Conv2d,
    groups: GroupNorm,
    b: Conv2d,
    single: InstanceNorm,
    fc: Linear,
}

graph!(shrink Norms: Tensor<4> => Tensor<2>, |net, x| {
    let x = relu(net.groups.forward(net.a.forward(x)));
    net.fc.forward(mean(relu(net.single.forward(net.b.forward(x)))))
});

#[test]
fn group_and_instance_norm() {
    let net = Norms {
        a: conv(2, 12),
        groups: GroupNormConfig::new(4, 12).init(&device()),
        b: conv(12, 6),
        single: InstanceNormConfig::new(6).init(&device()),
        fc: linear(6, 3),
    };
    let net = random(net);
    let x = input([2, 2, 4, 4]);
    // A group is normalised as a whole: its members cannot leave, it can.
    let smaller = prune(&net, &x, 0.5);
    let (plan, model) = (&smaller.plan, &smaller.model);
    let groups = strongest(&folded(&norms(&net.a.weight, 0), 3, GroupCut::WholeGroups), 2);
    let single = strongest(&norms(&net.b.weight, 0), 3);
    for (path, axis, stay) in [
        ("a.weight", 0, whole(&groups, 3)),
        ("groups.gamma", 0, whole(&groups, 3)),
        ("groups.beta", 0, whole(&groups, 3)),
        ("b.weight", 1, whole(&groups, 3)),
        ("b.weight", 0, single.clone()),
        ("single.gamma", 0, single.clone()),
        ("fc.weight", 0, single),
    ] {
        assert_eq!(kept(plan, path, axis), stay, "{path}");
    }
    assert_eq!((model.groups.num_groups, model.groups.num_channels, model.single.num_channels), (2, 6, 3));
    sweep(&net, &x, GroupCut::WithinGroups);
    sweep(&net, &x, GroupCut::WholeGroups);
}
