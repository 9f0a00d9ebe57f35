//! Pruned models in burn-train's `Learner`: it trains as `fine_tune` does, and what is removed stays zero.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use burn::data::dataloader::batcher::Batcher;
use burn::data::dataloader::{DataLoader, DataLoaderBuilder};
use burn::data::dataset::InMemDataset;
use burn::module::Module;
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamWConfig, ModuleOptimizer, SgdConfig};
use burn::tensor::{Device, Tensor};
use burn::train::logger::InMemoryMetricLogger;
use burn::train::metric::{AccuracyMetric, LossMetric};
use burn::train::{
    ExecutionStrategy, InferenceStep, Learner, LearningResult, MultiDeviceOptim, SupervisedTraining, TrainStep,
};
use burn_sfp_core::{Batch, NoProgress};
use burn_sfp_graph::GraphModule;
use burn_sfp_prune::{
    BiasCorrection, Budget, Distillation, FineTune, FineTuneConfig, Planner, PrunePlan, PrunedModule, Schedule,
    Trainable,
};

#[allow(dead_code)]
#[path = "recover/net.rs"]
mod net;
use net::{CLASSES, LastFirst, Net, images};

const SAMPLES: usize = 12;
const BATCH: usize = 4;

/// Cuts batches out of a fixed set, by sample numbers.
#[derive(Clone)]
struct Samples;

fn batch(samples: &[usize]) -> Batch<Tensor<4>> {
    let all = images(SAMPLES, 21);
    let input = Tensor::cat(samples.iter().map(|&sample| all.clone().slice_dim(0, sample..sample + 1)).collect(), 0);
    Batch { input, labels: samples.iter().map(|sample| sample * 5 % CLASSES).collect() }
}

impl Batcher<usize, Batch<Tensor<4>>> for Samples {
    fn batch(&self, items: Vec<usize>, device: &Device) -> Batch<Tensor<4>> {
        let Batch { input, labels } = batch(&items);
        Batch { input: input.to_device(device), labels }
    }
}

fn loader() -> Arc<dyn DataLoader<Batch<Tensor<4>>>> {
    loader_of((0..SAMPLES).collect(), BATCH)
}

/// These samples, in this order.
fn loader_of(samples: Vec<usize>, size: usize) -> Arc<dyn DataLoader<Batch<Tensor<4>>>> {
    DataLoaderBuilder::new(Samples).batch_size(size).build(InMemDataset::new(samples))
}

/// Half of the channels go, and a quarter of two layers' connections.
fn pruned() -> (Net, PrunedModule<Net>) {
    let model = Net::new(1);
    let planner = Planner::new().budget(Budget::PerLayer(0.5)).bias_correction(BiasCorrection::Off);
    let made = planner.prune(&model, &images(2, 1), &LastFirst { masked: &["dilated", "hidden"] }).unwrap();
    (model, made)
}

fn sgd() -> ModuleOptimizer {
    let momentum = MomentumConfig::new().with_momentum(0.9).with_dampening(0.0).with_nesterov(true);
    let decay = WeightDecayConfig::new(0.05);
    SgdConfig::new().with_momentum(Some(momentum)).with_weight_decay(Some(decay)).init()
}

fn training(folder: &tempfile::TempDir) -> SupervisedTraining<Trainable<Net>> {
    SupervisedTraining::new(folder.path(), loader(), loader())
        .metrics((AccuracyMetric::new(), LossMetric::new()))
        .with_metric_logger(InMemoryMetricLogger::new())
        .with_application_logger(None)
}

fn trained(model: Trainable<Net>, optimizer: ModuleOptimizer, epochs: usize) -> Net {
    let folder = tempfile::tempdir().unwrap();
    let LearningResult { model, .. } =
        training(&folder).num_epochs(epochs).launch(Learner::new(model, optimizer, 0.01));
    model.into_model()
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

fn logits(model: &Net) -> Vec<f32> {
    values(model.valid().run(images(5, 77)))
}

fn far(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0.0, |most, (a, b)| most.max((a - b).abs()))
}

/// The weights of two layers of the smaller model, where the plan removes connections.
fn removed(model: &Net, plan: &PrunePlan) -> Vec<f32> {
    let zeros = plan.apply(&ones()).unwrap();
    let pick = |weights: Vec<f32>, zeros: Vec<f32>| {
        weights.into_iter().zip(zeros).filter(|(_, zero)| *zero == 0.0).map(|(weight, _)| weight).collect::<Vec<_>>()
    };
    let mut removed = pick(values(model.dilated.weight.val()), values(zeros.dilated.weight.val()));
    removed.extend(pick(values(model.hidden.weight.val()), values(zeros.hidden.weight.val())));
    removed
}

/// The network with nothing at zero.
fn ones() -> Net {
    struct Ones;
    impl burn::module::ModuleMapper for Ones {
        fn map_float<const D: usize>(
            &mut self,
            param: burn::module::Param<Tensor<D>>,
        ) -> burn::module::Param<Tensor<D>> {
            param.map(|tensor| tensor.ones_like())
        }
    }
    Net::new(3).map(&mut Ones)
}

/// `fine_tune` on the same batches, with the same optimiser.
fn plainly(made: &PrunedModule<Net>, teacher: Option<(&Net, Distillation)>, config: FineTuneConfig) -> Net {
    let epoch =
        |_| (0..SAMPLES / BATCH).map(|index| Ok(batch(&(index * BATCH..(index + 1) * BATCH).collect::<Vec<_>>())));
    let config = config.with_learning_rate(0.01).with_schedule(Schedule::Constant);
    let tune = FineTune::new(&made.plan).config(config).optimizer(sgd());
    let tune = match teacher {
        Some((teacher, distillation)) => tune.distill(teacher, distillation),
        None => tune,
    };
    tune.run(made.model.clone(), epoch, SAMPLES, &NoProgress).unwrap().model
}

#[test]
fn trains_as_fine_tune_does() {
    let (original, made) = pruned();
    let config = FineTuneConfig::new().with_epochs(2.0);
    let distillation = Distillation::new().temperature(2.0).weight(0.4);
    let of = || Trainable::new(made.model.clone(), &made.plan).unwrap();
    let pairs = [
        (of(), plainly(&made, None, config.clone())),
        (of().all_layers(), plainly(&made, None, config.clone().with_all_layers(true))),
        (of().label_smoothing(0.2).unwrap(), plainly(&made, None, config.clone().with_label_smoothing(0.2))),
        (of().distill(&original, distillation).unwrap(), plainly(&made, Some((&original, distillation)), config)),
    ];
    let before = logits(&made.model);
    for (index, (model, expected)) in pairs.into_iter().enumerate() {
        let found = logits(&trained(model, sgd(), 2));
        let expected = logits(&expected);
        assert!(far(&found, &expected) < 1e-5, "{index}: {}", far(&found, &expected));
        assert!(far(&found, &before) > 1e-3, "{index} trained nothing");
    }
}

#[test]
fn removed_stays_zero() {
    let (_, made) = pruned();
    let folded = made.model.clone().materialize();
    let decay = || AdamWConfig::new().with_weight_decay(0.1).init();
    for (model, optimizer) in [(made.model.clone(), sgd()), (folded.clone(), sgd()), (folded, decay())] {
        let model = trained(Trainable::new(model, &made.plan).unwrap(), optimizer, 3);
        let removed = removed(&model, &made.plan);
        assert!(removed.len() > 50, "{}", removed.len());
        assert!(removed.iter().all(|value| *value == 0.0));
        // It is still the plan's model, and learns as before.
        assert!(Trainable::new(model.clone(), &made.plan).is_ok());
        assert!(model.train().classifier.weight.base().is_require_grad());
    }
}

#[test]
fn accumulated_gradients_and_checkpoints() {
    let (_, made) = pruned();
    let folder = tempfile::tempdir().unwrap();
    let learner = || {
        let model = Trainable::new(made.model.clone(), &made.plan).unwrap();
        Learner::new(model, sgd(), 0.01)
    };
    let start = || training(&folder).with_default_checkpointers().grads_accumulation(2);
    start().num_epochs(1).launch(learner());
    let resumed = start().num_epochs(3).checkpoint(1).launch(learner()).model.into_model();
    let whole = tempfile::tempdir().unwrap();
    let expected = training(&whole).grads_accumulation(2).num_epochs(3).launch(learner()).model.into_model();
    assert_eq!(logits(&resumed), logits(&expected));
    assert!(removed(&resumed, &made.plan).iter().all(|value| *value == 0.0));
}

#[test]
fn masked_models_train_below_their_masks() {
    let (original, made) = pruned();
    let masked = made.plan.mask(&original).unwrap();
    let model = trained(Trainable::new(masked, &made.plan).unwrap(), sgd(), 2);
    let expected = trained(Trainable::new(made.model.clone(), &made.plan).unwrap().all_layers(), sgd(), 2);
    let rewritten = made.plan.apply(&model).unwrap();
    assert!(far(&logits(&rewritten), &logits(&expected)) < 1e-4);
    assert!(far(&logits(&model), &logits(&expected)) < 1e-4);
}

#[test]
fn validation_is_plain_cross_entropy() {
    let (original, made) = pruned();
    let model = Trainable::new(made.model.clone(), &made.plan).unwrap();
    let taught = model.clone().label_smoothing(0.3).unwrap().distill(&original, Distillation::new()).unwrap();
    let data = batch(&[0, 1, 2]);
    let loss = |model: &Trainable<Net>| {
        let output = InferenceStep::step(&model.valid(), data.clone());
        assert!(!output.loss.is_tracked());
        output.loss.into_scalar::<f32>()
    };
    let rows = values(made.model.valid().run(data.input.clone()));
    let logs = rows.chunks(CLASSES).zip(&data.labels).map(|(row, &label)| {
        let sum: f64 = row.iter().map(|logit| f64::from(*logit).exp()).sum();
        sum.ln() - f64::from(row[label])
    });
    let expected = logs.sum::<f64>() / 3.0;
    assert!((f64::from(loss(&model)) - expected).abs() < 1e-5, "{} {expected}", loss(&model));
    assert_eq!(loss(&model), loss(&taught));
}

#[test]
fn errors_say_what_is_wrong() {
    let (original, made) = pruned();
    let error = Trainable::new(original.clone(), &made.plan).unwrap_err().to_string();
    assert!(error.contains("weight"), "{error}");
    let error = Trainable::new(made.model.clone().freeze(), &made.plan).unwrap_err().to_string();
    assert!(error.contains("frozen"), "{error}");
    let model = Trainable::new(made.model.clone(), &made.plan).unwrap();
    let error = model.clone().label_smoothing(1.0).unwrap_err().to_string();
    assert!(error.contains("label smoothing is 1"), "{error}");
    let error = model.clone().distill(&original, Distillation::new().weight(2.0)).unwrap_err().to_string();
    assert!(error.contains("weight of the distillation is 2"), "{error}");
    // Burn-train knows no errors of steps: the panic says what the error would.
    let wrong = Batch { labels: vec![0, CLASSES], ..batch(&[0, 1]) };
    let step = catch_unwind(AssertUnwindSafe(|| TrainStep::step(&model, wrong).item.loss)).unwrap_err();
    let message = step.downcast_ref::<String>().unwrap();
    assert!(message.contains("label 3"), "{message}");
}

/// Each device takes its part of the data, and the gradients of all are added up: the same as batches of one device whose gradients are
/// accumulated.
#[test]
fn several_devices_train_as_one_that_accumulates() {
    let (_, made) = pruned();
    let trained = |samples: Vec<usize>, strategy: ExecutionStrategy, accumulated: Option<usize>| {
        let folder = tempfile::tempdir().unwrap();
        let model = Trainable::new(made.model.clone(), &made.plan).unwrap();
        let training = SupervisedTraining::new(folder.path(), loader_of(samples, 3), loader())
            .metrics((LossMetric::new(),))
            .with_metric_logger(InMemoryMetricLogger::new())
            .with_application_logger(None)
            .with_training_strategy(strategy.into());
        let training = match accumulated {
            Some(batches) => training.grads_accumulation(batches),
            None => training,
        };
        training.num_epochs(2).launch(Learner::new(model, sgd(), 0.01)).model.into_model()
    };
    let device = Device::flex();
    let two = ExecutionStrategy::multi(vec![device.clone(), device.clone()], MultiDeviceOptim::OptimMainDevice);
    let found = trained((0..12).collect(), two, None);
    let expected = trained(vec![0, 1, 2, 6, 7, 8, 3, 4, 5, 9, 10, 11], ExecutionStrategy::single(device), Some(2));
    let gone = removed(&found, &made.plan);
    assert!(!gone.is_empty() && gone.iter().all(|weight| *weight == 0.0), "{gone:?}");
    for of in [|net: &Net| values(net.dilated.weight.val()), |net: &Net| values(net.hidden.weight.val())] {
        assert!(far(&of(&found), &of(&made.model)) > 1e-4, "nothing was learned");
        assert!(far(&of(&found), &of(&expected)) < 1e-5, "{}", far(&of(&found), &of(&expected)));
    }
}
