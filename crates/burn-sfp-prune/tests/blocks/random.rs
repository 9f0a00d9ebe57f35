//! The smaller module computes what the original computes with the parameters of the blocks that are left out, and of the channels that are
//! removed, at zero: on 1,000 random networks without blocks, always the same ones. `GRAPHS=20000` draws that many others.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};
use burn_sfp_graph::{GraphModule, Network};
use burn_sfp_prune::{
    BiasCorrection, BlockScore, Keep, LayerRule, Planner, PolicyExt, PruneError, PrunedModule, Random, RemovalOrder,
    Unpruned,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use crate::net::{Net, specs};

/// Networks without a block.
const WANTED: usize = 1000;

#[derive(Clone, Debug)]
struct Cut {
    share: f64,
    by_cost: bool,
    order: RemovalOrder,
    correction: BiasCorrection,
    multiple: usize,
    /// What blocks are worth beside channels.
    worth: f64,
    seed: u64,
}

fn cuts() -> impl Strategy<Value = Cut> {
    let orders = vec![RemovalOrder::Global, RemovalOrder::EvenPerGroup, RemovalOrder::EvenPerClass];
    let corrections = vec![BiasCorrection::Off, BiasCorrection::Constants];
    (
        0.2..0.95,
        any::<bool>(),
        prop::sample::select(orders),
        prop::sample::select(corrections),
        prop_oneof![4 => Just(1_usize), 1 => Just(2)],
        0.1..2.0,
        any::<u64>(),
    )
        .prop_map(|(share, by_cost, order, correction, multiple, worth, seed)| Cut {
            share,
            by_cost,
            order,
            correction,
            multiple,
            worth,
            seed,
        })
}

/// Scores of all blocks, in a random order around a mean of their own.
pub fn scores(network: &Network, seed: u64, worth: f64) -> BTreeMap<String, f64> {
    let of = |(index, block): (usize, &burn_sfp_graph::Block)| {
        let random = (seed.rotate_left(index as u32 * 7) % 1000) as f64 / 1000.0;
        (block.path().to_string(), if index % 3 == 2 { 10.0 * worth } else { random * worth })
    };
    network.blocks().iter().filter(|block| block.not_removable.is_none()).enumerate().map(of).collect()
}

/// Largest difference over the largest value.
pub fn off<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> f64 {
    let scale = b.clone().abs().max().into_scalar::<f64>().max(1e-3);
    (a - b).abs().max().into_scalar::<f64>() / scale
}

/// Whether a module is what its plan says: exact, of the planned size, and verified by its own capture.
pub fn check_planned<M: GraphModule<Outputs = Tensor<2>>>(
    original: &M,
    x: &M::Inputs,
    smaller: &PrunedModule<M>,
) -> Result<(), TestCaseError> {
    let fail = |error: PruneError| TestCaseError::fail(error.to_string());
    let zeroed = smaller.plan.zeroed(original).map_err(fail)?;
    let off = off(smaller.model.run(x.clone()), zeroed.run(x.clone()));
    prop_assert!(off < 1e-4, "off by {}", off);
    let (whole, found) = (Network::capture(original, x), Network::capture(&smaller.model, x));
    let (whole, found) = (whole.expect("it was captured"), found.expect("it was checked"));
    prop_assert_eq!(found.macs(), smaller.plan.macs_after);
    let trained = found.parameters().iter().filter(|parameter| parameter.is_trained());
    let elements: usize = trained.map(|parameter| parameter.shape.iter().product::<usize>()).sum();
    prop_assert_eq!(elements as u64, smaller.plan.parameters_after);
    smaller.plan.verify(&whole, &found).map_err(fail)?;
    for parameter in whole.parameters() {
        let after = smaller.plan.path_after(&parameter.path);
        let there = after.as_ref().is_some_and(|path| found.parameters().iter().any(|found| found.path == *path));
        let gone = smaller.plan.blocks.iter().any(|block| block.holds(&parameter.path));
        prop_assert_eq!(there, !gone, "{} -> {:?}", &parameter.path, after);
    }
    Ok(())
}

#[test]
fn without_blocks_is_with_blocks_at_zero() {
    let wanted: Option<u32> = std::env::var("GRAPHS").ok().and_then(|text| text.parse().ok());
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = match wanted {
        Some(_) => TestRunner::new(config),
        None => TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[11; 32])),
    };
    let wanted = wanted.map_or(WANTED, |graphs| graphs as usize);
    let (mut without, mut both, mut left_out, mut unmet, mut drawn) = (0, 0, 0, 0, 0);
    let strategy = (specs(), cuts());
    while without < wanted {
        drawn += 1;
        assert!(drawn < 20 * wanted, "only {without} of {drawn} networks were without a block");
        let (spec, cut) = strategy.new_tree(&mut runner).expect("the strategy gives values").current();
        let device = Device::flex();
        let net = Net::new(&spec, &device);
        let x = net.input(2, &device);
        let network = Network::capture(&net, &x).expect("the network is captured");
        let removable = network.blocks().iter().filter(|block| block.not_removable.is_none()).count();
        let kinds = spec.stages.iter().flat_map(|(_, kinds)| kinds).chain(&spec.extra);
        assert_eq!(removable, kinds.filter(|kind| kind.can_go()).count(), "{spec:?}");
        let planner = Planner::new()
            .budget(Keep::macs(cut.share).order(cut.order).by_cost(cut.by_cost))
            .bias_correction(cut.correction)
            .layers(LayerRule::all().multiple_of(cut.multiple));
        let policy = Random::new(cut.seed).with_blocks(BlockScore::Given(scores(&network, cut.seed, cut.worth)));
        match planner.prune(&net, &x, &policy) {
            Ok(smaller) => {
                if let Err(error) = check_planned(&net, &x, &smaller) {
                    panic!("{error}\n{spec:?}\n{cut:?}\n{}", smaller.plan.summary());
                }
                let left = smaller.plan.macs_after as f64 / smaller.plan.macs_before as f64;
                assert!(left <= cut.share, "{left} of {}", cut.share);
                // A rectifier behind a sum belongs to its block, and changes a stream that may be negative: that shows when the module is tried.
                let is_told = |block: &Unpruned| block.reason.contains("stream") || block.reason.contains("(Relu)");
                assert!(smaller.plan.kept_blocks.iter().all(is_told), "{:?}", smaller.plan.kept_blocks);
                without += usize::from(!smaller.plan.blocks.is_empty());
                both += usize::from(!smaller.plan.blocks.is_empty() && !smaller.plan.cuts.is_empty());
                left_out += smaller.plan.blocks.len();
            }
            Err(PruneError::BudgetNotMet { .. }) => unmet += 1,
            Err(error) => panic!("{error}\n{spec:?}\n{cut:?}"),
        }
    }
    println!(
        "{drawn} networks: {without} without {left_out} blocks, {both} of them narrower too, {unmet} budgets not met"
    );
    assert!(both > wanted / 4);
}
