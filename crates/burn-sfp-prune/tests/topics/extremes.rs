//! Extreme scores, plans of other models handed to a policy, examples of an unusual kind.

use burn::module::Module;
use burn::nn::{BatchNorm, BatchNormConfig, Linear};
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn_sfp_graph::GraphError;
use burn_sfp_prune::{
    BiasCorrection, Budget, Magnitude, MagnitudeConnections, Planner, PolicyContext, PruneError, PrunePlan, Ranking,
    RankingPolicy,
};

use crate::support::*;

#[derive(Module, Debug)]
struct Mlp {
    a: Linear,
    norm: BatchNorm,
    b: Linear,
    c: Linear,
}

graph!(Mlp: Tensor<2> => Tensor<2>, |net, x| net.c.forward(relu(net.b.forward(relu(net.norm.forward(net.a.forward(x)))))));

fn mlp(hidden: usize) -> Mlp {
    let norm = BatchNormConfig::new(hidden).init(&device());
    random(Mlp { a: linear(4, hidden), norm, b: linear(hidden, 6), c: linear(6, 3) })
}

/// Fixed scores for `a`, and ordinary ones for `b`.
struct Scores(Vec<f64>);

impl RankingPolicy for Scores {
    fn name(&self) -> String {
        "scores".into()
    }
    fn rank(&self, _: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        let mut ranking = Ranking::default();
        ranking.filters.insert("a".into(), self.0.clone());
        ranking.filters.insert("b".into(), (0..6).map(f64::from).collect());
        Ok(ranking)
    }
}

#[test]
fn scores_keep_their_order() {
    let net = mlp(8);
    let x = input([2, 4]);
    for unit in [1.0, 1e307, f64::MAX / 8.0, 1e-307, f64::MIN_POSITIVE / 1e6, -1e307, -1.0] {
        // Filter 7 is the weakest, 0 the strongest.
        let scores: Vec<f64> = (0..8).map(|k| f64::from(if unit > 0.0 { 8 - k } else { k + 1 }) * unit).collect();
        for budget in [Budget::PerLayer(0.5), Budget::Global(0.25)] {
            let plan = prune_with(&net, &x, &Planner::new().budget(budget), &Scores(scores.clone())).unwrap().plan;
            let stay = kept(&plan, "a.weight", 1);
            assert_eq!(stay, (0..stay.len()).collect::<Vec<_>>(), "{unit:e}");
            assert!(stay.len() < 8);
        }
    }
    // Both ends at once.
    let scores = vec![1e307, -1e307, 1e300, 5.0, 1e-300, 0.0, -3.0, 1e306];
    let plan = prune_with(&net, &x, &Planner::new().budget(Budget::PerLayer(0.5)), &Scores(scores)).unwrap().plan;
    assert_eq!(gone_of(&plan, "a.weight", 1, 8)[0], 1);
    for broken in [f64::NAN, f64::INFINITY] {
        let mut scores = vec![1.0; 8];
        scores[3] = broken;
        let error = prune_with(&net, &x, &Planner::new(), &Scores(scores)).unwrap_err();
        holds(error, &["the score of filter 3 is"]);
    }
}

#[test]
fn like_the_plan_of_another_model() {
    let x = input([2, 4]);
    let policy = MagnitudeConnections::l1().removing(0.5);
    let made = |hidden| Planner::new().keep_empty(true).prune(&mlp(hidden), &x, &policy).unwrap().plan;
    let like = |plan: &PrunePlan, net: &Mlp| {
        Planner::new().keep_empty(true).prune(net, &x, &MagnitudeConnections::l2().like(plan))
    };
    assert!(!like(&made(8), &mlp(8)).unwrap().plan.masks.is_empty());
    let error = like(&made(12), &mlp(8)).unwrap_err();
    assert!(matches!(error, PruneError::ModelMismatch { .. }));
    holds(error, &["`like`", "`a.weight`", "[4, 12]", "[4, 8]"]);
    #[derive(Module, Debug)]
    struct Other {
        first: Linear,
        last: Linear,
    }
    graph!(Other: Tensor<2> => Tensor<2>, |net, x| net.last.forward(relu(net.first.forward(x))));
    let other = random(Other { first: linear(4, 8), last: linear(8, 3) });
    let error = Planner::new().prune(&other, &x, &MagnitudeConnections::l1().like(&made(8))).unwrap_err();
    holds(error, &["knows no `first.weight`"]);
}

#[test]
fn an_example_with_autodiff() {
    let net = mlp(8);
    let x = input([2, 4]);
    let plain = prune(&net, &x, 0.5);
    let planner = Planner::new().budget(Budget::PerLayer(0.5));
    for (net, x) in [
        (net.clone(), x.clone().autodiff()),
        (net.clone().train(), x.clone()),
        (net.clone().train(), x.clone().autodiff().require_grad()),
    ] {
        let made = planner.prune(&net, &x, &Magnitude::l2()).unwrap();
        assert_eq!(made.plan, plain.plan);
    }
}

/// Constants are those of a sample.
#[test]
fn an_example_without_samples() {
    let net = mlp(8);
    for correction in [BiasCorrection::Constants, BiasCorrection::Off] {
        let planner = Planner::new().budget(Budget::PerLayer(0.5)).bias_correction(correction);
        let error = planner.prune(&net, &input([0, 4]), &Magnitude::l2()).unwrap_err();
        assert!(matches!(&error, PruneError::Graph(GraphError::NoSamples { shape }) if *shape == [0, 4]), "{error}");
        holds(error, &["holds no sample"]);
    }
}
