//! Plans and records on disk, training of pruned models, and the policies against their definitions.

#[path = "common/inspect.rs"]
mod inspect;
#[path = "common/small.rs"]
mod small;

use std::collections::BTreeSet;

use burn::lr_scheduler::linear::LinearLrSchedulerConfig;
use burn::module::Module;
use burn::optim::AdamWConfig;
use burn_sfp_core::{Analysis, AnalyzeConfig, Batch, NoProgress, TensorCalibration};
use burn_sfp_graph::Network;
use burn_sfp_prune::{
    Afcc, Budget, Connections, FineTuneConfig, Magnitude, MagnitudeConnections, Normalizer, OptimizerConfig, Planner,
    PolicyContext, PrunePlan, Pruner, RandomAfcc, Ranking, RankingPolicy, Schedule, SfpRanking, fine_tune,
};
use inspect::{bytes as parameters, values};
use small::{CLASSES, FILTERS, SIDE, Small, analysed, bytes, images};

fn rank(policy: &dyn RankingPolicy, network: &Network, analysis: &Analysis) -> Ranking {
    policy.rank(&PolicyContext::new(network, analysis)).unwrap()
}

fn plan(model: &Small, planner: Planner, policy: &dyn RankingPolicy) -> PrunePlan {
    let (network, analysis) = analysed(model, &AnalyzeConfig::new());
    planner.plan(&network, &analysis, policy).unwrap()
}

/// Cuts filters and masks connections between those that stay.
struct Both;

impl RankingPolicy for Both {
    fn name(&self) -> String {
        "both".into()
    }
    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, burn_sfp_prune::PruneError> {
        let mut ranking = SfpRanking::new().rank(context)?;
        ranking.connections.insert("second".into(), Connections::from_fn(FILTERS, FILTERS, |b, a| (a + b) % 3 > 0));
        Ok(ranking)
    }
}

#[test]
fn saved_plans_and_records_make_the_pruned_model() {
    let folder = tempfile::tempdir().unwrap();
    let (plan_path, record, folded) =
        (folder.path().join("plan.json"), folder.path().join("masked.bpk"), folder.path().join("folded.bpk"));
    let model = Small::new(1, false);
    let made = plan(&model, Planner::new().budget(Budget::PerLayer(0.3)), &Both);
    assert!(!made.cuts.is_empty() && !made.masks.is_empty() && !made.bias_corrections.is_empty());
    let smaller = made.apply(&model).unwrap();
    made.save(&plan_path).unwrap();
    smaller.clone().save_file(&record).unwrap();
    smaller.clone().materialize().save_file(&folded).unwrap();

    let loaded = PrunePlan::load(&plan_path).unwrap();
    assert_eq!(loaded, made);
    // Other weights, same architecture: everything has to come from the record.
    let fresh = loaded.apply(&Small::new(2, false)).unwrap();
    assert_ne!(bytes(&fresh), bytes(&smaller));
    let masked = fresh.clone().load_file(&record);
    assert_eq!(bytes(&masked), bytes(&smaller));
    assert_eq!(parameters(&masked), parameters(&smaller));
    assert_eq!(bytes(&fresh.materialize().load_file(&folded)), bytes(&smaller));
    let in_memory = loaded.apply(&Small::new(2, false)).unwrap().load_record(smaller.clone().into_record());
    assert_eq!(bytes(&in_memory), bytes(&smaller));
}

/// 20 steps with momentum and a strong weight decay.
fn trained(smaller: &Small, plan: &PrunePlan) -> Small {
    let (input, labels) = images(12);
    let config = FineTuneConfig { weight_decay: 0.1, ..FineTuneConfig::new().with_learning_rate(0.05) };
    let batches = |_| (0..20).map(|_| Ok(Batch { input: input.clone(), labels: labels.clone() }));
    fine_tune(smaller.clone(), plan, batches, 240, &config, &NoProgress).unwrap()
}

#[test]
fn removed_connections_stay_zero_in_training() {
    let model = Small::new(1, false);
    let policy = Afcc::new().layers(["second", "fc"]);
    let made = plan(&model, Planner::new().keep_empty(true), &policy);
    let smaller = made.apply(&model).unwrap();
    let tuned = trained(&smaller, &made);
    assert_ne!(bytes(&tuned), bytes(&smaller));
    for tuned in [tuned.clone(), tuned.materialize()] {
        let (second, fc) = (values(tuned.second.weight.val()), values(tuned.fc.weight.val()));
        assert_eq!(made.masks.len(), 2);
        let mut removed = 0;
        for mask in &made.masks {
            for (output, kept) in mask.keep.iter().enumerate() {
                for input in (0..mask.inputs).filter(|input| !kept.contains(&(*input as u32))) {
                    let at = |k| (output * FILTERS + input) * 9 + k;
                    let zero = match mask.layer.as_str() {
                        "fc" => fc[input * CLASSES + output] == 0.0,
                        _ => (0..9).all(|k| second[at(k)] == 0.0),
                    };
                    assert!(zero, "{} {input} -> {output}", mask.layer);
                    removed += 1;
                }
            }
        }
        assert!(removed > 0);
        // Nothing else became zero.
        let zeros =
            fc.iter().filter(|weight| **weight == 0.0).count() + second.iter().filter(|w| **w == 0.0).count() / 9;
        assert_eq!(zeros, removed);
    }
}

#[test]
fn removed_connections_stay_zero_with_other_optimizers_and_schedules() {
    let model = Small::new(1, false);
    let made = plan(&model, Planner::new().keep_empty(true), &Afcc::new().layers(["second"]));
    let smaller = made.apply(&model).unwrap();
    let (input, labels) = images(12);
    let batches = |_| (0..20).map(|_| Ok(Batch { input: input.clone(), labels: labels.clone() }));
    let config = FineTuneConfig::new()
        .with_optimizer(OptimizerConfig::AdamW(AdamWConfig::new()))
        .with_schedule(Schedule::PerStep(LinearLrSchedulerConfig::new(0.05, 0.001, 20).into()));
    let tuned = fine_tune(smaller.clone(), &made, batches, 240, &config, &NoProgress).unwrap();
    let (before, after) = (values(smaller.second.weight.val()), values(tuned.second.weight.val()));
    assert_ne!(before, after);
    assert!(before.contains(&0.0) && before.iter().zip(&after).all(|(old, new)| *old != 0.0 || *new == 0.0));
}

#[test]
fn models_with_masks_pass_the_check_of_the_smaller_graph() {
    let model = Small::new(1, false);
    let (x, labels) = images(24);
    let calibration = TensorCalibration::new(x.clone(), labels, 12);
    let pruned =
        Pruner::new(&calibration).policy(Afcc::new().layers(["second", "fc"])).analyze_and_prune(&model).unwrap();
    let by_weights = Planner::new().prune(&model, &x, &MagnitudeConnections::l1()).unwrap();
    for (plan, smaller) in [(&pruned.plan, &pruned.model), (&by_weights.plan, &by_weights.model)] {
        assert!(!plan.masks.is_empty());
        let capture = |model: &Small| Network::capture(model, &x).unwrap();
        for smaller in [smaller.clone(), smaller.clone().materialize()] {
            plan.verify(&capture(&model), &capture(&smaller)).unwrap();
        }
    }
}

#[test]
fn frozen_layers_do_not_move() {
    let model = Small::new(1, false);
    let made = plan(&model, Planner::new().keep_empty(true), &Afcc::new().layers(["fc"]));
    assert_eq!(made.trainable, ["fc.weight"]);
    let smaller = made.apply(&model).unwrap();
    let (before, after) = (parameters(&smaller), parameters(&trained(&smaller, &made)));
    assert!(before.iter().any(|(path, _)| path == "norm.running_mean"));
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before.0, after.0);
        assert_eq!(before == after, before.0 != "fc.weight", "{}", before.0);
    }
}

#[test]
fn a_model_in_training_comes_back_in_training() {
    let model = Small::new(1, false);
    let made = plan(&model, Planner::new(), &Both);
    let in_training = |model: &Small| {
        let parameters = model.first.weight.val().is_autodiff() && model.fc.weight.val().is_autodiff();
        parameters && model.second.weight.base().is_require_grad()
    };
    let plain = made.apply(&model).unwrap();
    let training = made.apply(&model.clone().train()).unwrap();
    assert!(!in_training(&plain) && in_training(&training));
    assert!(!in_training(&trained(&training, &made)));
    assert_eq!(bytes(&training), bytes(&plain));
}

fn sets(analysis: &Analysis, path: &str) -> Vec<BTreeSet<usize>> {
    analysis.layer(path).unwrap().performance.iter().map(|filter| filter.labels().into_iter().collect()).collect()
}

#[test]
fn afcc_keeps_what_shares_labels() {
    for (seed, skip) in [(1, false), (2, false), (3, true)] {
        let (network, analysis) = analysed(&Small::new(seed, skip), &AnalyzeConfig::new());
        let (first, second) = (sets(&analysis, "first"), sets(&analysis, "second"));
        for k in 1..=2 {
            let masks = rank(&Afcc::new().shared_labels(k), &network, &analysis).connections;
            assert_eq!(masks.keys().collect::<Vec<_>>(), ["fc", "second"]);
            assert_eq!((first.len(), second.len()), (FILTERS, FILTERS));
            for (b, own) in second.iter().enumerate() {
                for (a, labels) in first.iter().enumerate() {
                    assert_eq!(masks["second"].keeps(b, a), labels.intersection(own).count() >= k);
                }
            }
            for label in 0..CLASSES {
                for input in 0..FILTERS * SIDE * SIDE {
                    let a = input / (SIDE * SIDE);
                    // Over a skip a channel carries the labels of both layers.
                    let carries = second[a].contains(&label) || (skip && first[a].contains(&label));
                    assert_eq!(masks["fc"].keeps(label, input), carries);
                }
            }
        }
    }
}

#[test]
fn random_afcc_follows_its_seed() {
    let (network, analysis) = analysed(&Small::new(1, false), &AnalyzeConfig::new());
    let masks = |seed| rank(&RandomAfcc::new(seed), &network, &analysis).connections;
    assert_eq!(masks(7), masks(7));
    assert_ne!(masks(7), masks(8));
    let only = rank(&RandomAfcc::new(7).layers(["fc"]), &network, &analysis).connections;
    assert_eq!(only["fc"], masks(7)["fc"]);
}

#[test]
fn magnitude_connections_like_a_plan_keep_as_many() {
    for planner in [Planner::new(), Planner::new().keep_empty(true)] {
        let (network, analysis) = analysed(&Small::new(1, false), &AnalyzeConfig::new());
        let made = planner.plan(&network, &analysis, &Afcc::new()).unwrap();
        for control in [MagnitudeConnections::l1().like(&made), MagnitudeConnections::l2().like(&made)] {
            let masks = rank(&control, &network, &analysis).connections;
            assert!(!masks.is_empty());
            for (path, mask) in masks {
                assert_eq!(mask.kept() as u64, made.layer(&path).unwrap().connections_after, "{path}");
            }
        }
    }
}

#[test]
fn sfp_ranking_is_its_formula() {
    let model = Small::new(1, false);
    let (network, analysis) = analysed(&model, &AnalyzeConfig::new());
    let ranking = rank(&SfpRanking::new(), &network, &analysis);
    assert_eq!(ranking.normalizer, Some(Normalizer::Lamp));
    let scores = ranking.filters;
    for (path, weight) in [("first", values(model.first.weight.val())), ("second", values(model.second.weight.val()))] {
        let filters = &analysis.layer(path).unwrap().performance;
        let labels = sets(&analysis, path);
        let norms: Vec<f64> =
            weight.chunks(weight.len() / FILTERS).map(|w| w.iter().map(|w| f64::from(w.abs())).sum()).collect();
        let largest = norms.iter().copied().fold(0.0, f64::max);
        for (f, filter) in filters.iter().enumerate() {
            let served = |label| labels.iter().filter(|labels| labels.contains(label)).count() as f64;
            let rarity: f64 = labels[f].iter().map(|label| 1.0 / served(label)).sum();
            let blocks: usize = filter.clusters.iter().map(|cluster| cluster.len().pow(2)).sum();
            let purity = if blocks == 0 { 0.0 } else { blocks as f64 / (blocks + filter.noise) as f64 };
            let expected = rarity * purity + 1e-9 * norms[f] / largest;
            assert!((scores[path][f] - expected).abs() < 1e-12, "{path} {f}");
        }
    }
}

/// The filters of a layer that stay; all where it is not cut.
fn kept(plan: &PrunePlan, parameter: &str, axis: usize) -> Vec<usize> {
    let cut =
        plan.cuts.iter().find(|cut| cut.path == parameter).and_then(|cut| cut.axes.iter().find(|a| a.axis == axis));
    cut.map_or_else(|| (0..FILTERS).collect(), |axis| axis.keep.clone())
}

#[test]
fn layers_joined_by_a_skip_keep_the_same_filters() {
    for policy in [&SfpRanking::new() as &dyn RankingPolicy, &Magnitude::l2(), &Both] {
        let made = plan(&Small::new(1, true), Planner::new(), policy);
        let stay = kept(&made, "first.weight", 0);
        assert!(stay.len() <= FILTERS / 2);
        for (parameter, axis) in [
            ("second.weight", 0),
            ("second.weight", 1),
            ("first.bias", 0),
            ("second.bias", 0),
            ("norm.gamma", 0),
            ("second_norm.running_var", 0),
        ] {
            assert_eq!(kept(&made, parameter, axis), stay, "{parameter}");
        }
        let features: Vec<usize> = stay.iter().flat_map(|f| f * SIDE * SIDE..(f + 1) * SIDE * SIDE).collect();
        assert_eq!(kept(&made, "fc.weight", 0), features);
    }
}

#[test]
fn a_global_budget_leaves_every_layer_a_filter() {
    for skip in [false, true] {
        let made = plan(&Small::new(1, skip), Planner::new().budget(Budget::Global(0.99)), &Magnitude::l1());
        let smaller = made.apply(&Small::new(1, skip)).unwrap();
        let after: Vec<usize> = made.layers.iter().map(|layer| layer.filters_after).collect();
        assert_eq!(after, [1, 1, CLASSES]);
        assert_eq!(smaller.second.weight.dims(), [1, 1, 3, 3]);
        assert!(!bytes(&smaller).is_empty());
    }
}
