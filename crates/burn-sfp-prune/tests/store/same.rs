//! The same weights as the whole model's training on the same batches.

use burn::grad_clipping::GradientClippingConfig;
use burn::module::Module;
use burn::optim::{AdaGradConfig, AdamConfig, RmsPropConfig};
use burn_sfp_core::{NoProgress, SfpModule};
use burn_sfp_prune::{
    Distillation, FineTune, FineTuneConfig, OptimizerConfig, PrunedModule, SparseConfig, SparseFormat, StorePrecision,
    fine_tune, fine_tune_stored, sparsify,
};

use crate::networks::{Dropped, Plain, Residual, Tokens};
use crate::*;

/// Trains both ways and compares. Something has to have moved.
fn compare<M: SfpModule<Inputs = Images>>(model: &M, made: &PrunedModule<M>, config: &FineTuneConfig, most: f32) {
    let plan = &made.plan;
    let whole = fine_tune(model.clone(), plan, epoch(7, 3), SAMPLES, config, &NoProgress).unwrap();
    let store = store().precision(StorePrecision::Float32);
    let stored = fine_tune_stored(model.clone(), plan, pass, SAMPLES, &store, config, &NoProgress).unwrap();
    let (off, path) = apart(&stored, &whole);
    assert!(off <= most, "{path} is {off} apart");
    let recorded = FineTune::new(plan).config(config.clone()).recorded(true);
    let recorded = recorded.run(model.clone(), epoch(7, 3), SAMPLES, &NoProgress).unwrap().model;
    let (off, path) = apart(&recorded, &whole);
    assert!(off <= most, "recorded: {path} is {off} apart");
    assert!(apart(&whole, &model.valid()).0 > 1e-2, "nothing moved");
    for (precision, most) in [(StorePrecision::Float16, 0.1), (StorePrecision::BFloat16, 0.4)] {
        let store = store.clone().precision(precision);
        let rounded = fine_tune_stored(model.clone(), plan, pass, SAMPLES, &store, config, &NoProgress).unwrap();
        let (off, path) = apart(&rounded, &whole);
        assert!(off > 0.0 && off < most, "{precision:?}: {path} is {off} apart");
    }
}

fn optimizers() -> [FineTuneConfig; 2] {
    let adam = OptimizerConfig::Adam(AdamConfig::new().with_epsilon(1e-3));
    [config().with_label_smoothing(0.1), config().with_learning_rate(0.01).with_optimizer(adam)]
}

#[test]
fn a_plain_network() {
    let _alone = alone();
    for layers in [&["last", "hidden"][..], &["deep", "fc"], &["fc"]] {
        let made = pruned(&Plain::new(1), layers);
        for config in optimizers() {
            compare(&made.model, &made, &config, 1e-4);
        }
    }
}

#[test]
fn sparse_layers_in_every_format() {
    let _alone = alone();
    let made = pruned(&Plain::new(2), &["deep", "last", "hidden"]);
    for format in [SparseFormat::Kernels, SparseFormat::Blocks] {
        let sparse = sparsify(&made.model, &copy(0), &SparseConfig::new().with_format(format)).unwrap().model;
        for config in optimizers() {
            compare(&sparse, &made, &config, 1e-4);
        }
    }
}

#[test]
fn residual_connections_across_the_cut() {
    let _alone = alone();
    for layers in [&["b", "fc"][..], &["a"], &["b"], &["up"]] {
        let made = pruned(&Residual::new(3), layers);
        compare(&made.model, &made, &config(), 1e-4);
    }
}

#[test]
fn attention_and_layer_normalisation() {
    let _alone = alone();
    for layers in [&["wide", "fc"][..], &["attention.value", "narrow"], &["attention.query"], &["fc"]] {
        let made = pruned(&Tokens::new(4), layers);
        compare(&made.model, &made, &config(), 1e-4);
    }
}

#[test]
fn all_layers() {
    let _alone = alone();
    let made = pruned(&Plain::new(5), &["fc"]);
    compare(&made.model, &made, &config().with_all_layers(true), 1e-3);
}

#[test]
fn dropout_draws_the_same_numbers() {
    let _alone = alone();
    for frozen in [false, true] {
        // A layer without parameters learns with all others only. What the user froze is stored.
        let mut net = Dropped::new(6);
        if frozen {
            (net.stem, net.norm) = (net.stem.freeze(), net.norm.freeze());
        }
        let made = pruned(&net, &["hidden"]);
        let tune = || FineTune::new(&made.plan).config(config().with_all_layers(true)).seed(5);
        let whole = tune().run(made.model.clone(), epoch(7, 3), SAMPLES, &NoProgress).unwrap().model;
        let store = store().precision(StorePrecision::Float32);
        let stored = tune().store(store.clone()).run(made.model.clone(), pass, SAMPLES, &NoProgress).unwrap().model;
        assert!(apart(&stored, &whole).0 < 1e-4, "{:?}", apart(&stored, &whole));
        let recorded = tune().recorded(true).run(made.model.clone(), epoch(7, 3), SAMPLES, &NoProgress).unwrap().model;
        assert!(apart(&recorded, &whole).0 < 1e-4, "recorded: {:?}", apart(&recorded, &whole));
        let other = tune().seed(6).store(store).run(made.model.clone(), pass, SAMPLES, &NoProgress).unwrap().model;
        assert!(apart(&other, &whole).0 > 1e-3, "dropout draws anew");
    }
}

#[test]
fn a_teacher_stored_beside() {
    let _alone = alone();
    let original = Plain::new(8);
    let made = pruned(&original, &["last", "fc"]);
    let tune = || {
        let distillation = Distillation::new().temperature(2.0).weight(0.8);
        FineTune::new(&made.plan).config(config()).distill(&original, distillation)
    };
    let whole = tune().run(made.model.clone(), epoch(7, 3), SAMPLES, &NoProgress).unwrap().model;
    let store = store().precision(StorePrecision::Float32);
    let stored = tune().store(store).run(made.model.clone(), pass, SAMPLES, &NoProgress).unwrap().model;
    assert!(apart(&stored, &whole).0 < 1e-4, "{:?}", apart(&stored, &whole));
    let alone = fine_tune(made.model.clone(), &made.plan, epoch(7, 3), SAMPLES, &config(), &NoProgress).unwrap();
    assert!(apart(&alone, &whole).0 > 1e-3, "the teacher teaches");
}

#[test]
fn any_optimizer() {
    let _alone = alone();
    let made = pruned(&Plain::new(10), &["last", "hidden"]);
    let model = made.model.clone().materialize();
    for optimizer in [RmsPropConfig::new().init(), AdaGradConfig::new().init()] {
        let config = config().with_learning_rate(0.01);
        let tune = || FineTune::new(&made.plan).config(config.clone()).optimizer(optimizer.clone());
        let whole = tune().run(model.clone(), epoch(7, 3), SAMPLES, &NoProgress).unwrap().model;
        let store = store().precision(StorePrecision::Float32);
        let stored = tune().store(store).run(model.clone(), pass, SAMPLES, &NoProgress).unwrap().model;
        assert!(apart(&stored, &whole).0 < 1e-3, "{:?}", apart(&stored, &whole));
        assert!(apart(&stored, &model).0 > 1e-2, "nothing moved");
        for ((path, after), (_, before)) in weights(&stored).iter().zip(&weights(&model)) {
            if path == "last.weight" || path == "hidden.weight" {
                let zeros = before.iter().filter(|value| **value == 0.0).count();
                assert!(zeros > before.len() / 2);
                assert!(before.iter().zip(after).all(|(before, after)| *before != 0.0 || *after == 0.0), "{path}");
            }
        }
    }
}

#[test]
fn clipped_gradients_bound_each_step() {
    let _alone = alone();
    let made = pruned(&Plain::new(9), &["last", "fc"]);
    let config = config().with_epochs(1.0).with_momentum(0.0).with_weight_decay(0.0).with_schedule(Schedule::Constant);
    let moved = |clipping: Option<GradientClippingConfig>| {
        let config = config.clone().with_gradient_clipping(clipping);
        let tuned = fine_tune(made.model.clone(), &made.plan, epoch(7, 1), SAMPLES, &config, &NoProgress).unwrap();
        let (after, before) = (weights(&tuned), weights(&made.model.valid()));
        let trained = after.iter().zip(&before).filter(|((path, _), _)| !path.contains("running"));
        let moved = trained.flat_map(|((_, after), (_, before))| after.iter().zip(before).map(|(a, b)| (a - b).abs()));
        moved.fold(0.0_f32, f32::max)
    };
    // Four steps of a learning rate of 0.05.
    let most = 4.0 * 0.05 * 1e-3;
    assert!(moved(None) > 10.0 * most);
    for clipping in [GradientClippingConfig::Value(1e-3), GradientClippingConfig::Norm(1e-3)] {
        let moved = moved(Some(clipping));
        assert!(moved > 0.0 && moved <= 1.01 * most, "{moved}");
    }
}
