//! Attention by hand, with whole heads and with dimensions inside of heads.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::Tensor;
use burn::tensor::activation::softmax;
use burn_sfp_graph::GraphModule;
use burn_sfp_nn::{Scope, Shrink};
use burn_sfp_prune::{Budget, GroupCut, Magnitude, Planner, PruneError};

use crate::support::*;

const WIDTH: usize = 12;
const HEADS: usize = 3;
/// Dimensions of a head.
const EACH: usize = WIDTH / HEADS;

#[derive(Module, Debug)]
struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    heads: usize,
    /// A number that stays; where there is none, similarities are divided by the root of the head's width.
    scale: Option<f64>,
}

impl Attention {
    fn new(scale: Option<f64>) -> Self {
        let [query, key, value] = [(); 3].map(|_| linear(5, WIDTH));
        random(Self { query, key, value, output: linear(WIDTH, 4), heads: HEADS, scale })
    }

    fn split(&self, x: Tensor<3>) -> Tensor<4> {
        let [samples, tokens, width] = x.dims();
        x.reshape([samples, tokens, self.heads, width / self.heads]).swap_dims(1, 2)
    }
}

impl Shrink for Attention {
    fn shrink(&mut self, scope: &mut Scope<'_>) {
        let Some(change) = scope.axis("query.weight", 1) else { return };
        let mut heads: Vec<usize> = change.keep.iter().map(|k| k / (change.before / self.heads)).collect();
        heads.dedup();
        self.heads = heads.len();
    }
}

graph!(shrink Attention: Tensor<3> => Tensor<3>, |net, x| {
    let (query, key) = (net.split(net.query.forward(x.clone())), net.split(net.key.forward(x.clone())));
    let value = net.split(net.value.forward(x));
    let width = query.dims()[3] as f64;
    let similar = query.matmul(key.swap_dims(2, 3));
    let similar = match net.scale {
        Some(scale) => similar * scale,
        None => similar / width.sqrt(),
    };
    let mixed = softmax(similar, 3).matmul(value).swap_dims(1, 2);
    let [samples, tokens, heads, width] = mixed.dims();
    net.output.forward(mixed.reshape([samples, tokens, heads * width]))
});

fn columns(members: &[usize]) -> Vec<usize> {
    (0..HEADS).flat_map(|head| members.iter().map(move |k| head * EACH + k)).collect()
}

/// Norms of queries' and keys' dimensions together, and of values'.
fn scores(net: &Attention, blocks: GroupCut) -> [Vec<f64>; 3] {
    [&net.query, &net.key, &net.value].map(|layer| folded(&norms(&layer.weight, 1), EACH, blocks))
}

#[test]
fn dimensions_inside_of_heads() {
    let net = Attention::new(Some(0.5));
    let x = input([2, 4, 5]);
    let smaller = prune(&net, &x, 0.5);
    let plan = &smaller.plan;
    let [query, key, value] = scores(&net, GroupCut::WithinGroups);
    let similar = columns(&strongest(&together(&[&query, &key]), EACH / 2));
    let mixed = columns(&strongest(&value, EACH / 2));
    for (path, axis, stay) in [
        ("query.weight", 1, &similar),
        ("query.bias", 0, &similar),
        ("key.weight", 1, &similar),
        ("value.weight", 1, &mixed),
        ("output.weight", 0, &mixed),
    ] {
        assert_eq!(&kept(plan, path, axis), stay, "{path}");
    }
    assert_eq!(smaller.model.heads, HEADS);
    assert!(plan.scales.is_empty());
    let (similar, mixed) = (gone(&similar, WIDTH), gone(&mixed, WIDTH));
    let zero = silence(
        &net,
        &[
            ("query.weight", 1, &similar),
            ("query.bias", 0, &similar),
            ("value.weight", 1, &mixed),
            ("value.bias", 0, &mixed),
        ],
    );
    assert!(difference(smaller.model.run(x.clone()), zero.run(x.clone())) < TOLERANCE);
    sweep(&net, &x, GroupCut::WithinGroups);
}

#[test]
fn whole_heads() {
    let net = Attention::new(Some(0.5));
    let x = input([2, 4, 5]);
    let smaller = prune_whole(&net, &x, 0.5);
    let [query, key, value] = scores(&net, GroupCut::WholeGroups);
    let heads = strongest(&together(&[&query, &key, &value]), 1);
    let stay: Vec<usize> = heads.iter().flat_map(|head| head * EACH..(head + 1) * EACH).collect();
    for (path, axis) in [("query.weight", 1), ("key.weight", 1), ("value.weight", 1), ("output.weight", 0)] {
        assert_eq!(kept(&smaller.plan, path, axis), stay, "{path}");
    }
    assert_eq!(smaller.model.heads, 2);
    // By hand: a head without values adds nothing.
    let gone = gone(&stay, WIDTH);
    let zero = silence(&net, &[("value.weight", 1, &gone), ("value.bias", 0, &gone)]);
    assert!(difference(smaller.model.run(x.clone()), zero.run(x.clone())) < TOLERANCE);
    sweep(&net, &x, GroupCut::WholeGroups);
}

/// The forward pass divides by the root of the smaller width: queries take the ratio in.
#[test]
fn a_scale_that_follows_the_width() {
    let net = Attention::new(None);
    let x = input([2, 4, 5]);
    let smaller = prune(&net, &x, 0.5);
    let scales: Vec<(&str, f64)> =
        smaller.plan.scales.iter().map(|scale| (scale.path.as_str(), scale.factor)).collect();
    let ratio = (0.5f64).sqrt();
    assert_eq!(scales.len(), 2);
    for (path, factor) in scales {
        assert!(["query.weight", "query.bias"].contains(&path), "{path}");
        assert!((factor - ratio).abs() < 1e-9, "{factor}");
    }
    let keep = kept(&smaller.plan, "query.weight", 1);
    let (before, after) = (values(net.query.bias.as_ref().unwrap().val()), smaller.model.query.bias.as_ref().unwrap());
    for (k, after) in keep.iter().zip(values(after.val())) {
        assert!((f64::from(before[*k]) * ratio - f64::from(after)).abs() < 1e-6);
    }
    // Whole heads leave the width of the others alone.
    assert!(prune_whole(&net, &x, 0.5).plan.scales.is_empty());
    sweep(&net, &x, GroupCut::WithinGroups);
    sweep(&net, &x, GroupCut::WholeGroups);
}

/// Queries, keys and values from one layer.
#[derive(Module, Debug)]
struct Fused {
    all: Linear,
    output: Linear,
    scale: Option<f64>,
}

graph!(Fused: Tensor<3> => Tensor<3>, |net, x| {
    let parts: Vec<Tensor<4>> = net.all.forward(x).chunk(3, 2).into_iter().map(|part| {
        let [samples, tokens, width] = part.dims();
        part.reshape([samples, tokens, HEADS, width / HEADS]).swap_dims(1, 2)
    }).collect();
    let width = parts[0].dims()[3] as f64;
    let similar = parts[0].clone().matmul(parts[1].clone().swap_dims(2, 3));
    let similar = match net.scale {
        Some(scale) => similar * scale,
        None => similar / width.sqrt(),
    };
    let mixed = softmax(similar, 3).matmul(parts[2].clone()).swap_dims(1, 2);
    let [samples, tokens, heads, width] = mixed.dims();
    net.output.forward(mixed.reshape([samples, tokens, heads * width]))
});

#[test]
fn one_layer_for_queries_keys_and_values() {
    let x = input([2, 4, 5]);
    let net = random(Fused { all: linear(5, 3 * WIDTH), output: linear(WIDTH, 4), scale: Some(0.5) });
    let smaller = prune(&net, &x, 0.5);
    // A place in a head leaves everywhere: in queries, keys and values of every head.
    let scores = folded(&norms(&net.all.weight, 1), EACH, GroupCut::WithinGroups);
    let members = strongest(&scores, EACH / 2);
    let all: Vec<usize> = (0..3 * HEADS).flat_map(|head| members.iter().map(move |k| head * EACH + k)).collect();
    assert_eq!(kept(&smaller.plan, "all.weight", 1), all);
    assert_eq!(kept(&smaller.plan, "output.weight", 0), columns(&members));
    sweep(&net, &x, GroupCut::WithinGroups);

    // A scale that follows the width: no layer makes the queries alone and could take the ratio in.
    let net = random(Fused { scale: None, ..net });
    let planner = Planner::new().budget(Budget::PerLayer(0.5));
    let error = prune_with(&net, &x, &planner.clone().strict(), &Magnitude::l2()).unwrap_err();
    assert!(
        matches!(error, PruneError::NumberChanges { before, after, .. } if before == 2.0 && after < 1.5),
        "{error}"
    );
    holds(error, &["DivScalar", "after layer `all`", "from 2 to 1.41", "keep the number in a field"]);
    // Without `strict` the width of the heads stays, and so does their number, which a reshape is given.
    let plan = prune_with(&net, &x, &planner, &Magnitude::l2()).unwrap().plan;
    holds(why(&plan, "all"), &["Reshape", "after layer `all`"]);
}
