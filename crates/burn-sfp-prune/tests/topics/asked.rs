//! How much was asked of each group, how much went, and what holds the rest.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{GroupNorm, GroupNormConfig, Linear};
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn_sfp_graph::GraphModule;
use burn_sfp_nn::Shrink;
use burn_sfp_prune::{
    Budget, GroupPlan, Magnitude, Planner, PolicyContext, PruneError, PrunePlan, Ranking, RankingPolicy,
};

use crate::support::*;

/// The group whose first layer this is.
fn group<'a>(plan: &'a PrunePlan, layer: &str) -> &'a GroupPlan {
    plan.groups.iter().find(|group| group.layers[0] == layer).unwrap()
}

fn plan<M: GraphModule>(model: &M, x: &M::Inputs, budget: Budget) -> PrunePlan {
    prune_with(model, x, &Planner::new().budget(budget), &Magnitude::l2()).unwrap().plan
}

/// A grouped convolution: the filters of `a` can only leave one in every group at a time.
#[derive(Module, Debug, Shrink)]
struct Grouped {
    a: Conv2d,
    b: Conv2d,
    fc: Linear,
}

graph!(shrink Grouped: Tensor<4> => Tensor<2>, |net, x| net.fc.forward(mean(relu(net.b.forward(relu(net.a.forward(x)))))));

#[test]
fn filters_that_leave_in_sets() {
    let net = random(Grouped { a: conv(3, 16), b: grouped(16, 8, 8), fc: linear(8, 3) });
    let plan = plan(&net, &input([2, 3, 5, 5]), Budget::PerLayer(0.45));
    let a = group(&plan, "a");
    assert_eq!((a.filters, a.asked, a.removed), (16, Some(7), 0));
    assert_eq!(a.held.iter().map(|held| held.filters).sum::<usize>(), 16);
    holds(&a.held[0].reason, &["sets of 8", "tied by operation", "Conv2d"]);
    holds(
        plan.summary(),
        &["a: 7 of 16 filters asked for, 0 removed; 16 stay: they leave in sets of 8, tied by operation"],
    );
}

/// `keep` is added to `stem`.
#[derive(Module, Debug)]
struct Sum {
    stem: Linear,
    keep: Linear,
    fc: Linear,
}

graph!(Sum: Tensor<2> => Tensor<2>, |net, x| {
    let x = relu(net.stem.forward(x));
    net.fc.forward(relu(x.clone() + net.keep.forward(x)))
});

fn sum() -> (Sum, Tensor<2>) {
    (random(Sum { stem: linear(4, 8), keep: linear(8, 8), fc: linear(8, 3) }), input([5, 4]))
}

#[test]
fn a_layer_without_scores_keeps_the_whole_group() {
    let (net, x) = sum();
    for (left_out, scored) in [("keep", "stem"), ("stem", "keep")] {
        let plan = prune_with(&net, &x, &Planner::new(), &AllBut(left_out)).unwrap().plan;
        for path in ["stem", "keep"] {
            assert_eq!(plan.layer(path).unwrap().filters_after, 8, "{scored} has scores");
        }
        let found = group(&plan, "stem");
        assert_eq!((found.asked, found.removed, found.held.len()), (Some(4), 0, 1));
        let reason = format!("the policy gives `{left_out}` no scores; tied to `keep` by operation");
        holds(plan.summary(), &["stem, keep: 4 of 8 filters asked for, 0 removed; 8 stay", &reason, "(Add)"]);
    }
    // A policy that ranks neither asks nothing of them.
    struct Nothing;
    impl RankingPolicy for Nothing {
        fn name(&self) -> String {
            "nothing".into()
        }
        fn rank(&self, _: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
            Ok(Ranking::default())
        }
    }
    let plan = prune_with(&net, &x, &Planner::new(), &Nothing).unwrap().plan;
    assert!(plan.groups.iter().all(|group| group.asked.is_none() && group.held.is_empty()));
}

#[test]
fn a_share_below_one_filter_says_so() {
    let (net, x) = sum();
    let plan = plan(&net, &x, Budget::PerLayer(0.1));
    let found = group(&plan, "stem");
    assert_eq!((found.filters, found.asked, found.removed), (8, Some(0), 0));
    holds(plan.summary(), &["a ratio of 0.1 of 8 filters is less than one"]);
    let nothing = self::plan(&net, &x, Budget::PerLayer(0.0));
    assert!(nothing.groups.iter().all(|group| group.held.is_empty()));
}

#[test]
fn nothing_is_held_where_all_went_that_was_asked_for() {
    let (net, x) = sum();
    let plan = plan(&net, &x, Budget::PerLayer(0.5));
    let found = group(&plan, "stem");
    assert_eq!((found.layers.len(), found.asked, found.removed, found.held.len()), (2, Some(4), 4, 0));
    // All that can be asked for of eight filters.
    let most = self::plan(&net, &x, Budget::PerLayer(0.99));
    assert_eq!((group(&most, "stem").asked, group(&most, "stem").removed), (Some(7), 7));
}

/// The parts of a concatenation, normalised in groups that lie across it.
#[derive(Module, Debug, Shrink)]
struct Concat {
    a: Conv2d,
    b: Conv2d,
    norm: GroupNorm,
    fc: Linear,
}

graph!(shrink Concat: Tensor<4> => Tensor<2>, |net, x| {
    let joined = Tensor::cat(vec![net.a.forward(x.clone()), net.b.forward(x)], 1);
    net.fc.forward(mean(relu(net.norm.forward(joined))))
});

#[test]
fn every_group_says_what_holds_it() {
    let norm = GroupNormConfig::new(3, 12).init(&device());
    let net = random(Concat { a: conv(3, 6), b: conv(3, 6), norm, fc: linear(12, 3) });
    for ratio in [0.1, 0.3, 0.5, 0.8] {
        let plan = plan(&net, &input([2, 3, 5, 5]), Budget::PerLayer(ratio));
        let listed: Vec<&str> = plan.unpruned.iter().map(|layer| layer.path.as_str()).collect();
        for found in &plan.groups {
            let short = found.asked.is_some_and(|asked| found.removed < asked.max(1));
            assert_eq!(short, !found.held.is_empty(), "{found:?}");
            let told = found.layers.iter().all(|layer| listed.contains(&layer.as_str()));
            assert!(!short || told || plan.summary().to_string().contains(&found.held[0].reason), "{found:?}");
        }
    }
}

#[test]
fn a_global_budget_reports_what_has_to_stay() {
    let net = random(Concat {
        a: conv(3, 6),
        b: conv(3, 6),
        norm: GroupNormConfig::new(3, 12).init(&device()),
        fc: linear(12, 3),
    });
    let planner = Planner::new().budget(Budget::Global(0.3)).exclude(["b"]);
    let plan = prune_with(&net, &input([2, 3, 5, 5]), &planner, &Magnitude::l2()).unwrap().plan;
    assert!(plan.groups.iter().all(|group| group.asked.is_none()));
    let tied = plan.groups.iter().find(|group| group.layers == ["a", "b"]).unwrap();
    assert_eq!((tied.removed, tied.held.len(), tied.held[0].filters), (0, 1, tied.filters));
    holds(
        &tied.held[0].reason,
        &["its filters are tied to those of `b`, which is excluded; tied to `b` by operation 2 (Cat)"],
    );
}
