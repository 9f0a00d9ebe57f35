//! Random computation graphs: whatever the operations, the recovered network runs, has the plan's shapes, and no layer fits the original
//! worse than before.

use std::cell::RefCell;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use burn_sfp_core::{NoProgress, SfpModule, TensorCalibration};
use burn_sfp_graph::{GraphModule, Network};
use burn_sfp_prune::{Budget, Magnitude, Planner, PrunedModule, Recover, RecoveryStep, recover};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use super::graph::build::{build, inputs};
use super::graph::inspect::values;
use super::graph::net::{Inputs, Net};
use super::graph::spec::{Spec, specs};

const GRAPHS: u32 = 80;
const SAMPLES: usize = 7;

/// A random graph whose outputs, next to each other, are the logits.
#[derive(Module, Debug)]
struct Classifier {
    net: Net,
}

impl GraphModule for Classifier {
    type Inputs = Inputs;
    type Outputs = Tensor<2>;
    fn run(&self, inputs: Inputs) -> Tensor<2> {
        fn flat<const D: usize>(outputs: Vec<Tensor<D>>) -> impl Iterator<Item = Tensor<2>> {
            outputs.into_iter().map(|output| {
                let samples = output.dims()[0];
                let elements = output.shape().num_elements() / samples;
                output.reshape([samples, elements])
            })
        }
        let (two, three, four, five) = self.net.run(inputs);
        Tensor::cat(flat(two).chain(flat(three)).chain(flat(four)).chain(flat(five)).collect(), 1)
    }
}

/// How many layers were solved, means matched, normalisations measured, and how many of these were left out.
#[derive(Default, Debug)]
struct Tally {
    solved: usize,
    means: usize,
    norms: usize,
    left_out: usize,
}

fn check(spec: &Spec, tally: &mut Tally) -> Result<(), TestCaseError> {
    let device = Device::flex();
    let model = Classifier { net: build(spec, &device) };
    let x = inputs(spec, 2, spec.seed, &device);
    let network = Network::capture(&model, &x).map_err(|error| TestCaseError::fail(format!("capture: {error}")))?;
    if network.classes() == 0 {
        return Ok(());
    }
    let planner = Planner::new().budget(Budget::PerLayer(0.4));
    // A graph that the planner refuses is not what is tested here.
    let Ok(PrunedModule { model: smaller, plan, .. }) = planner.prune(&model, &x, &Magnitude::l2()) else {
        return Ok(());
    };
    let samples = inputs(spec, SAMPLES, !spec.seed, &device);
    let finite = |model: &Classifier| values(model.logits(samples.clone())).iter().all(|value| value.is_finite());
    if !finite(&model) || !finite(&smaller) {
        return Ok(());
    }
    let data = TensorCalibration::new(samples.clone(), vec![0; SAMPLES], 3);
    let result = recover(&model, &smaller, &plan, &data, &Recover::new(), &NoProgress);
    let result = result.map_err(|error| TestCaseError::fail(format!("recover: {error}")))?;
    let capture = |model: &Classifier| Network::capture(model, &x);
    let after = capture(&result.model).map_err(|error| TestCaseError::fail(format!("capture again: {error}")))?;
    prop_assert_eq!(after.model_shapes(), capture(&smaller).unwrap().model_shapes());
    for corrected in &result.report.corrected {
        match corrected.step {
            RecoveryStep::LeastSquares => tally.solved += 1,
            RecoveryStep::Means => tally.means += 1,
            _ => tally.norms += 1,
        }
        if let Some((before, after)) = corrected.error {
            prop_assert!(after <= before + 1e-9, "{}: {} after {}", corrected.path, after, before);
        }
    }
    tally.left_out += result.report.left_out.len();
    let same_layers = result
        .report
        .corrected
        .iter()
        .map(|corrected| &corrected.path)
        .all(|path| after.layer(path).is_some() || after.batch_norms().iter().any(|norm| norm.path == *path));
    prop_assert!(same_layers);
    Ok(())
}

#[test]
fn random_graphs_are_recovered() {
    let config = ProptestConfig { cases: GRAPHS, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[15; 32]));
    let tally = RefCell::new(Tally::default());
    if let Err(error) = runner.run(&specs(), |spec| check(&spec, &mut tally.borrow_mut())) {
        panic!("{error}");
    }
    let tally = tally.into_inner();
    println!("{tally:?}");
    assert!(tally.solved > 200 && tally.means > 100 && tally.norms > 2, "{tally:?}");
}
