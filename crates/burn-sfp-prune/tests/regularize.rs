//! Penalties on channels against sums in double precision, and what they do in training.

mod common;

use std::collections::BTreeMap;

use burn::module::Module;
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{Device, Tensor};
use burn_sfp_graph::{GraphModule, Network};
use burn_sfp_prune::group::Groups;
use burn_sfp_prune::{Budget, Magnitude, Planner, PruneError, Regularizer};
use common::{Net, Spec, plain_block, specs};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

/// For each channel that could be removed the values of everything that leaves with it.
fn weights(network: &Network) -> BTreeMap<u32, Vec<f64>> {
    let mut all: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    let groups = Groups::of(network);
    for (index, parameter) in network.parameters().iter().enumerate() {
        if parameter.path.contains("running_") {
            continue;
        }
        let data = network.parameter_data_at(index).unwrap().clone().convert::<f64>().try_into_vec::<f64>().unwrap();
        for axis in network.flow().parameter(index) {
            let inner: usize = parameter.shape[axis.axis + 1..].iter().product();
            for (at, value) in data.iter().enumerate() {
                let channel = axis.channels[at / inner % parameter.shape[axis.axis]];
                for atom in network.flow().atoms(channel) {
                    if groups.channels.get(&atom).is_some_and(|channel| channel.pinned.is_none()) {
                        all.entry(atom).or_default().push(*value);
                    }
                }
            }
        }
    }
    all
}

fn squares(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum()
}

fn close(found: Tensor<1>, expected: f64) -> bool {
    let found = found.into_scalar::<f32>() as f64;
    (found - expected).abs() <= 1e-4 * expected.abs() + 1e-7
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn penalties_are_the_sums_over_channels(spec in specs(), strength in 0.01..2.0_f64) {
        let device = Device::flex();
        let net = Net::new(spec, &device);
        let x = net.input(2, &device);
        let network = Network::capture(&net, &x).unwrap();
        let weights = weights(&network);

        let lasso: f64 = weights.values().map(|values| (values.len() as f64).sqrt() * squares(values).sqrt()).sum();
        let regularizer = Regularizer::group_lasso(&network, strength).unwrap();
        prop_assert!(close(regularizer.penalty(&net).unwrap(), strength * lasso));

        let plan = Planner::new().budget(Budget::PerLayer(0.5)).plan(&network, None, &Magnitude::l2()).unwrap();
        let of: f64 = plan.channels.iter().filter_map(|channel| weights.get(channel)).map(|values| squares(values)).sum();
        let mut growing = Regularizer::growing(&network, &plan, strength).unwrap();
        prop_assert!(close(growing.penalty(&net).unwrap(), strength * of / 2.0));
        growing.grow();
        growing.grow();
        prop_assert!(close(growing.penalty(&net).unwrap(), 3.0 * strength * of / 2.0));

        let slimming = Regularizer::batch_norm_scale(&network, strength).unwrap();
        let gammas = network.batch_norms().iter().flat_map(|norm| {
            let data = network.parameter_data_at(norm.gamma).unwrap().clone().convert::<f64>().try_into_vec::<f64>().unwrap();
            let channels = &network.flow().parameter(norm.gamma)[0].channels;
            let free = data.into_iter().zip(channels.clone()).filter(|(_, channel)| weights.contains_key(channel));
            free.map(|(value, _)| value.abs()).collect::<Vec<f64>>()
        }).sum::<f64>();
        prop_assert!(close(slimming.penalty(&net).unwrap(), strength * gammas));
    }
}

#[test]
fn growing_penalties_make_a_cut_harmless() {
    let device = Device::flex();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let spec = loop {
        let spec = specs().new_tree(&mut runner).unwrap().current();
        if spec.blocks.len() >= 3 && spec.blocks.iter().all(|block| block.filters >= 3) {
            break spec;
        }
    };
    let net = Net::new(spec, &device);
    let x = net.input(4, &device);
    let network = Network::capture(&net, &x).unwrap();
    let plan = Planner::new().budget(Budget::PerLayer(0.4)).plan(&network, None, &Magnitude::l2()).unwrap();
    assert!(!plan.channels.is_empty());
    let mut regularizer = Regularizer::growing(&network, &plan, 0.05).unwrap();
    let before = regularizer.penalty(&net).unwrap().into_scalar::<f32>();
    let mut model = net.clone().train();
    let mut optimizer = SgdConfig::new().init();
    for _ in 0..60 {
        let gradients = regularizer.penalty(&model).unwrap().backward();
        let gradients = GradientsParams::from_grads(gradients, &model);
        model = optimizer.step(0.1, model, gradients);
        regularizer.grow();
    }
    let model = model.valid();
    let after = Regularizer::growing(&network, &plan, 0.05).unwrap().penalty(&model).unwrap().into_scalar::<f32>();
    assert!(after < 1e-6 * before, "{before} became {after}");
    // What the plan removes is zero by now, and nothing else has changed.
    let smaller = plan.apply(&model).unwrap();
    let off = common::difference(smaller.run(x.clone()), plan.zeroed(&net).unwrap().run(x));
    assert!(off < 1e-3, "off by {off}");
}

#[test]
fn another_model_and_a_negative_strength_are_refused() {
    let device = Device::flex();
    let net = |blocks: &[usize]| {
        let blocks = blocks.iter().map(|&filters| plain_block(filters)).collect();
        let spec = Spec { blocks, one_dimensional: false, global_pool: true, hidden: None, fc_bias: true, seed: 1 };
        Net::new(spec, &device)
    };
    let first = net(&[4, 4]);
    let network = Network::capture(&first, &first.input(2, &device)).unwrap();
    assert!(matches!(Regularizer::group_lasso(&network, -1.0), Err(PruneError::Config(_))));
    assert!(matches!(Regularizer::batch_norm_scale(&network, f64::NAN), Err(PruneError::Config(_))));
    let regularizer = Regularizer::group_lasso(&network, 1.0).unwrap();
    assert!(regularizer.penalty(&first).is_ok());
    for other in [net(&[5, 4]), net(&[4])] {
        assert!(matches!(regularizer.penalty(&other), Err(PruneError::ModelMismatch { .. })));
    }
}
