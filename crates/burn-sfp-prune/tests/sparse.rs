//! Pruned connections that are not computed: the same outputs in every format, in training, in files, and what is counted.

#[path = "common/inspect.rs"]
mod inspect;
#[path = "common/sparse_net.rs"]
mod sparse_net;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use burn_sfp_core::{AnalyzeConfig, Batch, NoProgress, SfpModule, TensorCalibration, analyze_network};
use burn_sfp_graph::Cost;
use burn_sfp_nn::NnError;
use burn_sfp_prune::{
    ChosenFormat, CostModel, FineTuneConfig, MagnitudeConnections, Planner, PruneError, PrunePlan, Pruner,
    SparseConfig, SparseFormat, densify, fine_tune, sparsify,
};
use inspect::{bytes, values};
use proptest::prelude::*;
use sparse_net::{Net, assert_near, config, images, net};

fn plan(net: &Net, ratio: f64) -> PrunePlan {
    let data = TensorCalibration::new(images(1, 6), vec![0, 1, 2, 0, 1, 2], 6);
    let (network, analysis) = analyze_network(net, &data, &AnalyzeConfig::new(), &NoProgress).unwrap();
    Planner::new().keep_empty(true).plan(&network, &analysis, &MagnitudeConnections::l1().removing(ratio)).unwrap()
}

/// All float parameters.
fn weights<M: Module>(model: &M) -> Vec<f32> {
    struct Read(Vec<f32>);
    impl ModuleVisitor for Read {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.extend(values(param.val()));
        }
    }
    let mut read = Read(Vec::new());
    model.visit(&mut read);
    read.0
}

const FORMATS: [SparseFormat; 3] = [SparseFormat::Auto, SparseFormat::Kernels, SparseFormat::Blocks];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn every_format_computes_the_masked_model(ratio in 0.0_f64..1.0, seed: u64) {
        let net = net(seed);
        let x = images(seed, 5);
        let masked = plan(&net, ratio).apply(&net).unwrap();
        let before = bytes(&masked);
        let expected = values(masked.logits(x.clone()));
        for settings in FORMATS.map(config).into_iter().chain([config(SparseFormat::Auto).with_pack(true)]) {
            let sparse = sparsify(&masked, &x, &settings).unwrap();
            assert_near(&values(sparse.model.logits(x.clone())), &expected);
            // Another batch size, and dense again.
            let other = images(!seed, 2);
            assert_near(&values(sparse.model.logits(other.clone())), &values(masked.logits(other)));
            let dense = densify(&sparse.model).unwrap().materialize();
            // The same weights; zeros may have another sign.
            prop_assert!(weights(&dense) == weights(&masked.valid().materialize()));
            prop_assert!(bytes(&masked) == before);
            // The same once more, from a model that is sparse already.
            let again = sparsify(&sparse.model, &x, &settings).unwrap();
            prop_assert!(again.layers.iter().all(|layer| layer.kept <= layer.connections));
            assert_near(&values(again.model.logits(x.clone())), &expected);
        }
    }
}

#[test]
fn what_is_counted_is_what_is_executed() {
    let net = net(3);
    let x = images(3, 4);
    let masked = plan(&net, 0.75).apply(&net).unwrap();
    let dense = Cost::of(&masked, &x).unwrap();
    let sparse = sparsify(&masked, &x, &config(SparseFormat::Kernels)).unwrap();
    let names: Vec<&str> = sparse.layers.iter().map(|layer| layer.path.as_str()).collect();
    assert_eq!(names, ["stem", "deep", "hidden", "fc"]);
    let cost = Cost::of(&sparse.model, &x).unwrap();
    let left_out: u64 = sparse.layers.iter().map(|layer| layer.macs_dense - layer.macs).sum();
    assert_eq!(cost.macs, dense.macs - left_out);
    for layer in &sparse.layers {
        let share = layer.macs as f64 / layer.macs_dense as f64;
        match (&layer.format, layer.path.as_str()) {
            (ChosenFormat::Dense { reason: Some(reason) }, "fc") => {
                assert!(reason.contains("SparseLinear"), "{reason}")
            }
            (ChosenFormat::Kernels, _) => assert!((share - layer.kept as f64 / layer.connections as f64).abs() < 1e-12),
            other => panic!("{other:?}"),
        }
    }
    assert!(cost.parameters < dense.parameters / 2 && cost.bytes < dense.bytes);
    let blocks = sparsify(&masked, &x, &config(SparseFormat::Blocks)).unwrap();
    let left_out: u64 = blocks.layers.iter().map(|layer| layer.macs_dense - layer.macs).sum();
    assert_eq!(Cost::of(&blocks.model, &x).unwrap().macs, dense.macs - left_out);
}

#[test]
fn removed_connections_stay_away_in_training() {
    let net = net(5);
    let x = images(5, 8);
    let plan = plan(&net, 0.6);
    let masked = plan.apply(&net).unwrap();
    let labels = vec![0, 1, 2, 0, 1, 2, 0, 1];
    let tune = |model: Net| {
        let epoch = |_| std::iter::once(Ok(Batch { input: x.clone(), labels: labels.clone() }));
        let settings = FineTuneConfig::new().with_epochs(3.0).with_learning_rate(2e-4);
        fine_tune(model, &plan, epoch, 8, &settings, &NoProgress).unwrap()
    };
    let expected = tune(masked.clone());
    assert_ne!(values(expected.logits(x.clone())), values(masked.logits(x.clone())));
    for format in FORMATS {
        let sparse = sparsify(&masked, &x, &config(format)).unwrap();
        let tuned = tune(sparse.model.clone());
        // Training sums rounding up; the masked model is where both go.
        let (found, wanted) = (values(tuned.logits(x.clone())), values(expected.logits(x.clone())));
        let largest = wanted.iter().fold(0.0_f32, |largest, y| largest.max(y.abs()));
        assert!(found.iter().zip(&wanted).all(|(a, b)| (a - b).abs() < 1e-3 * largest), "{found:?} {wanted:?}");
        let (before, after) = (densify(&sparse.model).unwrap(), densify(&tuned).unwrap());
        for (old, new) in [(before.deep.weight, after.deep.weight), (before.stem.weight, after.stem.weight)] {
            let (old, new) = (values(old.val()), values(new.val()));
            assert!(old.iter().zip(&new).all(|(old, new)| *old != 0.0 || *new == 0.0));
            assert_ne!(old, new);
        }
    }
}

#[test]
fn saved_and_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.bpk");
    let (net, fresh, x) = (net(8), net(9), images(8, 3));
    let plan = plan(&net, 0.7);
    for format in FORMATS {
        let sparse = sparsify(&plan.apply(&net).unwrap(), &x, &config(format)).unwrap().model;
        sparse.clone().save_file(&file).unwrap();
        let loaded = sparsify(&plan.apply(&fresh).unwrap(), &x, &config(format)).unwrap().model;
        assert_ne!(bytes(&loaded), bytes(&sparse));
        let loaded = loaded.load_file(&file);
        assert_eq!(bytes(&loaded), bytes(&sparse));
        assert_eq!(values(loaded.logits(x.clone())), values(sparse.logits(x.clone())));
    }
}

#[test]
fn a_model_in_training_stays_in_training() {
    let net = net(2);
    let x = images(2, 2);
    let masked = plan(&net, 0.5).apply(&net).unwrap().train();
    let sparse = sparsify(&masked, &x, &config(SparseFormat::Kernels)).unwrap().model;
    assert!(sparse.deep.weight.val().is_require_grad() && sparse.deep.weight.dims()[1] == 1);
    let dense = densify(&sparse).unwrap();
    assert!(dense.deep.weight.val().is_require_grad());
    assert!(
        !sparsify(&masked.valid(), &x, &config(SparseFormat::Kernels)).unwrap().model.fc.weight.val().is_autodiff()
    );
}

#[test]
fn in_one_call() {
    let net = net(6);
    let data = TensorCalibration::new(images(1, 6), vec![0, 1, 2, 0, 1, 2], 6);
    let pruner = |sparse: bool| {
        let pruner = Pruner::new(&data).policy(MagnitudeConnections::l1().removing(0.6));
        let pruner = if sparse { pruner.sparse(config(SparseFormat::Kernels)) } else { pruner };
        pruner.analyze_and_prune(&net).unwrap()
    };
    let (masked, sparse) = (pruner(false), pruner(true));
    assert!(masked.sparse.is_empty() && sparse.sparse.iter().any(|layer| layer.format == ChosenFormat::Kernels));
    let x = images(9, 4);
    assert_near(&values(sparse.model.logits(x.clone())), &values(masked.model.logits(x)));
}

#[test]
fn errors() {
    let (net, x) = (net(4), images(4, 2));
    let nonsense = CostModel { dense_mac: f64::NAN, ..CostModel::default() };
    let error = sparsify(&net, &x, &SparseConfig::new().with_cost(nonsense)).unwrap_err();
    assert!(matches!(error, PruneError::Config { .. }), "{error}");
    let masked = plan(&net, 0.5).apply(&net).unwrap();
    let mut broken = sparsify(&masked, &x, &config(SparseFormat::Kernels)).unwrap().model;
    broken.deep.weight = Param::from_tensor(Tensor::zeros([3, 1, 3, 3], &Device::flex()));
    for error in [densify(&broken).unwrap_err(), sparsify(&broken, &x, &SparseConfig::new()).unwrap_err()] {
        assert!(matches!(&error, PruneError::Layer(NnError::Layer { path, .. }) if path == "deep"), "{error}");
    }
    // Nothing to leave out.
    assert!(sparsify(&net, &x, &SparseConfig::new()).unwrap().layers.is_empty());
}
