//! Evidence of random computation graphs: every policy ranks them, whatever their operations.

use std::cell::RefCell;
use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use burn_sfp_core::{NoProgress, TensorCalibration};
use burn_sfp_graph::{GraphModule, Layer, Network};
use burn_sfp_prune::{Evidence, Planner, PruneError};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use super::graph::build::{build, inputs};
use super::graph::net::{Inputs, Net};
use super::graph::spec::{Spec, specs};
use super::handed_out::{all_needs, policies};
use super::try_rank;

const GRAPHS: u32 = 60;
const SAMPLES: usize = 5;

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

/// By policy, the layers that can be pruned, and those of them that have scores.
type Tally = BTreeMap<String, (usize, usize)>;

fn check(spec: &Spec, tally: &mut Tally) -> Result<(), TestCaseError> {
    let device = Device::flex();
    let model = Classifier { net: build(spec, &device) };
    let first = inputs(spec, 2, spec.seed, &device);
    let network = Network::capture(&model, &first);
    let network = network.map_err(|error| TestCaseError::fail(format!("capture: {error}")))?;
    if network.classes() == 0 {
        return Ok(());
    }
    let labels = (0..SAMPLES).map(|k| k % network.classes()).collect();
    let data = TensorCalibration::new(inputs(spec, SAMPLES, !spec.seed, &device), labels, 2);
    let evidence = match Evidence::gather(&model, &data, all_needs(), &NoProgress) {
        Ok(evidence) => evidence,
        // Roots and norms of zeros.
        Err(PruneError::NonFiniteGradient { .. }) => return Ok(()),
        Err(error) => return Err(TestCaseError::fail(format!("gather: {error}"))),
    };
    let prunable: Vec<&Layer> = network.layers().iter().filter(|layer| layer.not_prunable.is_none()).collect();
    // Some layers do not reach the outputs.
    let has_gradient = |layer: &Layer| {
        layer.is_stored() && evidence.parameter_gradients.contains_key(&network.parameters()[layer.weight()].path)
    };
    for policy in policies() {
        let name = policy.name();
        let failed = |error: PruneError| TestCaseError::fail(format!("{name}: {error}"));
        let found = try_rank(&network, Some(&evidence), &policy).map_err(failed)?;
        for (path, scores) in &found.filters {
            let filters = network.layer(path).map(|layer| layer.filters);
            prop_assert_eq!(filters, Some(scores.len()), "{} of {}", &name, path);
            let sound = scores.iter().all(|score| score.is_finite() && *score >= -1e-9);
            prop_assert!(sound, "{} of {}: {:?}", &name, path, scores);
        }
        let expected = prunable.iter().filter(|layer| {
            let needs = policy.needs();
            needs.has_outputs() || (needs.has_gradients() && has_gradient(layer))
        });
        for layer in expected {
            prop_assert!(found.filters.contains_key(&layer.path), "{} of {}", &name, layer.path);
        }
        Planner::new().plan(&network, None, &evidence.policy(&policy)).map_err(failed)?;
        let counts = tally.entry(name).or_default();
        *counts = (counts.0 + prunable.len(), counts.1 + found.filters.len());
    }
    Ok(())
}

#[test]
fn random_graphs_are_ranked_by_every_policy() {
    let config = ProptestConfig { cases: GRAPHS, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[14; 32]));
    let tally = RefCell::new(Tally::new());
    if let Err(error) = runner.run(&specs(), |spec| check(&spec, &mut tally.borrow_mut())) {
        panic!("{error}");
    }
    let tally = tally.into_inner();
    assert_eq!(tally.len(), 6);
    for (policy, (prunable, scored)) in tally {
        assert!(prunable > 50, "{policy}: only {prunable} layers");
        assert!(2 * scored >= prunable - prunable / 10, "{policy}: {scored} of {prunable} layers");
    }
}
