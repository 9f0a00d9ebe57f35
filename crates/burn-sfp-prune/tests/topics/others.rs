//! Networks of others: what they do not follow stays, and the rest is pruned.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::{relu, softmax};
use burn::tensor::{Device, Tensor};
use burn_sfp_core::TensorCalibration;
use burn_sfp_graph::GraphModule;
use burn_sfp_prune::{Budget, Magnitude, Planner, PruneError, PrunePlan, Pruner};

use crate::support::*;

fn half() -> Planner {
    Planner::new().budget(Budget::PerLayer(0.5))
}

fn filters(plan: &PrunePlan, layer: &str) -> usize {
    plan.layer(layer).unwrap().filters_after
}

/// A network of another crate: fields are private, and `Shrink` cannot be implemented for its layers.
#[derive(Module, Debug)]
struct Newtype {
    net: foreign::Mobile,
}

graph!(Newtype: Tensor<4> => Tensor<2>, |net, x| net.net.forward(x));

#[test]
fn depthwise_layers_of_another_crate() {
    let net = random(Newtype { net: foreign::Mobile::new(&device()) });
    let x = input([2, 3, 6, 6]);
    let smaller = prune(&net, &x, 0.5);
    let plan = &smaller.plan;
    for (layer, left) in [("net.stem.conv", 4), ("net.blocks.1.project.conv", 6), ("net.last.conv", 12)] {
        assert_eq!(filters(plan, layer), left, "{layer}");
    }
    for block in 0..3 {
        for layer in ["expand", "depthwise"] {
            let reason = why(plan, &format!("net.blocks.{block}.{layer}.conv"));
            holds(reason, &[&format!("layer `net.blocks.{block}.depthwise.conv` (Conv2d) keeps `groups`")]);
        }
    }
    // Channels that cannot go count as candidates, so that the others make up for them.
    let global = prune_with(&net, &x, &Planner::new().budget(Budget::Global(0.2)), &Magnitude::l2()).unwrap().plan;
    let (before, after): (Vec<usize>, Vec<usize>) =
        global.layers.iter().map(|layer| (layer.filters_before, layer.filters_after)).unzip();
    let gone = before.iter().sum::<usize>() - after.iter().sum::<usize>();
    assert!(gone >= 20, "{gone}");
}

/// An attention that stores how many heads it has, or how wide they are, or both.
#[derive(Module, Debug)]
struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    heads: Option<usize>,
    width: Option<usize>,
}

impl Attention {
    fn new(model: usize, heads: Option<usize>, width: Option<usize>, device: &Device) -> Self {
        let linear = || LinearConfig::new(model, model).init(device);
        Self { query: linear(), key: linear(), value: linear(), output: linear(), heads, width }
    }

    fn split(&self, x: Tensor<3>) -> Tensor<4> {
        let [samples, tokens, all] = x.dims();
        let heads = self.heads.unwrap_or_else(|| all / self.width.unwrap_or(1));
        let width = self.width.unwrap_or_else(|| all / heads);
        x.reshape([samples, tokens, heads, width]).swap_dims(1, 2)
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [q, k, v] = [&self.query, &self.key, &self.value].map(|layer| self.split(layer.forward(x.clone())));
        let mixed = softmax(q.matmul(k.swap_dims(2, 3)) * 0.5, 3).matmul(v).swap_dims(1, 2);
        let [samples, tokens, heads, width] = mixed.dims();
        self.output.forward(mixed.reshape([samples, tokens, heads * width]))
    }
}

/// Blocks of attention and of two layers.
#[derive(Module, Debug)]
struct Blocks {
    attentions: Vec<Attention>,
    wide: Vec<Linear>,
    narrow: Vec<Linear>,
}

graph!(Blocks: Tensor<3> => Tensor<3>, |net, x| {
    let mut x = x;
    for ((attention, wide), narrow) in net.attentions.iter().zip(&net.wide).zip(&net.narrow) {
        x = attention.forward(x.clone()) + x;
        x = narrow.forward(relu(wide.forward(x.clone()))) + x;
    }
    x
});

fn blocks(count: usize, heads: Option<usize>, width: Option<usize>) -> Blocks {
    random(Blocks {
        attentions: (0..count).map(|_| Attention::new(8, heads, width, &device())).collect(),
        wide: (0..count).map(|_| linear(8, 12)).collect(),
        narrow: (0..count).map(|_| linear(12, 8)).collect(),
    })
}

#[test]
fn stored_widths_of_heads() {
    let x = input([2, 3, 8]);
    let queries = |net: &Blocks| {
        let smaller = prune(net, &x, 0.5);
        (0..net.wide.len()).for_each(|block| assert_eq!(filters(&smaller.plan, &format!("wide.{block}")), 6));
        smaller
    };
    // Stored widths need whole heads, a stored number of heads the inside.
    let whole = queries(&blocks(3, None, Some(2)));
    let inside = queries(&blocks(3, Some(2), None));
    for (net, heads) in [(&whole, Some(2)), (&inside, None)] {
        for attention in &net.model.attentions {
            let [_, columns] = attention.query.weight.dims();
            assert_eq!((columns, attention.output.weight.dims()[0]), (4, 4));
            assert_eq!(heads.is_some(), attention.heads.is_none());
        }
    }
    // Both stored: the attentions stay, and the plan says where.
    let both = queries(&blocks(6, Some(2), Some(4)));
    for block in 0..6 {
        let reason = why(&both.plan, &format!("attentions.{block}.value"));
        holds(reason, &["Reshape", "`dims()`"]);
    }
}

/// A width that is written down: in a split, in an assertion.
#[derive(Module, Debug)]
struct Written {
    a: Conv2d,
    b: Conv2d,
    c: Conv2d,
    d: Conv2d,
    asserted: Option<usize>,
}

graph!(Written: Tensor<4> => Tensor<4>, |net, x| {
    let x = relu(net.b.forward(relu(net.a.forward(x))));
    if let Some(width) = net.asserted {
        assert_eq!(x.dims()[1], width, "a width that the network was made for");
        return net.d.forward(relu(net.c.forward(x)));
    }
    let parts = x.split_with_sizes(vec![2, 6], 1);
    net.d.forward(relu(net.c.forward(Tensor::cat(vec![parts[1].clone(), relu(parts[0].clone())], 1))))
});

#[test]
fn widths_in_splits_and_assertions() {
    let x = input([2, 2, 4, 4]);
    for asserted in [None, Some(8)] {
        let net = random(Written { a: conv(2, 6), b: conv(6, 8), c: conv(8, 10), d: conv(10, 3), asserted });
        let smaller = prune(&net, &x, 0.5);
        assert_eq!(["a", "b", "c"].map(|layer| filters(&smaller.plan, layer)), [3, 8, 5]);
        let expected = if asserted.is_some() { "a width that the network was made for" } else { "after layer `b`" };
        holds(why(&smaller.plan, "b"), &[expected]);
        assert!(prune_with(&net, &x, &half().strict(), &Magnitude::l2()).is_err());
    }
}

/// Two branches, the taken one by the width.
#[derive(Module, Debug)]
struct Branch {
    a: Linear,
    b: Linear,
    c: Linear,
}

graph!(Branch: Tensor<2> => Tensor<2>, |net, x| {
    let x = relu(net.b.forward(relu(net.a.forward(x))));
    let x = if x.dims()[1] == 8 { x } else { x.tanh() };
    net.c.forward(x)
});

#[test]
fn a_branch_on_a_width() {
    let net = random(Branch { a: linear(4, 6), b: linear(6, 8), c: linear(8, 3) });
    let smaller = prune(&net, &input([2, 4]), 0.5);
    assert_eq!(["a", "b"].map(|layer| filters(&smaller.plan, layer)), [3, 8]);
}

#[test]
fn the_pruner_leaves_them_alone_too() {
    let net = random(Branch { a: linear(4, 6), b: linear(6, 8), c: linear(8, 3) });
    let data = TensorCalibration::new(input([6, 4]), vec![0, 1, 2, 0, 1, 2], 6);
    let pruner = || Pruner::new(&data).policy(Magnitude::l2()).ratio(0.5);
    let pruned = pruner().analyze_and_prune(&net).unwrap();
    assert_eq!(["a", "b"].map(|layer| filters(&pruned.plan, layer)), [3, 8]);
    let error = pruner().strict().analyze_and_prune(&net).unwrap_err();
    assert!(matches!(error, PruneError::Graph(_)), "{error}");
}

/// Ones of a stored width.
#[derive(Module, Debug)]
struct Stubborn {
    a: Linear,
    b: Linear,
    width: usize,
}

impl GraphModule for Stubborn {
    type Inputs = Tensor<2>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<2>) -> Tensor<2> {
        let x = self.a.forward(x);
        let ones = Tensor::ones([x.dims()[0], self.width], &x.device());
        self.b.forward(relu(x) * ones)
    }
}

#[test]
fn a_network_of_which_nothing_follows() {
    let net = random(Stubborn { a: linear(4, 8), b: linear(8, 3), width: 8 });
    let smaller = prune(&net, &input([2, 4]), 0.5);
    assert!(smaller.plan.cuts.is_empty());
    holds(why(&smaller.plan, "a"), &["(Ones)", "shape [2, 8], the plan's is [2, 4]"]);
}
