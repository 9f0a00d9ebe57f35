//! Two checkpoints of one architecture are told apart by the values of their parameters.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor, s};
use burn_sfp_core::{AnalyzeConfig, Batch, NoProgress, Readout, SfpError, TensorCalibration, analyze};
use burn_sfp_graph::{Fingerprint, GraphModule, Network};
use burn_sfp_prune::{
    ApplyConfig, BiasCorrection, FineTuneConfig, Magnitude, OtherWeights, Planner, PruneError, PrunePlan, fine_tune,
};

use crate::kinds::{Mlp, analysed, analysis, inputs, plan};
use crate::small::{Small, analysed as small_analysed, bytes, images};

fn refuse() -> ApplyConfig {
    ApplyConfig::new().other_weights(OtherWeights::Refuse)
}

#[test]
fn analyses_of_two_checkpoints_do_not_merge() {
    let (one, other) = (analysis(1), analysis(2));
    for error in [one.merge(&other).unwrap_err(), other.merge(&one).unwrap_err()] {
        let SfpError::Merge(what) = error else { panic!("{error}") };
        assert!(what.contains("two checkpoints") && what.contains("`a.bias`"), "{what}");
    }
    // Shares of the data merge, also if they were analysed elsewhere or with the model in training.
    let share = |from: usize| {
        let labels = (0..6).map(|k| k % 2).collect();
        TensorCalibration::new(inputs(12).narrow(0, from, 6), labels, 3)
    };
    let config = AnalyzeConfig::new().with_state(true);
    let model = Mlp::new(1);
    let first = analyze(&model, &share(0), &config).unwrap();
    let second = analyze(&model.clone().train(), &share(6), &config).unwrap();
    assert_eq!(first.merge(&second).unwrap().samples, 12);
    #[allow(deprecated)]
    let elsewhere = model.clone().to_device(&Device::ndarray());
    let second = analyze(&elsewhere, &share(6), &config).unwrap();
    assert_eq!(first.merge(&second).unwrap().samples, 12);

    // One value of one parameter that no layer under analysis reads.
    let mut tuned = model.clone();
    tuned.c.bias = tuned.c.bias.map(|bias| bias.map(|bias| bias.slice_fill(s![0..1], 0.25)));
    let second = analyze(&tuned, &share(6), &config).unwrap();
    let error = first.merge(&second).unwrap_err().to_string();
    assert!(error.contains("`c.bias`"), "{error}");
    // Its readouts are not taken over either.
    let given = config.with_readout(Readout::Given(Box::new(first)));
    let error = analyze(&tuned, &share(6), &given).unwrap_err();
    assert!(matches!(&error, SfpError::OtherWeights { parameter } if parameter == "c.bias"), "{error}");
    analyze(&model, &share(6), &given).unwrap();
}

#[test]
fn means_of_another_checkpoint_are_left_out_or_refused() {
    let matters = |seed: &u64| {
        let means = plan(*seed).bias_corrections.into_iter().flat_map(|corrected| corrected.inputs);
        means.into_iter().any(|(_, mean)| mean.abs() > 0.05)
    };
    let seed = (1..50).find(matters).expect("a removed channel has a mean");
    let made = plan(seed);
    let without = {
        let mut without = made.clone();
        without.bias_corrections.clear();
        without.sealed().unwrap()
    };
    let own = Mlp::new(seed);
    let applied = made.apply_with(&own, &refuse()).unwrap();
    assert!(applied.dropped.is_empty() && applied.warning().is_none());
    let values = |model: &Mlp| model.run(inputs(4)).into_data();
    assert_ne!(values(&applied.model), values(&without.apply(&own).unwrap()));
    for same in [own.clone().train(), own.clone().no_grad(), own.clone().fork(&Device::flex())] {
        assert!(made.apply_with(&same, &refuse()).unwrap().dropped.is_empty());
    }

    let other = Mlp::new(seed + 1);
    let applied = made.apply_with(&other, &ApplyConfig::new()).unwrap();
    let layers: Vec<&str> = made.bias_corrections.iter().map(|corrected| corrected.layer.as_str()).collect();
    assert_eq!(applied.dropped, layers);
    assert!(applied.warning().unwrap().contains(&format!("`{}`", layers[0])));
    for smaller in [applied.model, made.apply(&other).unwrap()] {
        assert_eq!(values(&smaller), values(&without.apply(&other).unwrap()));
    }
    let error = made.apply_with(&other, &refuse()).unwrap_err();
    assert!(matches!(&error, PruneError::OtherWeights { parameter } if parameter == "a.bias"), "{error}");
    // A plan without corrections applies to any checkpoint.
    assert!(without.apply_with(&other, &refuse()).unwrap().dropped.is_empty());
}

#[test]
fn a_loaded_plan_knows_its_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.json");
    plan(1).save(&path).unwrap();
    let loaded = PrunePlan::load(&path).unwrap();
    assert_eq!(loaded.measured_on, Fingerprint::of(&Mlp::new(1)).unwrap());
    assert!(loaded.apply_with(&Mlp::new(1), &refuse()).unwrap().dropped.is_empty());
    assert!(loaded.apply_with(&Mlp::new(2), &refuse()).is_err());
}

/// A network whose filters leave a half behind when they are silenced.
#[derive(Module, Debug)]
struct Gate {
    a: Linear,
    b: Linear,
}

impl GraphModule for Gate {
    type Inputs = Tensor<2>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<2>) -> Tensor<2> {
        self.b.forward(sigmoid(self.a.forward(x)))
    }
}

#[test]
fn constants_are_those_of_one_checkpoint_too() {
    let gate = || {
        let linear = |from, to| LinearConfig::new(from, to).init(&Device::flex());
        Gate { a: linear(3, 8), b: linear(8, 2) }
    };
    let (model, other) = (gate(), gate());
    let planner = Planner::new().bias_correction(BiasCorrection::Constants);
    let made = planner.prune(&model, &inputs(2), &Magnitude::l2()).unwrap().plan;
    assert!(made.bias_corrections.iter().any(|corrected| corrected.constants));
    assert_eq!(made.measured_on, Fingerprint::of(&model).unwrap());
    let near = |a: &Gate, b: &Gate| {
        let difference = (a.run(inputs(6)) - b.run(inputs(6))).abs().max().into_scalar::<f32>();
        assert!(difference < 1e-5, "{difference}");
    };
    let applied = made.apply_with(&model, &refuse()).unwrap();
    assert!(applied.dropped.is_empty());
    near(&applied.model, &made.zeroed(&model).unwrap());
    // With other weights the constants are left out, here and there.
    let applied = made.apply_with(&other, &ApplyConfig::new()).unwrap();
    assert_eq!(applied.dropped, ["b"]);
    near(&applied.model, &made.zeroed(&other).unwrap());
}

#[test]
fn fine_tuning_makes_another_checkpoint() {
    let model = Small::new(1, false);
    let (network, analysis) = small_analysed(&model, &AnalyzeConfig::new().with_state(true));
    let made = Planner::new().plan(&network, &analysis, &Magnitude::l2()).unwrap();
    let smaller = made.apply(&model).unwrap();
    let (input, labels) = images(12);
    let batches = |_| (0..4).map(|_| Ok(Batch { input: input.clone(), labels: labels.clone() }));
    let config = FineTuneConfig::new().with_learning_rate(0.05);
    let tuned = fine_tune(smaller.clone(), &made, batches, 48, &config, &NoProgress).unwrap();
    assert_ne!(bytes(&tuned), bytes(&smaller));
    let analysed = |model: &Small| small_analysed(model, &AnalyzeConfig::new().with_state(true)).1;
    assert!(matches!(analysed(&smaller).merge(&analysed(&tuned)), Err(SfpError::Merge(_))));
    assert!(analysed(&tuned).merge(&analysed(&tuned)).is_ok());
    // An analysis from before plans for the tuned model; its means are left out when the plan is applied.
    let (network, _) = small_analysed(&tuned, &AnalyzeConfig::new());
    let stale = Planner::new().plan(&network, &analysed(&smaller), &Magnitude::l2()).unwrap();
    assert!(!stale.apply_with(&tuned, &ApplyConfig::new()).unwrap().dropped.is_empty());
    let fresh = Planner::new().plan(&network, &analysed(&tuned), &Magnitude::l2()).unwrap();
    assert!(fresh.apply_with(&tuned, &refuse()).unwrap().dropped.is_empty());
}

#[test]
fn the_checksums_cost_little() {
    use std::time::Instant;
    let model = Small::with_filters(1, false, 256);
    let x = images(64).0;
    let network = Network::capture(&model, &x).unwrap();
    let best = |work: &dyn Fn()| {
        let seconds = (0..7).map(|_| {
            let started = Instant::now();
            work();
            started.elapsed().as_secs_f64()
        });
        seconds.fold(f64::INFINITY, f64::min)
    };
    let forward = best(&|| drop(model.run(x.clone()).into_data()));
    let checksums = best(&|| drop(Fingerprint::of(&model).unwrap()));
    let bytes: usize = network.parameters().iter().map(|found| 4 * found.shape.iter().product::<usize>()).sum();
    println!(
        "{bytes} bytes of parameters: checksums in {:.2} ms, a batch of 64 images in {:.2} ms ({:.1} %)",
        1e3 * checksums,
        1e3 * forward,
        100.0 * checksums / forward
    );
    assert_eq!(*network.fingerprint(), Fingerprint::of(&model).unwrap());
    let (_, analysed) = analysed(&Mlp::new(1));
    assert_eq!(analysed.fingerprint, Fingerprint::of(&Mlp::new(1)).unwrap());
}
