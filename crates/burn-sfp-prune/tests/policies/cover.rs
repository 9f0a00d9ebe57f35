//! The label cover, on analysed networks; the greedy choice itself is tested beside its code.

use std::collections::BTreeSet;

use burn::tensor::Device;
use burn_sfp_core::{Analysis, AnalyzeConfig, LayerAnalysis, NoProgress, TensorCalibration, analyze_network};
use burn_sfp_graph::Network;
use burn_sfp_prune::{Budget, LabelCover, Normalizer, Planner, PruneError, RankingPolicy, SfpRanking};

use super::draw::{drawn, uniform};
use crate::small::{Small, analysed};
use crate::support::*;

fn analysed_small(seed: u64) -> (Network, Analysis) {
    analysed(&Small::with_filters(seed, false, 20), &AnalyzeConfig::new().with_threshold(0.5))
}

/// How many of these filters recognise each label.
fn served(layer: &LayerAnalysis, filters: &[usize]) -> Vec<usize> {
    let by = |label| filters.iter().filter(|&&filter| layer.performance[filter].labels().contains(&label)).count();
    (0..layer.classes).map(by).collect()
}

/// Whether these filters recognise every label k times, or as often as all filters do.
fn covers(layer: &LayerAnalysis, filters: &[usize], k: usize) -> bool {
    let all: Vec<usize> = (0..layer.filters).collect();
    served(layer, &all).iter().zip(served(layer, filters)).all(|(all, found)| found >= k.min(*all))
}

#[test]
fn needed_filters_come_first_and_in_the_order_of_the_cover() {
    let mut redundant = 0;
    for seed in 0..4 {
        let (network, analysis) = analysed_small(seed);
        let signal = try_rank(&SfpRanking::new(), &network, Some(&analysis)).unwrap();
        for k in [1, 2, 5, 100] {
            let cover = LabelCover::new(k);
            let ranking = try_rank(&cover, &network, Some(&analysis)).unwrap();
            assert_eq!(ranking.filters.keys().collect::<Vec<_>>(), ["first", "second"]);
            for (path, scores) in &ranking.filters {
                let layer = analysis.layer(path).unwrap();
                let needed = cover.needed(layer);
                assert!(covers(layer, &needed, k) && !needed.is_empty());
                assert!(needed.windows(2).all(|pair| scores[pair[0]] > scores[pair[1]]), "{scores:?}");
                assert!(needed.iter().all(|&filter| scores[filter] > 1.0 && scores[filter] <= 2.0));
                let others: Vec<usize> = (0..layer.filters).filter(|filter| !needed.contains(filter)).collect();
                redundant += others.len();
                for (&a, &b) in others.iter().flat_map(|a| others.iter().map(move |b| (a, b))) {
                    let by_signal = signal.filters[path][a].total_cmp(&signal.filters[path][b]);
                    assert_eq!(scores[a].total_cmp(&scores[b]), by_signal);
                    assert!((0.0..1.0).contains(&scores[a]));
                }
            }
        }
    }
    assert!(redundant > 20, "{redundant}");
}

#[test]
fn labels_stay_recognised_while_the_budget_leaves_the_filters_that_they_need() {
    let k = 2;
    let mut uneven = 0;
    for seed in 0..8 {
        let (network, analysis) = analysed_small(seed);
        let layer = |path| analysis.layer(path).unwrap();
        let needed: [BTreeSet<usize>; 2] =
            ["first", "second"].map(|path| LabelCover::new(k).needed(layer(path)).into_iter().collect());
        uneven += usize::from(needed[0].len() != needed[1].len());
        let redundant = 40 - needed[0].len() - needed[1].len();
        assert!(redundant > 0);
        // Everything that is not needed goes from both layers, before anything else does.
        let budget = Budget::Global((redundant as f64 + 0.5) / 40.0);
        let plan = Planner::new().budget(budget).plan(&network, &analysis, &LabelCover::new(k)).unwrap();
        for (path, needed) in ["first", "second"].iter().zip(&needed) {
            let kept = kept(&plan, path, 20);
            assert_eq!(&kept.iter().copied().collect::<BTreeSet<_>>(), needed);
            assert!(covers(layer(path), &kept, k));
        }
        assert_eq!(plan.policy, "label-cover-2");
    }
    assert!(uneven > 0, "the layers always need as many filters");
}

#[test]
fn heads_are_ranked_as_filters_are() {
    let device = Device::flex();
    let net = drawn(Attentive::new(6, 3));
    let x = uniform([12, 5, 4], -1.0, 1.0, &device);
    let data = TensorCalibration::new(x, (0..12).map(|k| k % 3).collect(), 6);
    let (network, analysis) = analyze_network(&net, &data, &AnalyzeConfig::new(), &NoProgress).unwrap();
    let ranking = try_rank(&LabelCover::new(1), &network, Some(&analysis)).unwrap();
    let needed = LabelCover::new(1).needed(analysis.layer("attention").unwrap());
    let scores = &ranking.filters["attention"];
    assert_eq!(scores.len(), 6);
    for (head, score) in scores.iter().enumerate() {
        assert_eq!(*score > 1.0, needed.contains(&head), "{scores:?}, {needed:?}");
    }
}

#[test]
fn silent_layers_and_refused_settings() {
    let (network, mut analysis) = analysed_small(2);
    for layer in &mut analysis.layers {
        layer.performance.iter_mut().for_each(|filter| filter.clusters.clear());
        assert!(LabelCover::new(3).needed(layer).is_empty());
    }
    // Labels that no class has, in an analysis that nobody checked.
    analysis.layers[0].performance[4].clusters = vec![vec![7, usize::MAX]];
    assert_eq!(LabelCover::new(3).needed(&analysis.layers[0]), [4]);
    let refused = |k, analysis| try_rank(&LabelCover::new(k), &network, analysis).unwrap_err();
    assert!(matches!(refused(1, Some(&analysis)), PruneError::Analysis(_)));
    let error = refused(1, None);
    assert!(matches!(&error, PruneError::NeedsAnalysis { policy } if policy == "label-cover-1"));
    assert_eq!(refused(0, None).to_string(), "k of the label cover is 0, but must be at least 1");

    // A layer that was not analysed has no scores.
    let (network, mut analysis) = analysed_small(2);
    analysis.layers.retain(|layer| layer.path != "first");
    let ranking = try_rank(&LabelCover::new(1), &network, Some(&analysis)).unwrap();
    assert_eq!(ranking.filters.keys().collect::<Vec<_>>(), ["second"]);
    assert_eq!(ranking.normalizer, Some(Normalizer::None));
    assert_eq!(LabelCover::new(4).name(), "label-cover-4");
}
