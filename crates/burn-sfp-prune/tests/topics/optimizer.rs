//! Optimisers with momenta from before pruning, and the ids by which they know parameters.

use std::collections::BTreeMap;

use burn::module::{Module, Param, ParamId};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{BatchNorm, BatchNormConfig, Linear};
use burn::optim::{AdamConfig, AdamWConfig, GradientsParams, ModuleOptimizer, SgdConfig, momentum::MomentumConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Int, Tensor};
use burn_sfp_core::SfpModule;
use burn_sfp_nn::walk::{ParamPath, ParamVisitor, visit_params};
use burn_sfp_nn::{FoldBatchNorm, SparseLinear};
use burn_sfp_prune::{
    Budget, Magnitude, MagnitudeConnections, Planner, SparseConfig, SparseFormat, densify, fold_batch_norms, sparsify,
};

use crate::support::*;

#[derive(Module, Debug)]
struct Mlp {
    a: Linear,
    norm: BatchNorm,
    b: SparseLinear,
    c: Linear,
}

graph!(Mlp: Tensor<2> => Tensor<2>, |net, x| {
    net.c.forward(relu(net.b.forward(relu(net.norm.forward(net.a.forward(x))))))
});

fn mlp() -> Mlp {
    let norm = BatchNormConfig::new(8).init(&device());
    random(Mlp { a: linear(4, 8), norm, b: linear(8, 6).into(), c: linear(6, 3) })
}

/// Ids and shapes by path.
fn ids<M: Module>(model: &M) -> BTreeMap<String, (ParamId, Vec<usize>)> {
    struct Read(BTreeMap<String, (ParamId, Vec<usize>)>);
    impl ParamVisitor for Read {
        fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D>>) {
            if !path.name().starts_with("running") {
                self.0.insert(path.join(), (param.id, param.dims().to_vec()));
            }
        }
    }
    let mut read = Read(BTreeMap::new());
    visit_params(model, &mut read);
    read.0
}

fn step<M: SfpModule<Inputs = Tensor<2>>>(optimizer: &mut ModuleOptimizer, model: M) -> M {
    let device = device().autodiff();
    let labels = Tensor::<1, Int>::from_ints([0, 1, 2, 0], &device);
    let logits = model.logits(input([4, 4]).to_device(&device));
    let loss = CrossEntropyLossConfig::new().init(&device).forward(logits, labels);
    let gradients = GradientsParams::from_grads(loss.backward(), &model);
    optimizer.step(1e-2, model, gradients)
}

fn optimizers() -> [ModuleOptimizer; 3] {
    let momentum = SgdConfig::new().with_momentum(Some(MomentumConfig::new())).init();
    [AdamConfig::new().init(), AdamWConfig::new().init(), momentum]
}

#[test]
fn momenta_from_before_do_not_meet_new_shapes() {
    for mut optimizer in optimizers() {
        let net = step(&mut optimizer, mlp().train());
        let half = Planner::new().budget(Budget::PerLayer(0.5));
        let smaller = half.prune(&net, &input([2, 4]), &Magnitude::l2()).unwrap().model;
        let before = values(smaller.a.weight.val());
        assert_eq!(before.len(), 16);
        let after = step(&mut optimizer, smaller.train());
        let after = step(&mut optimizer, after);
        assert_ne!(values(after.a.weight.val()), before);
        // Pruned again, trained again.
        let again = half.prune(&after, &input([2, 4]), &Magnitude::l2()).unwrap().model;
        step(&mut optimizer, again.train());
    }
}

/// The one whose shape stays goes on with its momentum: with it the step is another one than a new optimiser's.
#[test]
fn what_keeps_its_shape_keeps_its_id() {
    let net = mlp();
    let planner = Planner::new().budget(Budget::PerLayer(0.5)).exclude(["b"]);
    let made = planner.prune(&net, &input([2, 4]), &Magnitude::l2()).unwrap();
    let (before, after) = (ids(&net), ids(&made.model));
    let mut kept = Vec::new();
    for (path, (id, shape)) in &after {
        assert_eq!(before[path].0 == *id, before[path].1 == *shape, "{path}");
        if before[path].0 == *id {
            kept.push(path.as_str());
        }
    }
    assert_eq!(kept, ["b.bias", "c.bias", "c.weight"]);
    // Training steps keep ids.
    assert_eq!(ids(&step(&mut AdamConfig::new().init(), made.model.clone().train())), after);
    let mut known = AdamConfig::new().init();
    let net = step(&mut known, net.train());
    let smaller = planner.prune(&net, &input([2, 4]), &Magnitude::l2()).unwrap().model.train();
    let mut fresh = AdamConfig::new().init();
    let [old, new] = [step(&mut known, smaller.clone()), step(&mut fresh, smaller)];
    assert_eq!(values(old.a.weight.val()), values(new.a.weight.val()));
    assert_ne!(values(old.c.weight.val()), values(new.c.weight.val()));
}

/// Two layers that share a weight.
#[derive(Module, Debug)]
struct Tied {
    a: Linear,
    b: Linear,
    again: Linear,
    c: Linear,
}

graph!(Tied: Tensor<2> => Tensor<2>, |net, x| {
    net.c.forward(relu(net.again.forward(relu(net.b.forward(relu(net.a.forward(x)))))))
});

#[test]
fn tied_parameters_share_the_new_id() {
    let mut net = random(Tied { a: linear(4, 8), b: linear(8, 8), again: linear(8, 8), c: linear(8, 3) });
    net.again.weight = net.b.weight.clone();
    let made = Planner::new().budget(Budget::PerLayer(0.5)).prune(&net, &input([2, 4]), &Magnitude::l2()).unwrap();
    let (before, after) = (ids(&net), ids(&made.model));
    assert_eq!(before["b.weight"].0, before["again.weight"].0);
    let shapes_agree = after["b.weight"].1 == after["again.weight"].1;
    assert_eq!(after["b.weight"].0 == after["again.weight"].0, shapes_agree);
    assert_ne!(after["b.weight"].0, before["b.weight"].0);
}

#[test]
fn sparse_formats_and_folded_norms() {
    let net = mlp();
    let x = input([4, 4]);
    for mut optimizer in optimizers() {
        let net = step(&mut optimizer, net.clone().train());
        let masked = Planner::new().keep_empty(true);
        let masked = masked.prune(&net, &x, &MagnitudeConnections::l1().layers(["b"]).removing(0.7)).unwrap().model;
        assert_eq!(ids(&masked)["b.weight"], ids(&net)["b.weight"]);
        let sparse = sparsify(&masked, &x, &SparseConfig::new().with_format(SparseFormat::Kernels)).unwrap().model;
        assert_ne!(ids(&sparse)["b.weight"].1, ids(&net)["b.weight"].1);
        let sparse = step(&mut optimizer, sparse.train());
        let sparse = step(&mut optimizer, sparse);
        let dense = densify(&sparse).unwrap();
        step(&mut optimizer, dense.train());
    }
}

#[derive(Module, Debug)]
struct Foldable {
    a: Linear,
    norm: FoldBatchNorm,
    c: Linear,
}

graph!(Foldable: Tensor<2> => Tensor<2>, |net, x| net.c.forward(relu(net.norm.forward(net.a.forward(x)))));

#[test]
fn folded_norms_of_length_zero_have_new_ids() {
    let norm = BatchNormConfig::new(8).init(&device()).into();
    let net = random(Foldable { a: linear(4, 8), norm, c: linear(8, 3) });
    let folded = fold_batch_norms(&net, &input([4, 4])).unwrap().model;
    let (before, after) = (ids(&net), ids(&folded));
    assert_eq!((after["norm.gamma"].1.as_slice(), after["a.weight"].0), (&[0][..], before["a.weight"].0));
    assert_ne!(after["norm.gamma"].0, before["norm.gamma"].0);
}
