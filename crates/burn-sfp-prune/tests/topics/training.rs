//! Training has the guards of the analysis: what does not fit, or trains nothing, is a typed error, and the model stays as it was.

use burn::module::{Module, Param, ParamGroup};
use burn::nn::{BatchNorm, BatchNormConfig, Linear};
use burn::optim::{MuonConfig, SgdConfig};
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn_sfp_core::{Batch, DataError, NoProgress, SfpError};
use burn_sfp_graph::{GraphError, GraphModule};
use burn_sfp_nn::walk::{ParamPath, ParamVisitor, visit_params};
use burn_sfp_prune::{
    Budget, FineTune, FineTuneConfig, Magnitude, MagnitudeConnections, Planner, PruneError, PrunePlan, PrunedModule,
    Schedule, StoreConfig, fine_tune, fine_tune_stored,
};

use crate::support::*;

#[derive(Module, Debug)]
struct Mlp {
    a: Linear,
    norm: BatchNorm,
    b: Linear,
    c: Linear,
}

impl Mlp {
    fn new(hidden: usize) -> Self {
        let norm = BatchNormConfig::new(hidden).init(&device());
        random(Self { a: linear(4, hidden), norm, b: linear(hidden, 6), c: linear(6, 3) })
    }
}

impl GraphModule for Mlp {
    type Inputs = Tensor<2>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<2>) -> Tensor<2> {
        let x = relu(self.norm.forward(self.a.forward(x)));
        self.c.forward(relu(self.b.forward(x)))
    }
}

fn pruned() -> PrunedModule<Mlp> {
    Planner::new().budget(Budget::PerLayer(0.5)).prune(&Mlp::new(8), &input([2, 4]), &Magnitude::l2()).unwrap()
}

/// Masks on two layers.
fn masked(layers: [&str; 2]) -> PrunedModule<Mlp> {
    let policy = MagnitudeConnections::l1().layers(layers).removing(0.5);
    Planner::new().keep_empty(true).prune(&Mlp::new(8), &input([2, 4]), &policy).unwrap()
}

type Loaded = Result<Batch<Tensor<2>>, DataError>;

fn batch(samples: usize) -> Loaded {
    Ok(Batch { input: input([samples, 4]), labels: (0..samples).map(|k| k % 3).collect() })
}

fn steady() -> FineTuneConfig {
    FineTuneConfig::new().with_schedule(Schedule::Constant)
}

fn tune(
    model: Mlp,
    plan: &PrunePlan,
    epochs: &[Vec<Loaded>],
    samples: usize,
    config: &FineTuneConfig,
) -> Result<Mlp, PruneError> {
    let copy = |batch: &Loaded| match batch {
        Ok(batch) => Ok(batch.clone()),
        Err(error) => Err(error.to_string().into()),
    };
    let epoch = |number: usize| epochs[number.min(epochs.len() - 1)].iter().map(copy).collect::<Vec<_>>().into_iter();
    let config = config.clone().with_epochs(if epochs.len() > 1 { epochs.len() as f64 } else { config.epochs });
    let before = bytes(&model);
    let kept = model.clone();
    let tuned = fine_tune(model, plan, epoch, samples, &config, &NoProgress);
    assert_eq!(bytes(&kept), before, "the model changed");
    tuned
}

/// The error of one epoch of these batches.
fn refused(batches: Vec<Loaded>, samples: usize, texts: &[&str]) -> PruneError {
    let PrunedModule { model, plan, .. } = pruned();
    let error = tune(model, &plan, &[batches], samples, &steady()).unwrap_err();
    holds(&error, texts);
    assert!(!error.to_string().contains("calibration"), "{error}");
    error
}

#[test]
fn batches_that_do_not_fit() {
    let wide = |samples| Ok(Batch { input: input([samples, 5]), labels: vec![0; samples] });
    let error = refused(vec![wide(4)], 4, &["[4, 5]", "forward pass failed"]);
    assert!(matches!(error, PruneError::Graph(GraphError::Forward { .. })));
    let error = refused(vec![batch(4), wide(4)], 8, &["batch 1", "[4, 5]", "[4, 4]", "resize"]);
    assert!(matches!(error, PruneError::Analysis(SfpError::BatchShape { batch: 1, .. })));
    let short = || Ok(Batch { input: input([4, 4]), labels: vec![0, 1] });
    let error = refused(vec![batch(4), short()], 8, &["batch 1", "4 inputs and 2 labels"]);
    assert!(matches!(error, PruneError::Analysis(SfpError::LabelCount { batch: 1, inputs: 4, labels: 2 })));
    let empty = || Ok(Batch { input: input([0, 4]), labels: vec![] });
    let error = refused(vec![batch(4), empty()], 8, &["batch 1", "no sample"]);
    assert!(matches!(error, PruneError::Analysis(SfpError::EmptyBatch { batch: 1 })));
    let labelled = |label| Ok(Batch { input: input([2, 4]), labels: vec![0, label] });
    refused(vec![labelled(3)], 2, &["sample 1 of batch 0 has label 3", "labels 0 to 2"]);
    refused(vec![labelled(-1_i64 as usize)], 2, &["label -1,"]);
    refused(vec![labelled(i64::MIN as usize)], 2, &["label -9223372036854775808,"]);
    for value in [f32::NAN, f32::INFINITY] {
        let broken = || Ok(Batch { input: input([4, 4]).slice_fill([1..2, 0..1], value), labels: vec![0; 4] });
        let error = refused(vec![batch(4), broken()], 8, &["training batch 1", "clean the inputs"]);
        assert!(matches!(error, PruneError::NonFiniteBatch { batch: 1, .. }));
    }
}

#[test]
fn passes_of_another_length() {
    let PrunedModule { model, plan, .. } = pruned();
    for (epochs, found) in [
        (vec![vec![batch(4), batch(4)], vec![batch(4)]], "epoch 1 holds 4 samples"),
        (vec![vec![batch(4), batch(4)], vec![batch(4), batch(4), batch(4)]], "epoch 1 holds at least 12 samples"),
        (vec![vec![batch(4)], vec![batch(4), batch(4)]], "epoch 0 holds 4 samples"),
        (vec![vec![batch(4), batch(4)], vec![]], "epoch 1 holds 0 samples"),
        (vec![vec![batch(4), batch(5)]], "epoch 0 holds at least 9 samples"),
    ] {
        let error = tune(model.clone(), &plan, &epochs, 8, &steady()).unwrap_err();
        holds(&error, &[found, "`samples` says 8"]);
        assert!(matches!(error, PruneError::PassLength { expected: 8, .. }));
    }
    // Training may end inside of a pass.
    for epochs in [0.25, 0.5, 1.0] {
        tune(model.clone(), &plan, &[vec![batch(4), batch(4)]], 8, &steady().with_epochs(epochs)).unwrap();
    }
}

#[test]
fn nothing_trained() {
    for (batches, samples, text) in
        [(vec![], 0, "no sample"), (vec![batch(4)], 0, "no sample"), (vec![batch(1), batch(1)], 2, "a single sample")]
    {
        let error = refused(batches, samples, &["nothing was trained", text]);
        assert!(matches!(error, PruneError::NothingTrained { .. }));
    }
    let PrunedModule { model, plan, .. } = pruned();
    for all in [false, true] {
        let error = tune(model.clone().freeze(), &plan, &[vec![batch(4)]], 4, &steady().with_all_layers(all));
        holds(error.unwrap_err(), &["nothing was trained", "frozen"]);
    }
    let store = |made: PrunedModule<Mlp>, batches: fn() -> Vec<Loaded>, samples, all| {
        let (config, store) = (steady().with_all_layers(all), StoreConfig::new());
        fine_tune_stored(made.model, &made.plan, |_| batches().into_iter(), samples, &store, &config, &NoProgress)
    };
    holds(store(masked(["b", "c"]), || vec![batch(4)], 0, false).unwrap_err(), &["epoch 0 holds at least 4 samples"]);
    let two = || vec![batch(4), batch(4)];
    let made = masked(["b", "c"]);
    let tuned = store(made.clone(), two, 8, false).unwrap();
    assert_eq!(values(tuned.a.weight.val()), values(made.model.a.weight.val()));
    store(made, two, 8, true).unwrap();
    let wrong = || vec![batch(4), Ok(Batch { input: input([4, 5]), labels: vec![0; 4] })];
    let error = store(masked(["b", "c"]), wrong, 8, false).unwrap_err();
    assert!(matches!(error, PruneError::Analysis(SfpError::BatchShape { batch: 1, .. })));
}

#[test]
fn another_models_plan() {
    let PrunedModule { model, plan, .. } = pruned();
    let other = Planner::new().prune(&Mlp::new(12), &input([2, 4]), &Magnitude::l2()).unwrap();
    let original = Mlp::new(8);
    for (model, plan, text) in [
        (other.model.clone(), &plan, "`a.weight`"),
        (model.clone(), &other.plan, "`a.weight`"),
        (original.clone(), &plan, "from before pruning"),
        (plan.zeroed(&original).unwrap(), &plan, "from before pruning"),
    ] {
        let error = tune(model, plan, &[vec![batch(4)]], 4, &steady()).unwrap_err();
        assert!(matches!(error, PruneError::ModelMismatch { .. }));
        holds(error, &[text, "another model"]);
    }
}

/// The connections of the plan that are not zero, and those that it keeps and are zero, in the plan's masked weights.
fn wrong(plan: &PrunePlan, model: &Mlp) -> (usize, usize) {
    let (mut removed, mut lost) = (0, 0);
    assert!(!plan.masks.is_empty());
    for mask in &plan.masks {
        let layer = match mask.layer.as_str() {
            "a" => &model.a,
            "b" => &model.b,
            _ => &model.c,
        };
        let kept = |axis: usize, length: usize| cut(plan, &mask.parameter, axis).unwrap_or((0..length).collect());
        let (inputs, outputs) = (kept(0, mask.inputs), kept(1, mask.keep.len()));
        let weight = values(layer.weight.val());
        for (i, input) in inputs.iter().enumerate() {
            for (o, output) in outputs.iter().enumerate() {
                let keeps = mask.keep[*output].contains(&(*input as u32));
                let zero = weight[i * outputs.len() + o] == 0.0;
                removed += usize::from(!keeps && !zero);
                lost += usize::from(keeps && zero);
            }
        }
    }
    (removed, lost)
}

/// Both cuts and masks: masks are given on the shapes of the original.
fn cut_and_masked() -> PrunedModule<Mlp> {
    struct Both;
    impl burn_sfp_prune::RankingPolicy for Both {
        fn name(&self) -> String {
            "both".into()
        }
        fn rank(&self, context: &burn_sfp_prune::PolicyContext<'_>) -> Result<burn_sfp_prune::Ranking, PruneError> {
            let mut ranking = Magnitude::l2().rank(context)?;
            ranking.connections =
                MagnitudeConnections::l1().layers(["b", "c"]).removing(0.4).rank(context)?.connections;
            Ok(ranking)
        }
    }
    let planner = Planner::new().budget(Budget::PerLayer(0.25)).keep_empty(true);
    let made = planner.prune(&Mlp::new(8), &input([2, 4]), &Both).unwrap();
    assert!(!made.plan.cuts.is_empty() && made.plan.masks.len() == 2);
    made
}

#[test]
fn removed_connections_do_not_come_back() {
    let strong = FineTuneConfig { weight_decay: 0.1, ..steady() };
    for made in [masked(["b", "c"]), masked(["a", "b"]), cut_and_masked()] {
        for config in [strong.clone(), strong.clone().with_all_layers(true)] {
            let epochs = [vec![batch(6), batch(6)], vec![batch(6), batch(6)], vec![batch(6), batch(6)]];
            for model in [made.model.clone(), made.model.clone().materialize()] {
                let tuned = tune(model.clone(), &made.plan, &epochs, 12, &config).unwrap();
                assert_ne!(bytes(&tuned), bytes(&model));
                // Paths of parameters stay: what was materialised comes back so.
                assert_eq!(paths(&tuned), paths(&model));
                assert_eq!(wrong(&made.plan, &tuned), (0, 0));
            }
            // Masked and materialised models train to the same weights.
            let both = [made.model.clone(), made.model.clone().materialize()]
                .map(|model| tune(model, &made.plan, &epochs, 12, &config).unwrap().materialize());
            assert_eq!(bytes(&both[0]), bytes(&both[1]));
        }
    }
    // Values that are not zero where the plan removed a connection: they are removed again.
    let made = masked(["b", "c"]);
    let tuned = tune(Mlp::new(8), &made.plan, &[vec![batch(6)]], 6, &steady()).unwrap();
    assert_eq!(wrong(&made.plan, &tuned).0, 0);
    // A model whose own masks keep more is another plan's.
    let error = tune(masked(["b", "c"]).model, &cut_of("b", 0.9), &[vec![batch(6)]], 6, &steady()).unwrap_err();
    assert!(matches!(error, PruneError::ModelMismatch { .. }));
}

/// Muon's steps are dense, whatever the gradients.
#[test]
fn an_optimiser_that_moves_removed_weights_is_held_back_after_each_step() {
    let made = masked(["b", "c"]);
    let matrices = ParamGroup::from_any_predicates(vec!["b.weight".to_string(), "c.weight".to_string()]);
    let optimizer = SgdConfig::new().init().with_group(matrices, MuonConfig::new().build(), None);
    let tune = |model: Mlp| {
        let config = steady().with_epochs(3.0).with_learning_rate(0.05);
        let tune = FineTune::new(&made.plan).config(config).optimizer(optimizer.clone());
        tune.run(model, |_| vec![batch(6), batch(6)].into_iter(), 12, &NoProgress).unwrap().model.materialize()
    };
    let both = [made.model.clone(), made.model.clone().materialize()].map(tune);
    assert_ne!(bytes(&both[0]), bytes(&made.model.clone().materialize()));
    assert_eq!(wrong(&made.plan, &both[1]).0, 0);
    // A removed weight that moved between two steps would change the others. Zeros may differ in their signs.
    let numbers = |model: &Mlp| {
        let all = bytes(model).into_iter().flat_map(|(_, bytes)| bytes);
        let all: Vec<u8> = all.collect();
        all.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect::<Vec<f32>>()
    };
    assert_eq!(numbers(&both[0]), numbers(&both[1]));
}

fn cut_of(layer: &str, share: f64) -> PrunePlan {
    let policy = MagnitudeConnections::l1().layers([layer]).removing(share);
    Planner::new().keep_empty(true).prune(&Mlp::new(8), &input([2, 4]), &policy).unwrap().plan
}

fn paths(model: &Mlp) -> Vec<String> {
    bytes(model).into_iter().map(|(path, _)| path).collect()
}

/// Paths of the parameters that learn in training.
fn learning(model: &Mlp) -> Vec<String> {
    struct Read(Vec<String>);
    impl ParamVisitor for Read {
        fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D>>) {
            if param.base().is_require_grad() {
                self.0.push(path.join());
            }
        }
    }
    let mut read = Read(Vec::new());
    visit_params(&model.clone().train(), &mut read);
    read.0
}

fn changed(before: &Mlp, after: &Mlp) -> Vec<String> {
    let changed = bytes(before).into_iter().zip(bytes(after)).filter(|(before, after)| before != after);
    changed.map(|((path, _), _)| path).collect()
}

#[test]
fn nothing_stays_frozen() {
    let made = masked(["b", "c"]);
    let all = learning(&made.model);
    assert_eq!(all.len(), 8);
    let tuned = tune(made.model.clone(), &made.plan, &[vec![batch(6)]], 6, &steady()).unwrap();
    assert_eq!(changed(&made.model, &tuned), ["b.weight", "b.bias", "c.weight", "c.bias"]);
    assert_eq!(learning(&tuned), all);
    assert!(tuned.clone().train().norm.training.is_enabled());
    // A second run trains everything, statistics included.
    let again = tune(tuned.clone(), &made.plan, &[vec![batch(6)]], 6, &steady().with_all_layers(true)).unwrap();
    let moved = changed(&tuned, &again);
    assert!(
        all.iter().all(|path| moved.contains(path)) && moved.contains(&"norm.running_mean".to_string()),
        "{moved:?}"
    );
    assert_eq!(learning(&again), all);
}

#[test]
fn what_the_user_froze_stays_frozen() {
    let made = masked(["b", "c"]);
    let mut model = made.model.clone();
    model.b = model.b.freeze();
    model.norm = model.norm.freeze();
    let before = learning(&model);
    assert_eq!(before, ["a.weight", "a.bias", "c.weight", "c.bias"]);
    for (all, trained) in [(false, &["c.weight", "c.bias"][..]), (true, &["a.weight", "a.bias", "c.weight", "c.bias"])]
    {
        for model in [model.clone(), model.clone().train()] {
            let tuned = tune(model.clone(), &made.plan, &[vec![batch(6)]], 6, &steady().with_all_layers(all)).unwrap();
            assert_eq!(changed(&model, &tuned), trained);
            assert_eq!(learning(&tuned), before);
            assert!(!tuned.train().norm.training.is_enabled());
        }
    }
}

#[test]
fn weights_that_are_ruined() {
    let PrunedModule { model, plan, .. } = pruned();
    // The only step, so that no later loss tells.
    let huge = |rate| steady().with_learning_rate(rate).with_momentum(0.0);
    for rate in [1e300, f64::MAX] {
        let error = tune(model.clone(), &plan, &[vec![batch(4)]], 4, &huge(rate)).unwrap_err();
        assert!(matches!(error, PruneError::NonFiniteParameter { steps: 1, .. }), "{error}");
        holds(error, &["parameter `", "after 1 steps", "lower the learning rate"]);
    }
    let mut broken = model.clone();
    broken.a.weight = Param::from_tensor(broken.a.weight.val().slice_fill([1..2, 0..1], f32::NAN));
    let error = tune(broken, &plan, &[vec![batch(4)]], 4, &steady()).unwrap_err();
    assert!(matches!(&error, PruneError::NonFiniteModel { path, .. } if path == "a.weight"), "{error}");
    for config in [
        steady().with_learning_rate(f64::NAN),
        steady().with_learning_rate(-1.0),
        steady().with_schedule(Schedule::Exponential(f64::NAN)),
        steady().with_schedule(Schedule::Exponential(-0.5)),
        steady().with_schedule(Schedule::Exponential(f64::MIN_POSITIVE / 1e10)),
        FineTuneConfig { weight_decay: f32::NAN, ..steady() },
        FineTuneConfig { momentum: f64::NAN, ..steady() },
    ] {
        let error = tune(model.clone(), &plan, &[vec![batch(4)]], 4, &config).unwrap_err();
        assert!(matches!(error, PruneError::Config { .. }), "{error}");
    }
}
