//! Every kind of bad request is a typed error that says where and what to do, and leaves the original as it was.

#[path = "common/small.rs"]
mod small;

use std::fs;

use burn::module::Module;
use burn_sfp_core::{AnalyzeConfig, Batch, NoProgress, SfpError};
use burn_sfp_graph::GraphError;
use burn_sfp_prune::{
    Afcc, Budget, Connections, FineTuneConfig, Planner, PolicyContext, PruneError, PrunePlan, Ranking, RankingPolicy,
    Schedule, SfpRanking, fine_tune,
};
use small::{CLASSES, FILTERS, Small, analysed, bytes, images};

fn holds(error: PruneError, texts: &[&str]) -> PruneError {
    let message = error.to_string();
    for text in texts {
        assert!(message.contains(text), "`{text}` is not in: {message}");
    }
    error
}

/// The error of a plan for the model, which stays the same bit for bit.
fn refused(planner: Planner, policy: &dyn RankingPolicy, config: &AnalyzeConfig, texts: &[&str]) -> PruneError {
    let model = Small::new(1, false);
    let before = bytes(&model);
    let (network, analysis) = analysed(&model, config);
    let error = planner.plan(&network, &analysis, policy).unwrap_err();
    assert_eq!(bytes(&model), before, "the model changed");
    holds(error, texts)
}

/// The error of applying a plan to a model, which stays the same bit for bit.
fn rejected(plan: &PrunePlan, model: &Small, texts: &[&str]) -> PruneError {
    let before = bytes(model);
    let error = plan.apply(model).unwrap_err();
    assert_eq!(bytes(model), before, "the model changed");
    holds(error, texts)
}

fn plan(model: &Small, planner: Planner, policy: &dyn RankingPolicy) -> PrunePlan {
    let (network, analysis) = analysed(model, &AnalyzeConfig::new());
    planner.plan(&network, &analysis, policy).unwrap()
}

fn plain() -> AnalyzeConfig {
    AnalyzeConfig::new()
}

#[test]
fn a_layer_that_cannot_be_pruned() {
    let error =
        refused(Planner::new(), &Afcc::new().layers(["first"]), &plain(), &["`first` cannot be pruned", "feeds it"]);
    assert!(matches!(error, PruneError::NotPrunable { .. }));
}

#[test]
fn an_unknown_layer() {
    let texts = ["`third`", "first, second, fc"];
    let error = refused(Planner::new(), &Afcc::new().layers(["third"]), &plain(), &texts);
    assert!(matches!(error, PruneError::Graph(GraphError::UnknownLayer { .. })));
}

#[test]
fn a_producer_that_was_not_analysed() {
    let config = plain().with_layers(["first"]);
    let error = refused(Planner::new(), &Afcc::new().layers(["fc"]), &config, &["afcc", "`fc`", "`second`", "analyse"]);
    assert!(matches!(error, PruneError::NotAnalyzed { .. }));
    let error = refused(Planner::new(), &Afcc::new().shared_labels(0), &plain(), &["shared labels is 0", "at least 1"]);
    assert!(matches!(error, PruneError::Config { .. }));
}

#[test]
fn ratios_out_of_range() {
    for ratio in [1.0, 1.5, -0.1, f64::NAN, f64::INFINITY] {
        let found = format!("ratio is {ratio}");
        let texts = [found.as_str(), "at least 0 and below 1"];
        for budget in [Budget::PerLayer(ratio), Budget::Global(ratio)] {
            // Also if the policy only makes keep masks over connections.
            for policy in [&SfpRanking::new() as &dyn RankingPolicy, &Afcc::new()] {
                let error = refused(Planner::new().budget(budget), policy, &plain(), &texts);
                assert!(matches!(error, PruneError::Config { .. }));
            }
        }
    }
}

/// Returns what it was told to.
struct Says(Ranking);

impl RankingPolicy for Says {
    fn name(&self) -> String {
        "says".into()
    }
    fn rank(&self, _: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        Ok(self.0.clone())
    }
}

#[test]
fn policies_that_do_not_fit() {
    let scores = |path: &str, scores: Vec<f64>| {
        let mut ranking = Ranking::default();
        ranking.filters.insert(path.into(), scores);
        Says(ranking)
    };
    let masks_of = |outputs, inputs, keep: bool| {
        let mut ranking = Ranking::default();
        ranking.connections.insert("second".into(), Connections::from_fn(outputs, inputs, |_, _| keep));
        Says(ranking)
    };
    let mut nan = vec![1.0; FILTERS];
    nan[5] = f64::NAN;
    for (policy, text) in [
        (scores("second", vec![1.0; 3]), "3 scores for 8 filters"),
        (scores("second", nan), "the score of filter 5 is NaN"),
        (masks_of(2, 3, true), "(2, 3) for (8, 8)"),
    ] {
        let error = refused(Planner::new(), &policy, &plain(), &["policy says", "`second`", text]);
        assert!(matches!(error, PruneError::BadRanking { .. }));
    }
    let error = refused(Planner::new(), &scores("third", vec![]), &plain(), &["`third`"]);
    assert!(matches!(error, PruneError::Graph(GraphError::UnknownLayer { .. })));
    let error =
        refused(Planner::new(), &masks_of(FILTERS, FILTERS, false), &plain(), &["policy says", "none of its 8"]);
    assert!(matches!(error, PruneError::WouldEmpty { .. }));
}

#[test]
fn a_plan_for_another_model() {
    let made = plan(&Small::new(1, false), Planner::new(), &SfpRanking::new());
    let error = rejected(&made, &Small::with_filters(1, false, 6), &["`first.weight`", "[6, 2, 3, 3]", "[8, 2, 3, 3]"]);
    assert!(matches!(error, PruneError::ModelMismatch { .. }));
    let mut renamed = made.clone();
    renamed.model[0].path = "stem.weight".into();
    let error = rejected(&renamed, &Small::new(1, false), &["no parameter `stem.weight`", "another model"]);
    assert!(matches!(error, PruneError::ModelMismatch { .. }));
    // Planning with the analysis of another model.
    let (network, _) = analysed(&Small::new(1, false), &plain());
    let (_, analysis) = analysed(&Small::with_filters(1, false, 6), &plain());
    let error = Planner::new().plan(&network, &analysis, &SfpRanking::new()).unwrap_err();
    assert!(matches!(error, PruneError::ModelMismatch { .. }));
}

#[test]
fn a_plan_edited_by_hand() {
    let model = Small::new(1, false);
    let cut = plan(&model, Planner::new(), &SfpRanking::new());
    let masked = plan(&model, Planner::new().keep_empty(true), &Afcc::new());
    assert!(!cut.cuts.is_empty() && !cut.bias_corrections.is_empty() && !masked.masks.is_empty());
    type Edit = fn(&mut PrunePlan);
    let edits: [(&PrunePlan, Edit); 13] = [
        (&cut, |plan| plan.cuts[0].axes[0].keep.push(999)),
        (&cut, |plan| plan.cuts[0].axes[0].keep.reverse()),
        (&cut, |plan| plan.cuts[0].axes[0].keep.clear()),
        (&cut, |plan| plan.cuts[0].axes[0].axis = 7),
        (&cut, |plan| plan.cuts[0].path = "nowhere".into()),
        (&cut, |plan| {
            let axis = plan.cuts[0].axes[0].clone();
            plan.cuts[0].axes.push(axis);
        }),
        (&cut, |plan| plan.cuts.push(plan.cuts[0].clone())),
        (&cut, |plan| plan.bias_corrections[0].inputs[0].0 = 999),
        (&cut, |plan| plan.bias_corrections[0].coverage.clear()),
        (&cut, |plan| plan.bias_corrections[0].weight = "nowhere".into()),
        (&masked, |plan| plan.masks[0].keep[0].push(999)),
        (&masked, |plan| plan.masks[0].keep.truncate(1)),
        (&masked, |plan| plan.masks[0].output_axis = 3),
    ];
    for (plan, edit) in edits {
        let mut broken = plan.clone();
        edit(&mut broken);
        let error = rejected(&broken, &model, &["not consistent", "make it again"]);
        assert!(matches!(error, PruneError::InvalidPlan(_)));
    }
}

#[test]
fn plan_files_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.json");
    let unreadable = |texts: &[&str]| {
        let error = holds(PrunePlan::load(&path).unwrap_err(), &[&["plan.json"], texts].concat());
        assert!(matches!(error, PruneError::Analysis(SfpError::File { .. })));
    };
    unreadable(&["cannot be read"]);
    let mut made = plan(&Small::new(1, false), Planner::new(), &SfpRanking::new());
    made.save(&path).unwrap();
    let whole = fs::read(&path).unwrap();
    for length in [0, 1, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        unreadable(&["truncated", "write it again"]);
    }
    for foreign in ["{\"name\": \"other\"}", "[]", "not json"] {
        fs::write(&path, foreign).unwrap();
        unreadable(&["not a pruning plan"]);
    }
    fs::write(&path, "{\"version\":4,\"policy\":\"afcc\",\"model\":[]}").unwrap();
    unreadable(&["version 4", "version 6", "plan again"]);
    let text = String::from_utf8(whole).unwrap();
    fs::write(&path, text.replacen("\"version\":6", "\"version\":99", 1)).unwrap();
    unreadable(&["version 99", "version 6", "plan again"]);
    made.version = 99;
    let error = holds(made.save(&path).unwrap_err(), &["version 99", "version 6"]);
    assert!(matches!(error, PruneError::InvalidPlan(_)));
}

#[test]
fn masking_twice() {
    let model = Small::new(1, false);
    let masks = plan(&model, Planner::new().keep_empty(true), &Afcc::new());
    assert!(masks.cuts.is_empty() && !masks.masks.is_empty());
    let smaller = masks.apply(&model).unwrap();
    let error = rejected(&masks, &smaller, &[&masks.masks[0].parameter, "materialize()"]);
    assert!(matches!(error, PruneError::AlreadyMasked { .. }));
    assert_eq!(bytes(&masks.apply(&smaller.clone().materialize()).unwrap()), bytes(&smaller));
}

#[test]
fn training_that_fails() {
    let model = Small::new(1, false);
    let made = plan(&model, Planner::new(), &SfpRanking::new());
    let smaller = made.apply(&model).unwrap();
    let before = (bytes(&model), bytes(&smaller));
    let (input, labels) = images(12);
    let train = |labels: &[usize], config: &FineTuneConfig| {
        let batches = |_| (0..20).map(|_| Ok(Batch { input: input.clone(), labels: labels.to_vec() }));
        let error = fine_tune(smaller.clone(), &made, batches, 240, config, &NoProgress).unwrap_err();
        assert_eq!((bytes(&model), bytes(&smaller)), before, "a model changed");
        error
    };
    let huge = FineTuneConfig::new().with_learning_rate(1e30).with_schedule(Schedule::Constant);
    let error = holds(train(&labels, &huge), &["lower the learning rate"]);
    assert!(matches!(error, PruneError::Diverged { step: 1.., .. }), "{error}");
    let mut wrong = labels.clone();
    wrong[3] = CLASSES;
    let error = holds(train(&wrong, &FineTuneConfig::new()), &["sample 3", "label 4"]);
    assert!(matches!(error, PruneError::Analysis(SfpError::LabelOutOfRange { sample: 3, label: CLASSES, .. })));
    let error = train(&labels[1..], &FineTuneConfig::new());
    assert!(matches!(error, PruneError::Analysis(SfpError::LabelCount { inputs: 12, labels: 11, .. })));
    let error = holds(train(&labels, &FineTuneConfig::new().with_epochs(f64::NAN)), &["epochs is NaN"]);
    assert!(matches!(error, PruneError::Config { .. }));
    let error = fine_tune(
        smaller.clone(),
        &made,
        |_| std::iter::once(Err("no disk".into())),
        8,
        &FineTuneConfig::new(),
        &NoProgress,
    );
    assert!(matches!(holds(error.unwrap_err(), &["no disk"]), PruneError::Data { batch: 0, .. }));
    assert_eq!((bytes(&model), bytes(&smaller)), before, "a model changed");
}
