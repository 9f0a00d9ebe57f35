//! Blocks that stay, each with its reason, and budgets that do not say what a block saves.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use burn_sfp_graph::{GraphError, GraphModule, Network};
use burn_sfp_nn::{Removable, Shrink};
use burn_sfp_prune::{BlockScore, Budget, Keep, Magnitude, Planner, PolicyExt, PruneError};

use crate::random::check_planned;

/// Runs as many blocks as it was built with, or all that it has, or always has a sum.
#[derive(Module, Debug, Shrink)]
struct Counted {
    first: Linear,
    blocks: Vec<Linear>,
    option: Option<Linear>,
    last: Linear,
    count: usize,
}

impl GraphModule for Counted {
    type Inputs = Tensor<2>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<2>) -> Tensor<2> {
        let mut x = self.first.forward(x);
        for k in 0..self.count {
            x = x.clone() + relu(self.blocks[k].forward(x));
        }
        if let Some(option) = &self.option {
            x = x.clone() + relu(option.forward(x));
        }
        self.last.forward(x)
    }
    fn shrinkable(&mut self) -> Option<&mut dyn Shrink> {
        Some(self)
    }
}

fn counted(device: &Device) -> Counted {
    let linear = |from, to| LinearConfig::new(from, to).init(device);
    Counted {
        first: linear(4, 12),
        blocks: (0..2).map(|_| linear(12, 12)).collect(),
        option: Some(linear(12, 12)),
        last: linear(12, 2),
        count: 2,
    }
}

fn given(paths: &[&str]) -> BlockScore {
    BlockScore::Given(paths.iter().enumerate().map(|(k, path)| (path.to_string(), 0.01 * (k + 1) as f64)).collect())
}

#[test]
fn what_the_module_does_not_follow_stays_and_is_named() {
    let device = Device::flex();
    let model = counted(&device);
    let x = Tensor::ones([2, 4], &device);
    let scores =
        [("option", 0.001), ("blocks.0", 0.002), ("blocks.1", 3.0)].map(|(path, score)| (path.to_string(), score));
    let policy = Magnitude::l2().with_blocks(BlockScore::Given(scores.into()));
    // Without the first two, 216 of 504 multiply-adds would be left; without the optional one, 216 by 9 of 12 channels.
    let planner = Planner::new().budget(Keep::macs(0.43));
    let smaller = planner.clone().prune(&model, &x, &policy).unwrap();
    let gone: Vec<&str> = smaller.plan.blocks.iter().map(|block| block.path.as_str()).collect();
    assert_eq!(gone, ["option"]);
    let stay: Vec<&str> = smaller.plan.kept_blocks.iter().map(|block| block.path.as_str()).collect();
    assert_eq!(stay, ["blocks.0"]);
    assert!(smaller.plan.kept_blocks[0].reason.contains("index out of bounds"), "{:?}", smaller.plan.kept_blocks);
    assert!(smaller.model.option.is_none() && smaller.model.blocks.len() == 2);
    check_planned(&model, &x, &smaller).unwrap();
    let summary = smaller.plan.summary().to_string();
    assert!(summary.contains("left out whole: option") && summary.contains("block blocks.0 stays: "), "{summary}");
    // A strict planner says so.
    assert!(planner.strict().prune(&model, &x, &policy).is_err());
}

#[test]
fn excluded_layers_keep_their_block() {
    let device = Device::flex();
    let model = counted(&device);
    let x = Tensor::ones([2, 4], &device);
    let policy = Magnitude::l2().with_blocks(given(&["option"]));
    let smaller = Planner::new().budget(Keep::macs(1.0)).exclude(["option"]).prune(&model, &x, &policy).unwrap();
    assert!(smaller.plan.blocks.is_empty());
    assert_eq!(smaller.plan.kept_blocks[0].reason, "layer `option` in it is excluded");
}

#[test]
fn errors_say_what_is_wrong() {
    let device = Device::flex();
    let model = counted(&device);
    let x = Tensor::ones([2, 4], &device);
    let prune = |planner: Planner, score| planner.prune(&model, &x, &Magnitude::l2().with_blocks(score));
    let error = prune(Planner::new().budget(Budget::Global(0.5)), given(&["option"])).unwrap_err();
    assert!(matches!(&error, PruneError::BlocksNeedCost { .. }) && error.to_string().contains("Keep"), "{error}");
    let error = prune(Planner::new().budget(Keep::macs(0.5)), given(&["first"])).unwrap_err();
    assert!(matches!(&error, PruneError::Graph(GraphError::UnknownBlock { path, .. }) if path == "first"), "{error}");
    let score = BlockScore::Given([("option".to_string(), f64::NAN)].into());
    let error = prune(Planner::new().budget(Keep::macs(0.5)), score).unwrap_err();
    assert!(matches!(&error, PruneError::BadRanking { .. }) && error.to_string().contains("NaN"), "{error}");
    let score = BlockScore::ReadoutGain;
    let error = prune(Planner::new().budget(Keep::macs(0.5)), score).unwrap_err();
    assert!(matches!(&error, PruneError::NeedsEvidence { .. }) && error.to_string().contains("streams"), "{error}");
    let network = Network::capture(&model, &x).unwrap();
    assert!(matches!(network.omit(["blocks"]), Err(GraphError::UnknownBlock { .. })));
}

#[test]
fn plans_with_other_blocks_are_refused() {
    let device = Device::flex();
    let model = counted(&device);
    let x = Tensor::ones([2, 4], &device);
    let policy = Magnitude::l2().with_blocks(given(&["option"]));
    let plan = Planner::new().budget(Keep::macs(0.7)).prune(&model, &x, &policy).unwrap().plan;
    let part = |path: &str| Removable { path: path.into(), in_list: false };
    for (blocks, what) in [
        (vec![part("nothing")], "no parameter"),
        (vec![part("")], "no parameter"),
        (vec![part("option"), part("option")], "with `option`"),
        (vec![part("blocks"), part("blocks.0")], "with `blocks`"),
    ] {
        let mut other = plan.clone();
        other.blocks = blocks;
        let error = other.sealed().unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
    // A part that is there and does not go.
    let mut other = plan.clone();
    other.blocks = vec![part("first")];
    let error = other.sealed().unwrap().apply(&model).unwrap_err();
    assert!(matches!(&error, PruneError::BlockStays { path } if path == "first"), "{error}");
}
