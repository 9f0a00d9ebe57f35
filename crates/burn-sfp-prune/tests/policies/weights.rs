//! Policies by weights, and the random one.

use burn::module::Module;
use burn::nn::{BatchNorm, BatchNormConfig, Linear};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use burn_sfp_graph::{GraphModule, Network};
use burn_sfp_prune::{
    BatchNormScale, Budget, GeometricMedian, Lamp, Magnitude, Normalizer, Planner, PolicyExt, Random, RankingPolicy,
};

use crate::inspect::edited;
use crate::small::{Small, images};
use crate::support::*;

#[test]
fn batch_norm_scale_is_the_absolute_gamma_of_the_norm_behind() {
    for skip in [false, true] {
        let model = random(Small::new(3, skip), 4);
        let network = Network::capture(&model, &images(2).0).unwrap();
        let ranking = rank(&BatchNormScale::new(), &network);
        assert_eq!(ranking.filters.keys().collect::<Vec<_>>(), ["first", "second"]);
        for (layer, norm) in [("first", "norm"), ("second", "second_norm")] {
            let gamma: Vec<f64> = network.parameter_data(&format!("{norm}.gamma")).unwrap().iter::<f64>().collect();
            assert!(gamma.iter().any(|gamma| *gamma < 0.0));
            assert_eq!(ranking.filters[layer], gamma.iter().map(|gamma| gamma.abs()).collect::<Vec<_>>());
        }
    }
    let ranking = rank(&BatchNormScale::new(), &Kinds::new(1).network());
    assert_eq!(ranking.filters.keys().collect::<Vec<_>>(), ["first"]);
}

/// A normalisation behind linear layers: of nodes, and of tokens.
#[derive(Module, Debug)]
struct Nodes {
    tokens: Linear,
    over_tokens: BatchNorm,
    nodes: Linear,
    over_nodes: BatchNorm,
    fc: Linear,
}

impl GraphModule for Nodes {
    type Inputs = Tensor<3>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<3>) -> Tensor<2> {
        let x = relu(self.over_tokens.forward(self.tokens.forward(x)));
        let x = self.over_nodes.forward(self.nodes.forward(x.mean_dim(1).squeeze_dim::<2>(1)));
        self.fc.forward(relu(x))
    }
}

#[test]
fn batch_norm_scale_of_linear_layers_is_that_of_their_nodes() {
    let norm = || BatchNormConfig::new(5).init(&Device::flex());
    // As many tokens as nodes, so that the lengths alone say nothing.
    let model =
        Nodes { tokens: linear(4, 5), over_tokens: norm(), nodes: linear(5, 5), over_nodes: norm(), fc: linear(5, 2) };
    let network = Network::capture(&random(model, 6), &Tensor::zeros([3, 5, 4], &Device::flex())).unwrap();
    let tokens = network.layer("tokens").unwrap();
    assert!(tokens.running_mean.is_some() && tokens.not_prunable.is_none());
    let ranking = rank(&BatchNormScale::new(), &network);
    assert_eq!(ranking.filters.keys().collect::<Vec<_>>(), ["nodes"]);
}

#[test]
fn filters_with_the_smallest_scales_go_and_layers_without_a_norm_stay() {
    let model = random(Small::new(3, false), 4);
    let x = images(2).0;
    let smaller = Planner::new().prune(&model, &x, &BatchNormScale::new()).unwrap();
    let gamma: Vec<f32> = model.norm.gamma.val().into_data().iter().collect();
    let mut order: Vec<usize> = (0..gamma.len()).collect();
    order.sort_by(|&a, &b| gamma[a].abs().total_cmp(&gamma[b].abs()));
    let mut expected = order[4..].to_vec();
    expected.sort_unstable();
    assert_eq!(kept(&smaller.plan, "first", 8), expected);

    let x = Tensor::zeros([2, 2, 4, 4], &Device::flex());
    let smaller = Planner::new().prune(&Kinds::new(1), &x, &BatchNormScale::new()).unwrap();
    assert_eq!(kept(&smaller.plan, "up", 6).len(), 6);
    let with = BatchNormScale::new().or(Magnitude::l2());
    let smaller = Planner::new().prune(&Kinds::new(1), &x, &with).unwrap();
    // It feeds a convolution of two groups, so its filters leave in pairs: one of the three.
    assert_eq!(kept(&smaller.plan, "up", 6).len(), 4);
    assert_eq!(smaller.plan.policy, "batch-norm-scale or magnitude-l2");
}

#[test]
fn geometric_median_is_the_sum_of_distances() {
    for seed in 0..3 {
        let network = Kinds::new(seed).network();
        let ranking = rank(&GeometricMedian::new(), &network);
        let mut compared = 0;
        for layer in network.layers().iter().filter(|layer| layer.not_prunable.is_none()) {
            let weights = weights(&network, layer);
            let distance = |a: &Vec<f64>, b: &Vec<f64>| -> f64 {
                a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
            };
            let sum = |a| weights.iter().map(|b| distance(a, b)).sum();
            all_near(&ranking.filters, &layer.path, &weights.iter().map(sum).collect::<Vec<f64>>());
            compared += 1;
        }
        assert_eq!(compared, ranking.filters.len());
        for path in ["first", "grouped", "up", "up_grouped", "wide"] {
            assert!(ranking.filters.contains_key(path), "{path}");
        }
        // A filter alone cannot leave, so there is nothing to rank.
        assert!(!ranking.filters.contains_key("one"));
    }
}

#[test]
fn geometric_median_of_equal_filters_and_of_zeros() {
    let zero = edited(&Kinds::new(1), |_, _, values| values.fill(0.0)).network();
    for scores in rank(&GeometricMedian::new(), &zero).filters.values() {
        assert!(scores.iter().all(|score| *score == 0.0));
    }
    // Two equal filters and one far off: the latter has twice the distance.
    let net = edited(&Residual::new(), |path, _, values| {
        if path == "inner.weight" {
            (0..values.len()).for_each(|at| values[at] = if at % 6 == 5 { 3.0 } else { 1.0 });
        }
    });
    let distance = 32f64.sqrt();
    let found = rank(&GeometricMedian::new(), &net.network()).filters;
    all_near(&found, "inner", &[distance, distance, distance, distance, distance, 5.0 * distance]);
}

#[test]
fn scores_do_not_depend_on_the_number_of_threads() {
    let network = Kinds::new(5).network();
    let bits = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let found = pool.install(|| rank(&GeometricMedian::new(), &network));
        found.filters.into_values().flatten().map(f64::to_bits).collect::<Vec<u64>>()
    };
    assert_eq!(bits(1), bits(3));
    assert_eq!(bits(1), bits(7));
}

#[test]
fn lamp_is_the_square_over_the_squares_that_are_not_smaller() {
    let network = Kinds::new(2).network();
    let ranking = rank(&Lamp::new(), &network);
    assert_eq!(ranking.normalizer, Some(Normalizer::None));
    for layer in network.layers().iter().filter(|layer| layer.not_prunable.is_none()) {
        let squares: Vec<f64> =
            weights(&network, layer).iter().map(|weights| weights.iter().map(|w| w * w).sum()).collect();
        let lamp = |square: &f64| square / squares.iter().filter(|other| *other >= square).sum::<f64>();
        all_near(&ranking.filters, &layer.path, &squares.iter().map(lamp).collect::<Vec<f64>>());
    }
    let zero = edited(&Kinds::new(1), |_, _, values| values.fill(0.0)).network();
    assert!(rank(&Lamp::new(), &zero).filters.values().flatten().all(|score| *score == 0.0));
}

#[test]
fn lamp_scores_of_different_layers_are_compared_as_they_are() {
    // Layers in a chain, one with weights a hundred times as large.
    let net = edited(&Residual::new(), |path, _, values| {
        if path == "inner.weight" {
            values.iter_mut().for_each(|value| *value *= 100.0);
        }
    });
    let network = net.network();
    let plan = Planner::new().budget(Budget::Global(0.5)).plan(&network, None, &Lamp::new()).unwrap();
    let scores = rank(&Lamp::new(), &network).filters;
    let tied = (0..8).map(|k| ((scores["stem"][k] + scores["block"][k]) / 2.0, ("stem", k)));
    let mut all: Vec<(f64, (&str, usize))> = tied.chain((0..6).map(|k| (scores["inner"][k], ("inner", k)))).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let left = |path| {
        let mut left: Vec<usize> = all[7..].iter().filter(|(_, at)| at.0 == path).map(|(_, at)| at.1).collect();
        left.sort_unstable();
        left
    };
    assert_eq!((kept(&plan, "stem", 8), kept(&plan, "inner", 6)), (left("stem"), left("inner")));
}

#[test]
fn random_scores_depend_on_seed_and_path_alone() {
    let (large, small) = (Kinds::new(1).network(), Residual::new().network());
    let of = |seed, network: &Network| rank(&Random::new(seed), network).filters;
    assert_eq!(of(7, &large), of(7, &Kinds::new(2).network()));
    assert!(of(7, &large)["first"] != of(8, &large)["first"]);
    let all = of(7, &small);
    assert_eq!(all.keys().collect::<Vec<_>>(), ["block", "inner", "stem"]);
    assert!(all["stem"] != all["block"], "each layer has a stream of its own");
    let many: Vec<f64> = (0..400).flat_map(|seed| of(seed, &small).into_values().flatten()).collect();
    assert!(many.iter().all(|score| (0.0..1.0).contains(score)));
    let mean = many.iter().sum::<f64>() / many.len() as f64;
    assert!((mean - 0.5).abs() < 0.02, "{mean}");

    // Heads and nodes under the same paths as in a network with other layers.
    let net = Attentive::new(3, 2);
    let network = Network::capture(&net, &Tensor::zeros([2, 5, 4], &Device::flex())).unwrap();
    let scores = of(7, &network);
    assert_eq!(scores["attention"].len(), 3);
    let policy = Random::new(7);
    assert_eq!((policy.name().as_str(), scores["embed"].len()), ("random", 12));
}
