//! What is removed stays exactly zero whatever the optimiser does, and the masked original trains as the smaller module does.

use burn::module::Module;
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{
    AdaGradConfig, AdafactorConfig, AdamConfig, AdamWConfig, AdanConfig, GradientsAccumulator, GradientsParams,
    LambConfig, LionConfig, ModuleOptimizer, MuonConfig, RmsPropConfig, SgdConfig,
};
use burn::tensor::Tensor;
use burn_sfp_graph::GraphModule;
use burn_sfp_prune::{BiasCorrection, Budget, Planner, PrunePlan};

use super::graph::inspect::values;
use super::net::{LastFirst, Net, images};

fn made() -> (Net, Net, PrunePlan) {
    let model = Net::new(1);
    let planner = Planner::new().budget(Budget::PerLayer(0.5)).bias_correction(BiasCorrection::Off);
    let made = planner.prune(&model, &images(2, 1), &LastFirst { masked: &["dilated", "hidden"] }).unwrap();
    (made.plan.mask(&model).unwrap().train(), made.model.train(), made.plan)
}

/// Something that all parameters have a gradient of.
fn loss(model: &Net, step: usize) -> Tensor<1> {
    let x = images(6, step as u64);
    let x = Tensor::from_inner(x);
    let target = Tensor::<2>::from_floats([[1.0, -1.0, 0.5]], &x.device());
    (model.run(x) - target).powi_scalar(2).mean()
}

fn step(model: Net, optimizer: &mut ModuleOptimizer, at: usize, rate: f64) -> Net {
    let gradients = GradientsParams::from_grads(loss(&model, at).backward(), &model);
    optimizer.step(rate, model, gradients)
}

fn optimizers() -> Vec<(&'static str, ModuleOptimizer)> {
    let decay = Some(WeightDecayConfig::new(0.05));
    let momentum = Some(MomentumConfig::new().with_momentum(0.9).with_dampening(0.0).with_nesterov(true));
    vec![
        ("sgd", SgdConfig::new().with_momentum(momentum).with_weight_decay(decay.clone()).init()),
        ("adam", AdamConfig::new().with_weight_decay(decay.clone()).init()),
        ("adamw", AdamWConfig::new().with_weight_decay(0.05).init()),
        ("adagrad", AdaGradConfig::new().with_weight_decay(decay.clone()).init()),
        ("rmsprop", RmsPropConfig::new().with_weight_decay(decay.clone()).init()),
        ("adan", AdanConfig::new().with_weight_decay(0.05).init()),
        ("lion", LionConfig::new().with_weight_decay(0.05).init()),
        ("lamb", LambConfig::new().with_weight_decay(0.05).init()),
        ("adafactor", AdafactorConfig::new().init()),
    ]
}

/// Elements of the weights that the plan removes, as the model has them.
fn removed(model: &Net, plan: &PrunePlan) -> Vec<f32> {
    let zeros = plan.zeroed(&filled()).unwrap();
    let pick = |weight: Vec<f32>, zeros: Vec<f32>| {
        weight.into_iter().zip(zeros).filter(|(_, zero)| *zero == 0.0).map(|(value, _)| value).collect::<Vec<f32>>()
    };
    let mut removed = pick(values(model.first.weight.val()), values(zeros.first.weight.val()));
    removed.extend(pick(values(model.grouped.weight.val()), values(zeros.grouped.weight.val())));
    removed.extend(pick(values(model.dilated.weight.val()), values(zeros.dilated.weight.val())));
    removed.extend(pick(values(model.hidden.weight.val()), values(zeros.hidden.weight.val())));
    removed.extend(pick(values(model.norm.gamma.val()), values(zeros.norm.gamma.val())));
    removed
}

/// The network with nothing at zero.
fn filled() -> Net {
    super::graph::inspect::edited(&Net::new(3), |_, _, values| values.fill(1.0))
}

#[test]
fn removed_is_zero_after_any_optimiser() {
    let (masked, _, plan) = made();
    let kept = |model: &Net| values(model.first.weight.val());
    for (name, mut optimizer) in optimizers() {
        let mut model = masked.clone();
        for at in 0..4 {
            model = step(model, &mut optimizer, at, 1e-2);
        }
        let removed = removed(&model, &plan);
        assert!(removed.len() > 500, "{}", removed.len());
        assert!(removed.iter().all(|value| *value == 0.0), "{name}");
        assert_ne!(kept(&model), kept(&masked), "{name} trained nothing");
        assert!(kept(&model).iter().all(|value| value.is_finite()), "{name}");
    }
}

#[test]
fn muon_on_the_weights_of_linear_layers() {
    let (masked, _, plan) = made();
    let mut optimizer = MuonConfig::new().init();
    let mut model = masked.clone();
    for at in 0..3 {
        // Muon takes matrices alone.
        let all = loss(&model, at).backward();
        let mut gradients = GradientsParams::new();
        gradients.register(model.hidden.weight.id, model.hidden.weight.base().grad(&all).unwrap());
        model = optimizer.step(1e-2, model, gradients);
    }
    assert_ne!(values(model.hidden.weight.val()), values(masked.hidden.weight.val()));
    assert!(removed(&model, &plan).iter().all(|value| *value == 0.0));
    // Its steps are dense: only the mask holds the zeros.
    let (base, effective) = (values(model.hidden.weight.base()), values(model.hidden.weight.val()));
    let before = values(masked.hidden.weight.base());
    let moved = base.iter().zip(&effective).zip(&before).any(|((base, zero), old)| *zero == 0.0 && base != old);
    assert!(moved);
}

#[test]
fn masked_and_smaller_train_alike() {
    let (masked, smaller, plan) = made();
    for (name, rate, tolerance) in [("sgd", 1e-2, 1e-4), ("adam", 1e-3, 1e-3), ("adamw", 1e-3, 1e-3)] {
        let pair = || optimizers().into_iter().find(|(known, _)| *known == name).unwrap().1;
        let (mut first, mut second) = (pair(), pair());
        let (mut wide, mut narrow) = (masked.clone(), smaller.clone());
        for at in 0..12 {
            wide = step(wide, &mut first, at, rate);
            narrow = step(narrow, &mut second, at, rate);
        }
        let x = images(5, 77);
        let outputs = |model: &Net| values(model.valid().run(x.clone()));
        let (wide_out, narrow_out) = (outputs(&wide), outputs(&narrow));
        let far = values(smaller.valid().run(x.clone()));
        let most = |a: &[f32], b: &[f32]| a.iter().zip(b).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
        assert!(most(&wide_out, &narrow_out) < tolerance, "{name}: {}", most(&wide_out, &narrow_out));
        assert!(most(&narrow_out, &far) > 20.0 * tolerance, "{name} hardly trained");
        // Rewriting the trained model gives the trained smaller one.
        let rewritten = plan.apply(&wide.valid()).unwrap();
        assert!(most(&values(rewritten.run(x.clone())), &narrow_out) < tolerance, "{name}");
    }
}

#[test]
fn accumulated_gradients() {
    let (masked, _, plan) = made();
    let mut optimizer = optimizers().remove(0).1;
    let (mut model, mut sums) = (masked.clone(), GradientsAccumulator::new());
    for at in 0..6 {
        let gradients = GradientsParams::from_grads(loss(&model, at).backward(), &model);
        sums.accumulate(&model, gradients);
        if at % 3 == 2 {
            model = optimizer.step(1e-2, model, sums.grads());
        }
    }
    assert_ne!(values(model.first.weight.val()), values(masked.first.weight.val()));
    assert!(removed(&model, &plan).iter().all(|value| *value == 0.0));
}
