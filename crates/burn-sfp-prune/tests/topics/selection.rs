//! Which filters may be removed, in which order, and when it is enough: excluded layers, stop rules, layers without scores.

use burn::module::Module;
use burn::nn::Linear;
use burn::store::PathFilter;
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn_sfp_core::{AnalyzeConfig, NoProgress, TensorCalibration, analyze_network};
use burn_sfp_graph::GraphError;
use burn_sfp_nn::ConfigError;
use burn_sfp_prune::{
    Afcc, BiasCorrection, Budget, Magnitude, Planner, PolicyContext, PruneError, Pruner, Ranking, RankingPolicy,
    RemovalOrder, RemovalState, StopRule,
};

use crate::support::*;

/// `side` is added to what `stem` produces; `inner` is tied to nothing.
#[derive(Module, Debug)]
struct Residual {
    stem: Linear,
    blocks: Vec<Linear>,
    inner: Linear,
    fc: Linear,
}

graph!(Residual: Tensor<2> => Tensor<2>, |net, x| {
    let x = relu(net.stem.forward(x));
    let x = relu(x.clone() + net.blocks[0].forward(x));
    let x = relu(x.clone() + net.blocks[1].forward(x));
    net.fc.forward(relu(net.inner.forward(x)))
});

fn residual() -> (Residual, Tensor<2>) {
    let net = Residual {
        stem: linear(4, 8),
        blocks: vec![linear(8, 8), linear(8, 8)],
        inner: linear(8, 6),
        fc: linear(6, 3),
    };
    (random(net), input([9, 4]))
}

/// Filters of each layer but the last.
fn widths(net: &Residual) -> [usize; 4] {
    let width = |layer: &Linear| layer.weight.dims()[1];
    [width(&net.stem), width(&net.blocks[0]), width(&net.blocks[1]), width(&net.inner)]
}

#[test]
fn excluded_layers_keep_their_filters_and_those_tied_to_them() {
    let (net, x) = residual();
    let magnitude = Magnitude::l2();
    let pruned = |planner: Planner| prune_with(&net, &x, &planner, &magnitude).unwrap();
    assert_eq!(widths(&pruned(Planner::new()).model), [4, 4, 4, 3]);
    assert!(pruned(Planner::new()).plan.unpruned.iter().all(|layer| layer.path == "fc"));
    for planner in [
        Planner::new().exclude(["blocks.1"]),
        Planner::new().exclude(["blocks"]),
        Planner::new().exclude_where(|path| path.starts_with("blocks")),
        Planner::new().budget(Budget::Global(0.25)).exclude(["blocks.0"]),
    ] {
        let smaller = pruned(planner.clone());
        assert_eq!(widths(&smaller.model)[..3], [8, 8, 8], "{planner:?}");
        assert!(widths(&smaller.model)[3] < 6);
        let reasons: Vec<&str> = smaller.plan.unpruned.iter().map(|layer| layer.reason.as_str()).collect();
        assert_eq!(smaller.plan.unpruned[0].path, "stem");
        assert!(reasons[0].starts_with("its filters are tied to those of `blocks."), "{reasons:?}");
        assert!(reasons.contains(&"it is excluded"));
    }
    let regex = PathFilter::new().with_regex("^inner$");
    let smaller = pruned(Planner::new().exclude_where(move |path| regex.matches(path)));
    assert_eq!(widths(&smaller.model), [4, 4, 4, 6]);
    holds(smaller.plan.summary(), &["inner keeps its filters: it is excluded"]);
    // An excluded layer is no reason to refuse what is left.
    let smaller = pruned(Planner::new().exclude(["stem", "inner"]));
    assert_eq!(widths(&smaller.model), [8, 8, 8, 6]);
}

#[test]
fn excluded_layers_keep_their_connections() {
    let (net, x) = residual();
    let data = TensorCalibration::new(x, vec![0, 1, 2, 0, 1, 2, 0, 1, 2], 9);
    let (network, analysis) = analyze_network(&net, &data, &AnalyzeConfig::new(), &NoProgress).unwrap();
    let planner = Planner::new().keep_empty(true);
    let plan = planner.plan(&network, &analysis, &Afcc::new()).unwrap();
    assert!(plan.masks.iter().any(|mask| mask.layer == "inner"));
    let plan = planner.exclude(["inner"]).plan(&network, &analysis, &Afcc::new()).unwrap();
    assert!(!plan.masks.is_empty() && plan.masks.iter().all(|mask| mask.layer != "inner"));
    let pruned = Pruner::new(&data).policy(Magnitude::l2()).exclude(["inner"]).analyze_and_prune(&net).unwrap();
    assert_eq!(widths(&pruned.model), [4, 4, 4, 6]);
    let pruned = Pruner::new(&data).policy(Magnitude::l2()).exclude_where(|path| path == "stem");
    assert_eq!(widths(&pruned.analyze_and_prune(&net).unwrap().model), [8, 8, 8, 3]);
}

#[test]
fn exclusions_that_match_nothing() {
    let (net, x) = residual();
    let refused = |planner: Planner| prune_with(&net, &x, &planner, &Magnitude::l2()).unwrap_err();
    for path in ["block", "blocks.2", "stem.weight"] {
        let error = refused(Planner::new().exclude([path]));
        assert!(matches!(&error, PruneError::Graph(GraphError::UnknownLayer { path: found, .. }) if found == path));
        holds(error, &[&format!("`{path}`"), "stem, blocks.0, blocks.1, inner, fc"]);
    }
    let error = refused(Planner::new().exclude_where(|path| path == "side"));
    assert!(matches!(error, PruneError::NothingExcluded { .. }));
    holds(error, &["exclude_where", "stem, blocks.0, blocks.1, inner, fc"]);
}

#[test]
fn layers_without_scores_keep_their_filters() {
    let (net, x) = residual();
    for budget in [Budget::PerLayer(0.5), Budget::Global(0.4)] {
        let planner = Planner::new().budget(budget);
        let smaller = prune_with(&net, &x, &planner, &AllBut("blocks.0")).unwrap();
        assert_eq!(widths(&smaller.model)[..3], [8, 8, 8]);
        assert!(widths(&smaller.model)[3] < 6);
        let smaller = prune_with(&net, &x, &planner, &AllBut("inner")).unwrap();
        assert_eq!(widths(&smaller.model)[3], 6);
        assert!(widths(&smaller.model)[0] < 8);
    }
}

/// Removes channels until at most this share of the parameters or multiply-adds is left.
#[derive(Clone, Copy)]
struct AtMost {
    share: f64,
    parameters: bool,
}

impl AtMost {
    fn left(self, state: &RemovalState<'_>) -> f64 {
        if self.parameters {
            let whole: usize = state.network().parameters().iter().map(|p| p.shape.iter().product::<usize>()).sum();
            state.parameters() as f64 / whole as f64
        } else {
            state.macs() as f64 / state.network().macs() as f64
        }
    }
}

impl StopRule for AtMost {
    fn name(&self) -> String {
        format!("at most {} of the cost", self.share)
    }
    fn check(&self) -> Result<(), PruneError> {
        if self.share <= 0.0 {
            return Err(ConfigError { name: "share", found: self.share.to_string(), expected: "above 0" }.into());
        }
        Ok(())
    }
    fn stop(&self, state: &RemovalState<'_>) -> Result<bool, PruneError> {
        assert_eq!(state.removed(), state.removed_channels().len());
        assert!(state.candidates() <= state.channels());
        Ok(self.left(state) <= self.share)
    }
    fn exhausted(&self, state: &RemovalState<'_>) -> Result<(), PruneError> {
        Err(PruneError::policy(self.name(), format!("{} is left", self.left(state))))
    }
}

#[test]
fn stop_rules_of_ones_own() {
    let (net, x) = residual();
    let whole = prune(&net, &x, 0.0).plan;
    for parameters in [true, false] {
        for share in [0.9, 0.5, 0.3] {
            let rule = AtMost { share, parameters };
            let smaller = prune_with(&net, &x, &Planner::new().budget(rule), &Magnitude::l2()).unwrap();
            let cost = |plan: &burn_sfp_prune::PrunePlan| {
                (if parameters { plan.parameters_after } else { plan.macs_after }) as f64
            };
            assert!(cost(&smaller.plan) <= share * cost(&whole));
            assert!(cost(&smaller.plan) > (share - 0.3) * cost(&whole), "far more is removed than asked for");
        }
        let planner = Planner::new().budget(AtMost { share: 0.001, parameters });
        let error = prune_with(&net, &x, &planner, &Magnitude::l2()).unwrap_err();
        assert!(
            matches!(&error, PruneError::Policy { policy, .. } if policy == "at most 0.001 of the cost"),
            "{error}"
        );
        holds(error, &["is left"]);
        let planner = Planner::new().budget(AtMost { share: 0.0, parameters });
        let error = prune_with(&net, &x, &planner, &Magnitude::l2()).unwrap_err();
        assert!(matches!(error, PruneError::Config(ConfigError { name: "share", .. })));
    }
}

/// Leaves a multiple of four channels of each group.
struct MultipleOfFour;

impl StopRule for MultipleOfFour {
    fn name(&self) -> String {
        "a multiple of four".into()
    }
    fn order(&self) -> RemovalOrder {
        RemovalOrder::PerGroup
    }
    fn stop(&self, state: &RemovalState<'_>) -> Result<bool, PruneError> {
        Ok((state.channels() - state.removed()).is_multiple_of(4))
    }
}

#[test]
fn a_stop_rule_for_each_group() {
    let (net, x) = residual();
    let planner = Planner::new().budget(MultipleOfFour).bias_correction(BiasCorrection::Off);
    assert_eq!(widths(&prune_with(&net, &x, &planner, &Magnitude::l2()).unwrap().model), [8, 8, 8, 4]);
    let shared = std::sync::Arc::new(MultipleOfFour);
    let again = Planner::new().budget(shared.clone()).bias_correction(BiasCorrection::Off);
    assert_eq!(widths(&prune_with(&net, &x, &again, &Magnitude::l2()).unwrap().model), [8, 8, 8, 4]);
}

#[test]
fn ratios_are_decimal_numbers() {
    #[derive(Module, Debug)]
    struct Wide {
        a: Linear,
        b: Linear,
    }
    graph!(Wide: Tensor<2> => Tensor<2>, |net, x| net.b.forward(relu(net.a.forward(x))));
    let net = random(Wide { a: linear(3, 100), b: linear(100, 2) });
    let x = input([2, 3]);
    for budget in [Budget::PerLayer(0.29), Budget::Global(0.29)] {
        let smaller = prune_with(&net, &x, &Planner::new().budget(budget), &Magnitude::l2()).unwrap();
        assert_eq!(smaller.model.a.weight.dims(), [3, 71]);
    }
}

/// An error type of a policy's own.
#[derive(Debug)]
struct NoMood(u8);

impl std::fmt::Display for NoMood {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "mood {} is too low", self.0)
    }
}

impl std::error::Error for NoMood {}

struct Moody;

impl RankingPolicy for Moody {
    fn name(&self) -> String {
        "moody".into()
    }
    fn rank(&self, _: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        Err(PruneError::policy(self.name(), NoMood(3)))
    }
}

#[test]
fn errors_of_policies_come_back_whole() {
    let (net, x) = residual();
    let error = prune_with(&net, &x, &Planner::new(), &Moody).unwrap_err();
    let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<NoMood>());
    assert_eq!(source.map(|mood| mood.0), Some(3));
    holds(error, &["moody: mood 3 is too low"]);
}
