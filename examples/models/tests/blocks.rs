//! Whole residual blocks of the networks, left out in one budget with channels.

use std::collections::BTreeMap;

use burn::tensor::Device;
use burn_sfp::prelude::*;
use models::random::randomise;
use models::values::{difference, values};
use models::zoo::{Entry, Size, Visit, visit_all};

/// For each network the blocks that can go, and how many went.
#[derive(Default)]
struct Blocks(BTreeMap<&'static str, (usize, usize)>);

impl Visit for Blocks {
    fn visit<M: GraphModule>(&mut self, entry: &Entry, model: M, input: M::Inputs) {
        let model = randomise(&model, 1);
        let network = Network::capture(&model, &input).unwrap();
        let free: Vec<&str> =
            network.blocks().iter().filter(|block| block.not_removable.is_none()).map(|block| block.path()).collect();
        // Every other block is worth little.
        let worth = |(index, path): (usize, &&str)| (path.to_string(), if index % 2 == 0 { 0.05 } else { 2.0 });
        let scores: BTreeMap<String, f64> = free.iter().enumerate().map(worth).collect();
        let policy = Magnitude::l2().with_blocks(BlockScore::Given(scores));
        let planner = Planner::new().budget(Keep::macs(0.6)).bias_correction(BiasCorrection::Off);
        let gone = match planner.prune(&model, &input, &policy) {
            Ok(smaller) => {
                let zeroed = smaller.plan.zeroed(&model).unwrap();
                let off = difference(&values(smaller.model.run(input.clone())), &values(zeroed.run(input.clone())));
                assert!(off < 1e-4, "{}: off by {off}", entry.name);
                for block in &smaller.plan.kept_blocks {
                    println!("{}: {} stays: {}", entry.name, block.path, block.reason);
                }
                smaller.plan.blocks.len()
            }
            Err(error @ PruneError::BudgetNotMet { .. }) => {
                println!("{}: {error}", entry.name);
                0
            }
            Err(error) => panic!("{}: {error}", entry.name),
        };
        self.0.insert(entry.name, (free.len(), gone));
    }
}

#[test]
fn blocks_of_all_networks_go() {
    let mut blocks = Blocks::default();
    visit_all(Size::Small, &Device::flex(), &mut blocks);
    for (name, (free, gone)) in &blocks.0 {
        println!("{name}: {gone} of {free} blocks");
    }
    let of = |name: &str| blocks.0[name];
    assert_eq!(of("ResNet-18").0, 5);
    assert_eq!(of("ResNet-50").0, 12);
    assert_eq!(of("VGG-11"), (0, 0));
    let with = blocks.0.values().filter(|(_, gone)| *gone > 0).count();
    assert!(with >= 6, "{:?}", blocks.0);
}
