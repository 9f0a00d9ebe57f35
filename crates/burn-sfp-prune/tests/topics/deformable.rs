//! Deformable convolutions follow the layers around them, and their groups with them.

use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, DeformConv2d, DeformConv2dConfig};
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn_sfp_nn::Shrink;
use burn_sfp_prune::GroupCut;

use crate::support::*;

#[derive(Module, Debug, Shrink)]
struct Deformed {
    stem: Conv2d,
    offsets: Conv2d,
    deformed: DeformConv2d,
    skip: Conv2d,
    last: Conv2d,
}

graph!(shrink Deformed: Tensor<4> => Tensor<2>, |net, x| {
    let offsets = net.offsets.forward(x.clone());
    let deformed = net.deformed.forward(relu(net.stem.forward(x.clone())), offsets, None);
    mean(net.last.forward(relu(deformed + net.skip.forward(x))))
});

fn net(groups: usize) -> Deformed {
    let config = DeformConv2dConfig::new([8, 8], [3, 3]).with_weight_groups(groups);
    random(Deformed {
        stem: conv(2, 8),
        offsets: conv(2, 18),
        deformed: config.with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1)).init(&device()),
        skip: point(2, 8),
        last: conv(8, 3),
    })
}

#[test]
fn deformable() {
    let (net, x) = (net(1), input([2, 2, 4, 4]));
    let smaller = prune(&net, &x, 0.5);
    let plan = &smaller.plan;
    assert_eq!(kept(plan, "deformed.weight", 1), strongest(&norms(&net.stem.weight, 0), 4));
    assert_eq!(kept(plan, "deformed.weight", 0), kept(plan, "skip.weight", 0));
    assert_eq!(smaller.model.offsets.weight.dims(), [18, 2, 3, 3]);
    sweep(&net, &x, GroupCut::WithinGroups);
}

#[test]
fn deformable_in_groups() {
    let (net, x) = (net(2), input([2, 2, 4, 4]));
    let smaller = prune_whole(&net, &x, 0.5);
    assert_eq!((smaller.model.deformed.weight_groups, smaller.model.deformed.weight.dims()), (1, [4, 4, 3, 3]));
    sweep(&net, &x, GroupCut::WithinGroups);
    sweep(&net, &x, GroupCut::WholeGroups);
}
