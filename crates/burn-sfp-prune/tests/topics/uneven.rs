//! Splits into unequal parts: each shrinks by itself where the sizes follow from parameters, all alike or not at all where they do not.

use std::sync::atomic::{AtomicUsize, Ordering};

use burn::module::Module;
use burn::nn::Linear;
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn_sfp_core::TensorCalibration;
use burn_sfp_graph::{GraphModule, Network};
use burn_sfp_prune::{Budget, GroupCut, Magnitude, Planner, PrunePlan, Pruner, SfpRanking};

use crate::support::*;

/// Two parts, as wide as the layers that read them.
#[derive(Module, Debug)]
struct Two {
    a: Linear,
    b: Linear,
    c: Linear,
}

graph!(Two: Tensor<2> => Tensor<2>, |net, x| {
    let sizes = vec![net.b.weight.dims()[0], net.c.weight.dims()[0]];
    let parts = relu(net.a.forward(x)).split_with_sizes(sizes, 1);
    net.b.forward(parts[0].clone()) + net.c.forward(parts[1].clone())
});

fn two(m: usize, n: usize) -> Two {
    random(Two { a: linear(4, m + n), b: linear(m, 3), c: linear(n, 3) })
}

fn filters(plan: &PrunePlan, layer: &str) -> usize {
    plan.layer(layer).unwrap().filters_after
}

#[test]
fn sizes_from_the_layers_that_read_the_parts() {
    let x = input([3, 4]);
    for (m, n, ratio, left) in [(3, 5, 0.5, 4), (6, 10, 0.45, 9), (6, 10, 0.5, 8), (5, 2, 0.3, 5), (1, 7, 0.5, 4)] {
        let net = two(m, n);
        let smaller = prune(&net, &x, ratio);
        assert_eq!(filters(&smaller.plan, "a"), left, "{m} + {n} at {ratio}");
        let [b, c] = [&smaller.model.b, &smaller.model.c].map(|layer| layer.weight.dims()[0]);
        assert_eq!(b + c, left);
        assert!(b > 0 && c > 0);
        // The plan is one of the model as anybody captures it.
        let (before, after) = (capture(&net, &x), capture(&smaller.model, &x));
        smaller.plan.verify(&before, &after).unwrap();
        assert!(smaller.plan.verify(&before, &before).is_err());
        // A strict planner takes the same plan.
        let strict = Planner::new().budget(Budget::PerLayer(ratio)).strict();
        let strict = prune_with(&net, &x, &strict, &Magnitude::l2()).unwrap();
        assert_eq!(strict.plan, smaller.plan);
    }
    let net = two(6, 10);
    assert_eq!(kept(&prune(&net, &x, 0.25).plan, "a.weight", 1), strongest(&norms(&net.a.weight, 1), 4));
    sweep(&net, &x, GroupCut::WithinGroups);
}

#[test]
fn a_plan_with_free_parts_is_saved_and_applied() {
    let (net, x) = (two(3, 5), input([3, 4]));
    let smaller = prune(&net, &x, 0.5);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.json");
    smaller.plan.save(&path).unwrap();
    let loaded = PrunePlan::load(&path).unwrap();
    assert_eq!(loaded, smaller.plan);
    let again = loaded.apply(&net).unwrap();
    loaded.verify(&capture(&net, &x), &capture(&again, &x)).unwrap();
    assert!(difference(again.run(x.clone()), smaller.model.run(x)) < TOLERANCE);
}

#[test]
fn the_pruner_cuts_parts_each_by_itself() {
    let net = two(3, 5);
    let data = TensorCalibration::new(input([6, 4]), vec![0, 1, 2, 0, 1, 2], 6);
    let pruned = Pruner::new(&data).policy(SfpRanking::new()).ratio(0.5).analyze_and_prune(&net).unwrap();
    assert_eq!(filters(&pruned.plan, "a"), 4);
    assert_eq!(pruned.model.b.weight.dims()[0] + pruned.model.c.weight.dims()[0], 4);
}

/// Three parts of maps, one of which is read twice, and a layer before that is tied to nothing.
#[derive(Module, Debug)]
struct Three {
    stem: Conv2d,
    a: Conv2d,
    first: Conv2d,
    second: Conv2d,
    third: Conv2d,
    fc: Linear,
}

graph!(Three: Tensor<4> => Tensor<2>, |net, x| {
    let layers = [&net.first, &net.second, &net.third];
    let sizes = layers.iter().map(|layer| layer.weight.dims()[1]).collect();
    let parts = relu(net.a.forward(relu(net.stem.forward(x)))).split_with_sizes(sizes, 1);
    let sum = layers.iter().zip(&parts).map(|(layer, part)| layer.forward(part.clone()));
    let sum = sum.reduce(|a, b| a + b).unwrap() + net.second.forward(parts[1].clone().powi_scalar(2));
    net.fc.forward(mean(relu(sum)))
});

#[test]
fn three_parts() {
    let net = Three {
        stem: conv(2, 6),
        a: conv(6, 15),
        first: conv(3, 4),
        second: conv(5, 4),
        third: conv(7, 4),
        fc: linear(4, 3),
    };
    let (net, x) = (random(net), input([2, 2, 5, 5]));
    let smaller = prune(&net, &x, 0.5);
    assert_eq!(["stem", "a", "first"].map(|layer| filters(&smaller.plan, layer)), [3, 8, 2]);
    assert_eq!(kept(&smaller.plan, "a.weight", 0), strongest(&norms(&net.a.weight, 0), 7));
    sweep(&net, &x, GroupCut::WithinGroups);
}

/// A part taken by `narrow`, the rest by `slice`, both by the width of one layer; then joined the other way round.
#[derive(Module, Debug)]
struct Narrowed {
    a: Linear,
    b: Linear,
    c: Linear,
    last: Linear,
}

graph!(Narrowed: Tensor<2> => Tensor<2>, |net, x| {
    let x = relu(net.a.forward(x));
    let [samples, width] = x.dims();
    let first = net.b.weight.dims()[0];
    let b = net.b.forward(x.clone().narrow(1, 0, first));
    let rest = x.slice([0..samples, first..width]);
    let c = net.c.forward(rest.clone());
    net.last.forward(Tensor::cat(vec![relu(b + c), rest], 1))
});

#[test]
fn narrow_and_slice_by_the_width_of_a_layer() {
    let net = Narrowed { a: linear(4, 11), b: linear(4, 6), c: linear(7, 6), last: linear(13, 3) };
    let (net, x) = (random(net), input([3, 4]));
    for (ratio, left) in [(0.2, 9), (0.5, 6), (0.8, 3)] {
        let smaller = prune(&net, &x, ratio);
        assert_eq!(filters(&smaller.plan, "a"), left);
        let [b, c, last] = [&smaller.model.b, &smaller.model.c, &smaller.model.last].map(|l| l.weight.dims()[0]);
        assert_eq!((b + c, last), (left, filters(&smaller.plan, "b") + c));
    }
    sweep(&net, &x, GroupCut::WithinGroups);
}

/// The sizes of the parts are written down, at one place or at both.
#[derive(Module, Debug)]
struct Stored {
    inner: Two,
    a: Linear,
    b: Linear,
    c: Linear,
    sizes: [usize; 2],
}

graph!(Stored: Tensor<2> => Tensor<2>, |net, x| {
    let parts = relu(net.a.forward(net.inner.run(x))).split_with_sizes(net.sizes.to_vec(), 1);
    net.b.forward(parts[0].clone()) + net.c.forward(parts[1].clone())
});

#[test]
fn sizes_that_are_written_down_stay_and_others_do_not() {
    let x = input([3, 4]);
    for sizes in [[3, 5], [6, 10], [4, 8]] {
        let [m, n] = sizes;
        let (a, b, c) = (linear(3, m + n), linear(m, 2), linear(n, 2));
        let net = random(Stored { inner: two(3, 5), a, b, c, sizes });
        let smaller = prune(&net, &x, 0.5);
        assert_eq!(filters(&smaller.plan, "inner.a"), 4, "{sizes:?}");
        assert_eq!(filters(&smaller.plan, "a"), m + n, "{sizes:?}");
        let reason = why(&smaller.plan, "a");
        holds(reason, &["operation", "dims()"]);
        sweep(&net, &x, GroupCut::WithinGroups);
    }
}

/// A third and two thirds of the width, whatever it is: the parts have to shrink alike.
#[derive(Module, Debug)]
struct Thirds {
    a: Linear,
    b: Linear,
    c: Linear,
}

graph!(Thirds: Tensor<2> => Tensor<2>, |net, x| {
    let x = relu(net.a.forward(x));
    let [_, width] = x.dims();
    let third = width / 3;
    net.b.forward(x.clone().narrow(1, 0, third)) + net.c.forward(x.narrow(1, third, width - third))
});

#[test]
fn fractions_of_the_width_shrink_alike() {
    let (net, x) = (random(Thirds { a: linear(4, 12), b: linear(4, 3), c: linear(8, 3) }), input([3, 4]));
    let smaller = prune(&net, &x, 0.5);
    assert_eq!(filters(&smaller.plan, "a"), 6);
    assert_eq!(smaller.model.b.weight.dims()[0], 2);
    sweep(&net, &x, GroupCut::WithinGroups);
}

static PASSES: AtomicUsize = AtomicUsize::new(0);

/// Counts its forward passes. With `parts`, the output of the first layer is split into this many and the rest.
#[derive(Module, Debug)]
struct Counted {
    a: Linear,
    b: Linear,
    c: Linear,
    parts: Option<usize>,
    follows: bool,
}

impl GraphModule for Counted {
    type Inputs = Tensor<2>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<2>) -> Tensor<2> {
        PASSES.fetch_add(1, Ordering::Relaxed);
        let x = relu(self.a.forward(x));
        let Some(stored) = self.parts else { return self.b.forward(x) };
        let sizes = vec![if self.follows { self.b.weight.dims()[0] } else { stored }, self.c.weight.dims()[0]];
        let parts = x.split_with_sizes(sizes, 1);
        self.b.forward(parts[0].clone()) + self.c.forward(parts[1].clone())
    }
}

#[test]
fn splits_cost_few_forward_passes_and_none_where_there_are_none() {
    let x = input([3, 4]);
    for (parts, follows, most) in [(None, true, 2), (Some(3), true, 2), (Some(3), false, 4)] {
        let (b, c) = (linear(parts.unwrap_or(8), 3), linear(5, 3));
        let net = random(Counted { a: linear(4, 8), b, c, parts, follows });
        let before = PASSES.load(Ordering::Relaxed);
        Planner::new().prune(&net, &x, &Magnitude::l2()).unwrap();
        let passes = PASSES.load(Ordering::Relaxed) - before;
        assert!((2..=most).contains(&passes), "{passes} passes with {parts:?}, {follows}");
    }
}

/// By itself a network ties the parts by their common divisor, and says so where nothing can leave.
#[test]
fn a_network_by_itself_ties_the_parts() {
    let x = input([3, 4]);
    let network: Network = capture(&two(3, 5), &x);
    let reason = network.layer("a").unwrap().not_prunable.clone().unwrap();
    holds(reason, &["all filters of its layer leave together", "of 8 channels", "`layer.weight.dims()`"]);
    let plan = Planner::new().plan(&capture(&two(6, 10), &x), None, &Magnitude::l2()).unwrap();
    assert_eq!(filters(&plan, "a"), 8);
}
