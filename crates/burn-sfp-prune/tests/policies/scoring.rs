//! Reductions and normalisers: which channels leave, against scores that are computed one by one.

use std::collections::BTreeSet;

use burn_sfp_core::TensorCalibration;
use burn_sfp_prune::{Budget, Normalizer, Planner, Pruner, Reduction};
use rand::RngExt;

use crate::support::*;

const NORMALIZERS: [Normalizer; 7] = [
    Normalizer::Mean,
    Normalizer::Sum,
    Normalizer::Max,
    Normalizer::Rank,
    Normalizer::Standard,
    Normalizer::None,
    Normalizer::Lamp,
];
const REDUCTIONS: [Reduction; 4] = [Reduction::Mean, Reduction::Sum, Reduction::Max, Reduction::First];

/// The nodes of `stem` and `inner` that stay when half of all channels go.
fn expected(normalizer: Normalizer, reduction: Reduction, scores: &Given) -> [Vec<usize>; 2] {
    let of = |path: &str| normalizer.apply(&scores.ranking.filters[path]);
    let (stem, block, inner) = (of("stem"), of("block"), of("inner"));
    let tied = |k: usize| match reduction {
        Reduction::Mean => (stem[k] + block[k]) / 2.0,
        Reduction::Sum => stem[k] + block[k],
        Reduction::Max => stem[k].max(block[k]),
        _ => stem[k],
    };
    let mut all: Vec<(f64, usize, usize)> = (0..8).map(|k| (tied(k), 0, k)).collect();
    all.extend((0..6).map(|k| (inner[k], 1, k)));
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    // Each group keeps one.
    let mut left = [(0..8).collect::<Vec<usize>>(), (0..6).collect()];
    let mut gone = 0;
    for (_, group, k) in all {
        if gone < 7 && left[group].len() > 1 {
            left[group].retain(|other| *other != k);
            gone += 1;
        }
    }
    left
}

#[test]
fn what_leaves_is_what_reduction_and_normaliser_say() {
    let network = Residual::new().network();
    let mut rng = rng(1);
    let mut different = BTreeSet::new();
    for case in 0..6 {
        let mut draw = |count: usize, scale: f64| -> Vec<f64> {
            (0..count).map(|_| scale * rng.random_range(0.05..1.0f64).powi(1 + case % 3)).collect()
        };
        let (stem, block, inner) = (draw(8, 1.0), draw(8, 3.0), draw(6, 0.7));
        let given = Given::new("given", &[("stem", &stem), ("block", &block), ("inner", &inner)]);
        for (normalizer, reduction) in NORMALIZERS.iter().flat_map(|n| REDUCTIONS.iter().map(move |r| (*n, *r))) {
            let planner = Planner::new().budget(Budget::Global(0.5)).normalizer(normalizer).reduction(reduction);
            let plan = planner.plan(&network, None, &given).unwrap();
            let [stem, inner] = expected(normalizer, reduction, &given);
            assert_eq!(kept(&plan, "stem", 8), stem, "{normalizer:?}, {reduction:?}");
            assert_eq!(kept(&plan, "block", 8), stem, "{normalizer:?}, {reduction:?}");
            assert_eq!(kept(&plan, "inner", 6), inner, "{normalizer:?}, {reduction:?}");
            different.insert((case, stem, inner));
        }
    }
    // The settings differ in what they remove.
    assert!(different.len() > 30, "{} plans", different.len());
}

#[test]
fn the_normaliser_of_the_user_goes_before_that_of_the_policy_and_that_before_the_mean() {
    let network = Residual::new().network();
    let scores: &[(&str, &[f64])] =
        &[("stem", &[9., 8., 7., 6., 5., 4., 3., 2.]), ("block", &[1.; 8]), ("inner", &[0.1, 0.2, 0.3, 0.4, 0.5, 0.6])];
    let plain = Given::new("given", scores);
    let own = plain.clone().with_normalizer(Normalizer::None);
    let widths = |planner: Planner, given: &Given| {
        let plan = planner.budget(Budget::Global(0.3)).plan(&network, None, given).unwrap();
        (kept(&plan, "stem", 8).len(), kept(&plan, "inner", 6).len())
    };
    // As they are, the scores of `inner` are the lowest.
    assert_eq!(widths(Planner::new(), &own), (8, 2));
    assert_eq!(widths(Planner::new().normalizer(Normalizer::None), &plain), (8, 2));
    let by_mean = widths(Planner::new(), &plain);
    assert_eq!(by_mean, (6, 4));
    assert_eq!(widths(Planner::new().normalizer(Normalizer::Mean), &own), by_mean);
}

#[test]
fn a_pruner_has_the_same_settings() {
    let net = Residual::new();
    let scores: &[(&str, &[f64])] =
        &[("stem", &[9., 8., 7., 6., 5., 4., 3., 2.]), ("block", &[1., 2., 3., 4., 5., 6., 7., 8.1])];
    let given = Given::new("given", scores);
    let data = TensorCalibration::new(Residual::input(), vec![0, 1, 2], 3);
    let kept_by = |reduction| {
        let pruner = Pruner::new(&data).policy(&given).normalizer(Normalizer::None).reduction(reduction);
        let pruned = pruner.analyze_and_prune(&net).unwrap();
        let planner = Planner::new().normalizer(Normalizer::None).reduction(reduction);
        let plan = planner.plan(&net.network(), None, &given).unwrap();
        assert_eq!(kept(&pruned.plan, "stem", 8), kept(&plan, "stem", 8));
        kept(&pruned.plan, "stem", 8)
    };
    assert_eq!(kept_by(Reduction::First), [0, 1, 2, 3]);
    assert_eq!(kept_by(Reduction::Max), [0, 1, 6, 7]);
}
