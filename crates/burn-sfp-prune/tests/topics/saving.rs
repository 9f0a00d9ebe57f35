//! Plans and pruned models on disk, with plain fields and scales.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{BatchNorm, BatchNormConfig, GroupNorm, GroupNormConfig, Linear};
use burn::tensor::Tensor;
use burn::tensor::activation::{relu, softmax};
use burn_sfp_graph::GraphModule;
use burn_sfp_nn::Shrink;
use burn_sfp_prune::{GroupCut, PrunePlan};

use crate::support::*;

#[derive(Module, Debug, Shrink)]
struct Net {
    stem: Conv2d,
    groups: GroupNorm,
    deep: Conv2d,
    norm: BatchNorm,
    query: Linear,
    key: Linear,
    fc: Linear,
}

impl Net {
    fn new() -> Self {
        Self {
            stem: conv(2, 8),
            groups: GroupNormConfig::new(4, 8).init(&device()),
            deep: grouped(8, 8, 8),
            norm: BatchNormConfig::new(8).init(&device()),
            query: linear(8, 6),
            key: linear(8, 6),
            fc: linear(8, 3),
        }
    }
}

graph!(shrink Net: Tensor<4> => Tensor<3>, |net, x| {
    let x = relu(net.norm.forward(net.deep.forward(net.groups.forward(net.stem.forward(x)))));
    let x: Tensor<3> = x.flatten::<3>(2, 3).swap_dims(1, 2);
    let (query, key) = (net.query.forward(x.clone()), net.key.forward(x.clone()));
    let width = query.dims()[2] as f64;
    let weights = softmax(query.matmul(key.swap_dims(1, 2)) / width.sqrt(), 2);
    net.fc.forward(weights.matmul(x))
});

#[test]
fn plans_and_records() {
    let folder = tempfile::tempdir().unwrap();
    let (plan_file, record_file) = (folder.path().join("plan.json"), folder.path().join("model.bpk"));
    let x = input([2, 2, 3, 3]);
    let net = random(Net::new());
    for smaller in [prune(&net, &x, 0.5), prune_whole(&net, &x, 0.5)] {
        assert!(!smaller.plan.fields.is_empty() && !smaller.plan.scales.is_empty());
        smaller.plan.save(&plan_file).unwrap();
        smaller.model.clone().save_file(&record_file).unwrap();

        let plan = PrunePlan::load(&plan_file).unwrap();
        assert_eq!(plan, smaller.plan);
        // A new model with other weights: everything that differs comes from the record.
        let fresh = plan.apply(&Net::new()).unwrap();
        assert_eq!((fresh.deep.groups, fresh.groups.num_groups), (smaller.model.deep.groups, 2));
        assert_ne!(bytes(&fresh), bytes(&smaller.model));
        let loaded = fresh.load_file(&record_file);
        assert_eq!(bytes(&loaded), bytes(&smaller.model));
        assert_eq!(values(loaded.run(x.clone())), values(smaller.model.run(x.clone())));
        // The plan still knows what the smaller model has to run.
        plan.verify(&capture(&net, &x), &capture(&loaded, &x)).unwrap();
        // The same plan, with the weights that it was made from.
        assert_eq!(bytes(&plan.apply(&net).unwrap()), bytes(&smaller.model));
    }
}

#[test]
fn a_smaller_model_is_pruned_again() {
    let x = input([2, 2, 3, 3]);
    let net = random(Net::new());
    let once = prune(&net, &x, 0.5).model;
    let twice = prune(&once, &x, 0.5);
    assert_eq!((twice.model.deep.groups, twice.model.groups.num_channels), (2, 2));
    sweep(&once, &x, GroupCut::WithinGroups);
}
