//! Policies made of policies: scores, layers that only one of them scores, keep masks, names, errors.

use std::collections::BTreeMap;

use burn_sfp_core::AnalyzeConfig;
use burn_sfp_graph::Network;
use burn_sfp_prune::{
    Afcc, Budget, Connections, GeometricMedian, LabelCover, Lamp, Magnitude, Normalizer, Planner, PolicyExt,
    PruneError, Random, RankAverage, RankingPolicy, SfpRanking, WeightedSum,
};
use rand::RngExt;

use crate::small::{Small, analysed};
use crate::support::*;

/// Two policies with random scores: both score `stem` and `block`, the first alone `inner`, and the second alone nothing of it.
fn two(seed: u64) -> (Given, Given) {
    let mut rng = rng(seed);
    let mut draw = |count: usize| -> Vec<f64> { (0..count).map(|_| f64::from(rng.random_range(1..20))).collect() };
    let (stem, block, inner) = (draw(8), draw(8), draw(6));
    let first = Given::new("first", &[("stem", &stem), ("block", &block), ("inner", &inner)]);
    let (stem, block) = (draw(8), draw(8));
    (first, Given::new("second", &[("stem", &stem), ("block", &block)]))
}

fn mean(scores: &[f64]) -> f64 {
    scores.iter().sum::<f64>() / scores.len() as f64
}

/// The mean rank of each score, counted from 1, less one half, over the number of scores.
fn ranks(scores: &[f64]) -> Vec<f64> {
    let of = |s: &f64| {
        let lower = scores.iter().filter(|other| *other < s).count() as f64;
        let equal = scores.iter().filter(|other| *other == s).count() as f64;
        (lower + equal / 2.0) / scores.len() as f64
    };
    scores.iter().map(of).collect()
}

fn zip(a: &[f64], b: &[f64], f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| f(*a, *b)).collect()
}

fn paths<T>(of: &BTreeMap<String, T>) -> Vec<&str> {
    of.keys().map(String::as_str).collect()
}

#[test]
fn products_sums_and_mean_ranks() {
    let network = Residual::new().network();
    for seed in 0..20 {
        let (a, b) = two(seed);
        let third = Magnitude::l1();
        let product = rank(&(&a).times(&b).times(third), &network);
        let sum = rank(&(&a).plus(0.3, &b).plus(-0.2, third), &network);
        let average = rank(&(&a).rank_average(&b).rank_average(third), &network);
        let c = rank(&third, &network).filters;
        for found in [&product, &sum, &average] {
            // The second policy does not score `inner`, so nothing of it leaves.
            assert_eq!(paths(&found.filters), ["block", "stem"]);
            assert_eq!(found.normalizer, None);
        }
        for path in ["stem", "block"] {
            let (a, b, c) = (&a.ranking.filters[path], &b.ranking.filters[path], &c[path]);
            let (ma, mb, mc) = (mean(a), mean(b), mean(c));
            all_near(&product.filters, path, &zip(&zip(a, b, |a, b| a / ma * b / mb), c, |ab, c| ab * c / mc));
            let two = zip(a, b, |a, b| a / ma + 0.3 * b / mb);
            all_near(&sum.filters, path, &zip(&two, c, |ab, c| ab - 0.2 * c / mc));
            let two = zip(&ranks(a), &ranks(b), |a, b| a + b);
            all_near(&average.filters, path, &zip(&two, &ranks(c), |ab, c| (ab + c) / 3.0));
        }
    }
}

#[test]
fn fallback_ranks_what_the_first_does_not() {
    let network = Residual::new().network();
    let (a, b) = two(1);
    let found = rank(&(&b).or(&a), &network);
    assert_eq!(paths(&found.filters), ["block", "inner", "stem"]);
    for (path, of) in [("stem", &b), ("block", &b), ("inner", &a)] {
        assert_eq!(found.filters[path], of.ranking.filters[path]);
    }
    assert_eq!(found.normalizer, None);
    // Where the policies compare layers in different ways, each does so for its own.
    let raw = b.clone().with_normalizer(Normalizer::None);
    let found = rank(&(&raw).or(&a), &network);
    assert_eq!(found.normalizer, Some(Normalizer::None));
    assert_eq!(found.filters["stem"], b.ranking.filters["stem"]);
    let inner = &a.ranking.filters["inner"];
    all_near(&found.filters, "inner", &inner.iter().map(|score| score / mean(inner)).collect::<Vec<_>>());
    let both = rank(&(&raw).or(a.clone().with_normalizer(Normalizer::None)), &network);
    assert_eq!((both.normalizer, &both.filters["inner"]), (Some(Normalizer::None), inner));
    // A layer that neither scores keeps its filters.
    let (stem, block) = (Given::new("stem", &[("stem", &[1.; 8])]), Given::new("block", &[("block", &[1.; 8])]));
    let plan = Planner::new().plan(&network, None, &stem.or(block)).unwrap();
    assert_eq!((kept(&plan, "stem", 8).len(), kept(&plan, "inner", 6).len()), (4, 6));
}

#[test]
fn the_keepers_lowest_go_first_and_the_chooser_orders_the_rest() {
    let network = Residual::new().network();
    for seed in 0..20 {
        let (a, b) = two(seed);
        let share = [0.0, 0.3, 0.5, 1.0][seed as usize % 4];
        let found = rank(&(&a).within(&b, share), &network);
        assert_eq!(found.normalizer, Some(Normalizer::None));
        let over_mean = |path: &str| zip(&a.ranking.filters[path], &[mean(&a.ranking.filters[path]); 8], |s, m| s / m);
        // Only the chooser scores `inner`, which is ranked by it alone.
        all_near(&found.filters, "inner", &over_mean("inner"));
        for path in ["stem", "block"] {
            let (scores, keeper) = (&found.filters[path], &b.ranking.filters[path]);
            let mut order: Vec<usize> = (0..8).collect();
            order.sort_by(|&a, &b| keeper[a].total_cmp(&keeper[b]).then(a.cmp(&b)));
            let (out, left) = order.split_at((share * 8.0).round() as usize);
            let chosen = over_mean(path);
            assert!(left.iter().all(|&filter| near(scores[filter], chosen[filter])));
            let lowest = found.filters.values().flatten().copied().filter(|s| *s >= 0.0).fold(f64::MAX, f64::min);
            for pair in out.windows(2) {
                assert!(scores[pair[0]] <= scores[pair[1]]);
                assert_eq!(scores[pair[0]] == scores[pair[1]], keeper[pair[0]] == keeper[pair[1]]);
            }
            assert!(out.iter().all(|&filter| scores[filter] < lowest.min(0.0) - 0.5));
        }
        // Only the keeper scores `inner` here, and nothing of it leaves.
        assert_eq!(paths(&rank(&(&b).within(&a, share), &network).filters), ["block", "stem"]);
    }
}

#[test]
fn what_the_keeper_refuses_leaves_before_all_else_in_the_network() {
    let network = Residual::new().network();
    let keeper = Given::new("keeper", &[("inner", &[1., 9., 2., 9., 9., 9.])]);
    let chooser =
        Given::new("chooser", &[("stem", &[1.; 8]), ("block", &[1.; 8]), ("inner", &[9., 1., 9., 1., 1., 1.])]);
    let policy = chooser.within(keeper, 0.3);
    let plan = Planner::new().budget(Budget::Global(0.15)).plan(&network, None, &policy).unwrap();
    assert_eq!(kept(&plan, "inner", 6), [1, 3, 4, 5]);
    assert_eq!(kept(&plan, "stem", 8).len(), 8);
}

#[test]
fn keep_masks() {
    let network = Residual::new().network();
    let mask = |keep: fn(usize, usize) -> bool| Connections::from_fn(6, 8, keep);
    let square = || Connections::from_fn(8, 8, |output, input| output != input);
    let (a, b) = two(3);
    let a = a.with_mask("inner", mask(|output, _| output != 1)).with_mask("block", square());
    let b = b.with_mask("inner", mask(|_, input| input % 2 == 0));
    let both = mask(|output, input| output != 1 && input % 2 == 0);
    let joined: [Box<dyn RankingPolicy + '_>; 4] = [
        Box::new((&a).times(&b)),
        Box::new((&a).plus(1.0, &b)),
        Box::new((&a).rank_average(&b)),
        Box::new((&a).within(&b, 0.5)),
    ];
    for policy in &joined {
        let found = rank(policy, &network).connections;
        assert_eq!(paths(&found), ["block", "inner"], "{}", policy.name());
        assert_eq!((&found["inner"], &found["block"]), (&both, &square()));
    }
    let found = rank(&(&b).or(&a), &network).connections;
    assert_eq!((&found["inner"], &found["block"]), (&b.ranking.connections["inner"], &square()));
}

#[test]
fn names_say_how_policies_are_combined() {
    let (a, b) = two(1);
    let policy = (&a).plus(0.3, &b).times(&a);
    assert_eq!(policy.name(), "(first + 0.3 second) * first");
    assert_eq!(
        (&a).or(&b).within(Magnitude::l1(), 0.25).name(),
        "(first or second) within magnitude-l1 without its lowest 0.25"
    );
    assert_eq!(RankAverage::new(&a, (&a).times(&b)).name(), "mean rank of first, (first * second)");
    assert_eq!(WeightedSum::new(2.0, &a).plus(1.0, &b).name(), "2 first + second");
    assert_eq!(format!("{:?}", (&a).times(&b)), "Product([first, second])");
}

#[test]
fn mistakes_of_parts_are_named() {
    let network = Residual::new().network();
    let (a, _) = two(1);
    let refused = |policy: &dyn RankingPolicy| try_rank(policy, &network, None).unwrap_err();
    let nan = Given::new("broken", &[("stem", &[f64::NAN; 8])]);
    let short = Given::new("broken", &[("block", &[1.0; 7])]);
    let unknown = Given::new("broken", &[("stm", &[1.0; 8])]);
    let mask = Given::new("broken", &[]).with_mask("inner", Connections::from_fn(6, 6, |_, _| true));
    for broken in [&nan, &short, &mask] {
        let all: [Box<dyn RankingPolicy + '_>; 5] = [
            Box::new((&a).times(broken)),
            Box::new((&a).plus(1.0, broken)),
            Box::new((&a).rank_average(broken)),
            Box::new((&a).or(broken)),
            Box::new((&a).within(broken, 0.5)),
        ];
        for policy in all {
            let error = refused(&policy);
            assert!(matches!(&error, PruneError::BadRanking { policy, .. } if policy == "broken"), "{error}");
        }
    }
    assert!(matches!(refused(&(&a).times(&unknown)), PruneError::Graph(_)));
    for share in [-0.1, 1.1, f64::NAN] {
        let error = refused(&(&a).within(&a, share)).to_string();
        assert!(error.starts_with("share of what is kept out is ") && error.ends_with("between 0 and 1"), "{error}");
    }
    for weight in [f64::NAN, f64::INFINITY] {
        assert!(matches!(refused(&(&a).plus(weight, &a)), PruneError::Config(_)));
    }
}

#[test]
fn scores_stay_finite() {
    let network = Residual::new().network();
    let wild: &[f64] = &[f64::MAX, f64::MIN, 0.0, -0.0, 5e-324, 1e308, -1e308, 1.0];
    let a = Given::new("wild", &[("stem", wild), ("block", &[0.0; 8])]);
    let raw = a.clone().with_normalizer(Normalizer::None);
    let all: [Box<dyn RankingPolicy + '_>; 6] = [
        Box::new((&a).times(&a).times(&a)),
        Box::new((&a).plus(f64::MAX, &a).plus(f64::MIN, &a)),
        Box::new((&a).rank_average(&a)),
        Box::new((&raw).or(&a)),
        Box::new((&raw).within(&a, 0.5)),
        Box::new((&a).within(&raw, 1.0)),
    ];
    for policy in all {
        let scores = rank(&policy, &network).filters;
        assert!(scores.values().flatten().all(|score| score.is_finite()), "{}: {scores:?}", policy.name());
        assert!(Planner::new().plan(&network, None, &policy).is_ok());
    }
}

#[test]
fn policies_of_the_library_combine_and_prune() {
    let model = Small::new(3, true);
    let (network, analysis): (Network, _) = analysed(&model, &AnalyzeConfig::new());
    let boxed: Box<dyn RankingPolicy> = Box::new(SfpRanking::new().plus(0.5, GeometricMedian::new()));
    let policy = boxed.or(Lamp::new()).within(LabelCover::new(1), 0.25).times(Random::new(3));
    let plan = Planner::new().plan(&network, &analysis, &policy).unwrap();
    assert_eq!((kept(&plan, "first", 8).len(), plan.masks.len()), (4, 0));
    // Masks of AFCC and the filters of another policy.
    let policy = Afcc::new().or(SfpRanking::new());
    let ranking = try_rank(&policy, &network, Some(&analysis)).unwrap();
    assert_eq!((paths(&ranking.filters), ranking.connections.is_empty()), (vec!["first", "second"], false));
}
