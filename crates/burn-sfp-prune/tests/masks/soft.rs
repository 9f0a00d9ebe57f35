//! Masked is what the smaller module computes, without masks it is the original, and applied it is the smaller module: on random graphs.

use std::cell::RefCell;

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use burn_sfp_graph::{GraphModule, Network};
use burn_sfp_prune::{BiasCorrection, Budget, Magnitude, Planner, PruneError, PrunedModule, unmask};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use super::draw::{drawn, uniform};
use super::graph::build::{build, inputs};
use super::graph::inspect::{bytes, difference};
use super::graph::spec::{Spec, specs};
use super::net::{LastFirst, Net, images};

const GRAPHS: u32 = 300;

/// How many graphs lost something, and how many were compared bit by bit.
#[derive(Default, Debug)]
struct Tally {
    pruned: usize,
    same_bits: usize,
}

fn check(spec: &Spec, tally: &mut Tally) -> Result<(), TestCaseError> {
    let fail = |error: PruneError| TestCaseError::fail(error.to_string());
    let model = build(spec, &Device::flex());
    let x = inputs(spec, 2, spec.seed, &Device::flex());
    let planner = Planner::new().budget(Budget::PerLayer(0.4)).bias_correction(BiasCorrection::Off);
    // A graph that the planner refuses is not what is tested here.
    let Ok(PrunedModule { model: smaller, plan, .. }) = planner.prune(&model, &x, &Magnitude::l2()) else {
        return Ok(());
    };
    if plan.cuts.is_empty() {
        return Ok(());
    }
    tally.pruned += 1;
    let masked = plan.mask(&model).map_err(fail)?;
    let other = inputs(spec, 3, !spec.seed, &Device::flex());
    let off = difference(masked.run(other.clone()), smaller.run(other.clone()), 1e-3);
    prop_assert!(off < 1e-4, "off by {}", off);
    let undone = unmask(&masked).map_err(fail)?;
    if plan.centered.is_empty() {
        tally.same_bits += 1;
        prop_assert!(bytes(&undone) == bytes(&model), "without masks it is not the original");
    } else {
        let off = difference(undone.run(other.clone()), model.run(other.clone()), 1e-3);
        prop_assert!(off < 1e-4, "without masks it is off by {}", off);
    }
    let applied = plan.apply(&masked).map_err(fail)?;
    let off = difference(applied.run(other.clone()), smaller.run(other.clone()), 1e-3);
    prop_assert!(off < 1e-5, "applied it is off by {}", off);
    let is_refused = matches!(plan.mask(&masked), Err(PruneError::AlreadyMasked { .. }));
    prop_assert!(is_refused, "it was masked twice");
    Network::capture(&masked, &x).map_err(|error| TestCaseError::fail(format!("capture: {error}")))?;
    let final_zeros = masked.materialize();
    let off = difference(final_zeros.run(other.clone()), smaller.run(other), 1e-3);
    prop_assert!(off < 1e-4, "materialised it is off by {}", off);
    Ok(())
}

#[test]
fn random_graphs_are_masked_and_unmasked() {
    let config = ProptestConfig { cases: GRAPHS, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[31; 32]));
    let tally = RefCell::new(Tally::default());
    if let Err(error) = runner.run(&specs(), |spec| check(&spec, &mut tally.borrow_mut())) {
        panic!("{error}");
    }
    let tally = tally.into_inner();
    println!("{tally:?}");
    assert!(tally.pruned > 200 && tally.same_bits > 150, "{tally:?}");
}

/// Tokens with a position of their own each, whose channels lie along the third axis.
#[derive(Module, Debug)]
struct Tokens {
    first: Linear,
    positions: Param<Tensor<3>>,
    last: Linear,
}

impl GraphModule for Tokens {
    type Inputs = Tensor<3>;
    type Outputs = Tensor<3>;
    fn run(&self, x: Tensor<3>) -> Tensor<3> {
        self.last.forward(self.first.forward(x) + self.positions.val())
    }
}

#[test]
fn masks_over_other_axes() {
    let device = Device::flex();
    let random = |shape| uniform(shape, 0.0, 1.0, &device);
    let positions = Param::from_tensor(random([1, 3, 8]));
    let linear = |from, to| LinearConfig::new(from, to).init(&device);
    let model = drawn(Tokens { first: linear(4, 8), positions, last: linear(8, 2) });
    let x = random([2, 3, 4]);
    let made = Planner::new().bias_correction(BiasCorrection::Off).prune(&model, &x, &Magnitude::l2()).unwrap();
    assert_eq!(made.model.positions.dims(), [1, 3, 4]);
    let masked = made.plan.mask(&model).unwrap();
    assert!((masked.run(x.clone()) - made.model.run(x)).abs().max().into_scalar::<f32>() < 1e-5);
    let zeros = masked.positions.val().into_data().iter::<f32>().filter(|value| *value == 0.0).count();
    assert_eq!(zeros, 3 * 4);
    assert_eq!(bytes(&made.plan.apply(&masked).unwrap()), bytes(&made.model));
    assert_eq!(bytes(&unmask(&masked).unwrap()), bytes(&model));
}

fn made(correction: BiasCorrection) -> (Net, PrunedModule<Net>) {
    let model = Net::new(1);
    let planner = Planner::new().budget(Budget::PerLayer(0.5)).bias_correction(correction);
    let made = planner.prune(&model, &images(2, 1), &LastFirst { masked: &["dilated", "hidden"] }).unwrap();
    (model, made)
}

fn off(a: Tensor<2>, b: Tensor<2>) -> f32 {
    (a - b).abs().max().into_scalar()
}

#[test]
fn channels_and_connections_together() {
    let (model, made) = made(BiasCorrection::Off);
    assert_eq!(made.plan.masks.len(), 2);
    let before = bytes(&model);
    let (masked, x) = (made.plan.mask(&model).unwrap(), images(4, 2));
    assert!(off(masked.run(x.clone()), made.model.run(x.clone())) < 1e-5);
    assert_eq!(bytes(&unmask(&masked).unwrap()), before);
    let applied = made.plan.apply(&masked).unwrap();
    assert_eq!(bytes(&applied), bytes(&made.model));
    assert_eq!(bytes(&model), before);
}

#[test]
fn constants_reach_the_layers_behind() {
    let (model, made) = made(BiasCorrection::Constants);
    let (masked, x) = (made.plan.mask(&model).unwrap(), images(4, 3));
    assert!(off(masked.run(x.clone()), made.model.run(x.clone())) < 1e-5);
    assert!(off(masked.run(x.clone()), made.plan.zeroed(&model).unwrap().run(x.clone())) < 1e-6);
    // The corrections are measured on the values below the masks.
    assert!(off(made.plan.apply(&masked).unwrap().run(x.clone()), made.model.run(x)) < 1e-6);
}

#[test]
fn records_hold_masks_and_what_is_below() {
    let (model, made) = made(BiasCorrection::Off);
    let masked = made.plan.mask(&model).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("masked");
    masked.clone().save_file(&file).unwrap();
    let loaded = made.plan.mask(&Net::new(2)).unwrap().load_file(&file);
    assert_eq!(bytes(&loaded), bytes(&masked));
    assert_eq!(bytes(&unmask(&loaded).unwrap()), bytes(&model));
}

#[test]
fn masks_of_another_plan_are_refused() {
    let (model, made) = made(BiasCorrection::Off);
    let other = Planner::new()
        .budget(Budget::PerLayer(0.25))
        .bias_correction(BiasCorrection::Off)
        .prune(&model, &images(2, 1), &LastFirst { masked: &["dilated"] })
        .unwrap();
    let masked = other.plan.mask(&model).unwrap();
    assert!(matches!(made.plan.apply(&masked), Err(PruneError::AlreadyMasked { .. })));
    assert!(matches!(made.plan.mask(&masked), Err(PruneError::AlreadyMasked { .. })));
}

#[test]
fn training_mode_stays() {
    let (model, made) = made(BiasCorrection::Off);
    let training = model.train();
    let masked = made.plan.mask(&training).unwrap();
    assert!(masked.first.weight.base().is_require_grad());
    assert!(unmask(&masked).unwrap().first.weight.val().is_require_grad());
    assert!(!made.plan.mask(&training.valid()).unwrap().first.weight.base().is_require_grad());
}
