//! Group normalisation behind a concatenation, and convolutions of a part of the channels: what leaves, or which operation says that nothing
//! does.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{GroupNorm, GroupNormConfig, Linear};
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn_sfp_nn::Shrink;
use burn_sfp_prune::GroupCut;

use crate::support::*;

/// Two maps side by side under one group normalisation.
#[derive(Module, Debug, Shrink)]
struct Concat {
    a: Conv2d,
    b: Conv2d,
    norm: GroupNorm,
    body: Conv2d,
    fc: Linear,
}

graph!(shrink Concat: Tensor<4> => Tensor<2>, |net, x| {
    let x = Tensor::cat(vec![net.a.forward(x.clone()), net.b.forward(x)], 1);
    net.fc.forward(mean(relu(net.body.forward(relu(net.norm.forward(x))))))
});

fn concat(a: usize, b: usize, groups: usize) -> Concat {
    let norm = GroupNormConfig::new(groups, a + b).init(&device());
    random(Concat { a: conv(2, a), b: conv(2, b), norm, body: conv(a + b, 6), fc: linear(6, 3) })
}

#[test]
fn group_normalisation_behind_a_concatenation() {
    let x = input([2, 2, 5, 5]);
    // Whole groups leave, each with its channels of both maps.
    for (a, b, groups, ratio, left) in [
        (8, 8, 4, 0.5, (4, 4)),
        (12, 20, 8, 0.25, (12, 16)),
        (12, 20, 8, 0.5, (8, 12)),
        (12, 20, 8, 0.75, (4, 8)),
        (6, 10, 4, 0.5, (6, 6)),
    ] {
        let net = concat(a, b, groups);
        let smaller = prune(&net, &x, ratio).model;
        let found = (smaller.a.weight.dims()[0], smaller.b.weight.dims()[0]);
        assert_eq!(found, left, "{a} + {b} in {groups} at {ratio}");
        assert_eq!(smaller.norm.num_channels, left.0 + left.1);
        sweep(&net, &x, GroupCut::WithinGroups);
        sweep(&net, &x, GroupCut::WholeGroups);
    }
    // One group is all of the second map and a part of the first.
    let plan = prune(&concat(12, 4, 2), &x, 0.75).plan;
    holds(why(&plan, "b"), &["MeanDim runs along its channels"]);
}

/// A block that convolves a quarter of its channels and passes the others on (FasterNet).
#[derive(Module, Debug, Shrink)]
struct Partial {
    stem: Conv2d,
    part: Conv2d,
    expand: Conv2d,
    shrink: Conv2d,
    fc: Linear,
    #[module(skip)]
    way: Way,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Slices,
    Split,
    Assign,
    Fixed,
}

impl Shrink for Way {
    fn shrink(&mut self, _scope: &mut burn_sfp_nn::Scope<'_>) {}
}

graph!(shrink Partial: Tensor<4> => Tensor<2>, |net, x| {
    let x = relu(net.stem.forward(x));
    let width = x.dims()[1];
    let part = match net.way {
        Way::Fixed => 4,
        _ => net.part.weight.dims()[0],
    };
    let y = match net.way {
        Way::Slices | Way::Fixed => {
            let first = net.part.forward(x.clone().narrow(1, 0, part));
            Tensor::cat(vec![first, x.clone().narrow(1, part, width - part)], 1)
        }
        Way::Split => {
            let parts = x.clone().split_with_sizes(vec![part, width - part], 1);
            Tensor::cat(vec![net.part.forward(parts[0].clone()), parts[1].clone()], 1)
        }
        Way::Assign => {
            let [samples, _, h, w] = x.dims();
            let first = net.part.forward(x.clone().narrow(1, 0, part));
            x.clone().slice_assign([0..samples, 0..part, 0..h, 0..w], first)
        }
    };
    let x = x + net.shrink.forward(relu(net.expand.forward(y)));
    net.fc.forward(mean(x))
});

#[test]
fn partial_convolutions() {
    let x = input([2, 2, 5, 5]);
    for way in [Way::Slices, Way::Split, Way::Assign, Way::Fixed] {
        let net = Partial {
            stem: conv(2, 16),
            part: conv(4, 4),
            expand: point(16, 32),
            shrink: point(32, 16),
            fc: linear(16, 3),
            way,
        };
        let net = random(net);
        let smaller = prune(&net, &x, 0.5);
        let widths =
            |net: &Partial| [&net.stem, &net.part, &net.expand, &net.shrink].map(|layer| layer.weight.dims()[0]);
        if way == Way::Fixed {
            // A fixed part: the operation that takes it is named.
            assert_eq!(widths(&smaller.model), [16, 2, 16, 16]);
            holds(why(&smaller.plan, "stem"), &["(Slice) after layer `stem`"]);
        } else {
            assert_eq!(widths(&smaller.model), [8, 2, 16, 8], "{way:?}");
            assert_eq!(smaller.plan.unpruned.len(), 1);
        }
        sweep(&net, &x, GroupCut::WithinGroups);
    }
}
