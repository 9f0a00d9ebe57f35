//! A network trained by burn-train's `Learner`, pruned, and trained once more by the `Learner` with the original as its teacher.
//!
//! `cargo run --release -p learner` takes a few seconds and needs no data: points in the plane, labelled by the ring that they are in.

use std::error::Error;
use std::sync::Arc;

use burn::data::dataloader::batcher::Batcher;
use burn::data::dataloader::{DataLoader, DataLoaderBuilder};
use burn::data::dataset::InMemDataset;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig};
use burn::optim::AdamConfig;
use burn::prelude::*;
use burn::tensor::activation::relu;
use burn::train::metric::{AccuracyMetric, LossMetric};
use burn::train::{
    ClassificationOutput, InferenceStep, Learner, LearnerModel, SupervisedTraining, TrainOutput, TrainStep,
};
use burn_sfp::prelude::*;

/// Rings, and so classes.
const RINGS: usize = 3;

/// `[samples, 2]` to `[samples, 3]`.
#[derive(Module, Debug)]
struct Mlp {
    first: Linear,
    second: Linear,
    classifier: Linear,
}

impl Mlp {
    fn new(device: &Device) -> Self {
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        Self { first: linear(2, 32), second: linear(32, 32), classifier: linear(32, RINGS) }
    }
}

impl GraphModule for Mlp {
    type Inputs = Tensor<2>;
    type Outputs = Tensor<2>;

    fn run(&self, x: Tensor<2>) -> Tensor<2> {
        self.classifier.forward(relu(self.second.forward(relu(self.first.forward(x)))))
    }
}

/// The steps that a user of the `Learner` has written already.
impl Mlp {
    fn output(&self, batch: Batch<Tensor<2>>) -> ClassificationOutput {
        let device = batch.input.device();
        let logits = self.run(batch.input);
        let labels: Vec<i64> = batch.labels.iter().map(|&label| label as i64).collect();
        let targets = Tensor::<1, Int>::from_ints(labels.as_slice(), &device);
        let loss = CrossEntropyLossConfig::new().init(&device).forward(logits.clone(), targets.clone());
        ClassificationOutput::new(loss, logits, targets)
    }
}

impl TrainStep for Mlp {
    type Input = Batch<Tensor<2>>;
    type Output = ClassificationOutput;

    fn step(&self, batch: Self::Input) -> TrainOutput<ClassificationOutput> {
        let output = self.output(batch);
        TrainOutput::new(self, output.loss.backward(), output)
    }
}

impl InferenceStep for Mlp {
    type Input = Batch<Tensor<2>>;
    type Output = ClassificationOutput;

    fn step(&self, batch: Self::Input) -> ClassificationOutput {
        self.output(batch)
    }
}

/// A point and its ring.
type Point = ([f32; 2], usize);

/// Points that fill the rings evenly; `turn` tells one set from another.
fn points(count: usize, turn: f32) -> Vec<Point> {
    // A sequence of low discrepancy in two dimensions.
    let point = |k: usize| {
        let radius = RINGS as f32 * (k as f32 * 0.754_877_7 + turn).fract();
        let angle = std::f32::consts::TAU * (k as f32 * 0.569_840_3 + turn).fract();
        ([radius * angle.cos(), radius * angle.sin()], (radius as usize).min(RINGS - 1))
    };
    (0..count).map(point).collect()
}

#[derive(Clone)]
struct Points;

impl Batcher<Point, Batch<Tensor<2>>> for Points {
    fn batch(&self, points: Vec<Point>, device: &Device) -> Batch<Tensor<2>> {
        let labels = points.iter().map(|(_, ring)| *ring).collect();
        let values: Vec<f32> = points.iter().flat_map(|(point, _)| *point).collect();
        let input = Tensor::from_data(TensorData::new(values, [points.len(), 2]), device);
        Batch { input, labels }
    }
}

fn loader(points: Vec<Point>) -> Arc<dyn DataLoader<Batch<Tensor<2>>>> {
    DataLoaderBuilder::new(Points).batch_size(64).shuffle(1).build(InMemDataset::new(points))
}

/// Trains on one set of points and validates on another.
fn train<M>(model: M, epochs: usize) -> Result<M, Box<dyn Error>>
where
    M: LearnerModel
        + TrainStep<Input = Batch<Tensor<2>>, Output = ClassificationOutput>
        + InferenceStep<Input = Batch<Tensor<2>>, Output = ClassificationOutput>,
{
    let folder = tempfile::tempdir()?;
    let training = SupervisedTraining::new(folder.path(), loader(points(2048, 0.0)), loader(points(512, 0.3)))
        .metrics((AccuracyMetric::new(), LossMetric::new()))
        .num_epochs(epochs);
    Ok(training.launch(Learner::new(model, AdamConfig::new().init(), 5e-3)).model)
}

fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::flex();
    device.seed(1);
    let original = train(Mlp::new(&device.clone().autodiff()), 15)?;

    let calibration: Vec<Batch<Tensor<2>>> =
        points(1024, 0.6).chunks(128).map(|points| Points.batch(points.to_vec(), &device)).collect();
    let input = Tensor::cat(calibration.iter().map(|batch| batch.input.clone()).collect(), 0);
    let labels = calibration.into_iter().flat_map(|batch| batch.labels).collect();
    let calibration = TensorCalibration::new(input, labels, 128);
    let pruned = Pruner::new(&calibration).budget(Keep::macs(0.3)).analyze_and_prune(&original)?;
    println!("{}", pruned.summary());

    // The pruned network takes the place of the original in the same training.
    let model = Trainable::new(pruned.model.clone(), &pruned.plan)?.distill(&original, Distillation::new())?;
    let smaller: Mlp = train(model, 5)?.into_model();

    let held_out = Points.batch(points(512, 0.3), &device);
    let top1 = |model: &Mlp| {
        let best = model.valid().run(held_out.input.clone()).argmax(1).into_data();
        let hits = best.iter::<i64>().zip(&held_out.labels).filter(|(best, label)| *best == **label as i64).count();
        100.0 * hits as f64 / held_out.labels.len() as f64
    };
    println!("top-1 of the original {:.1} %", top1(&original));
    println!("pruned to 30 % of the multiply-adds and recovered {:.1} %", top1(&pruned.model));
    println!("trained once more {:.1} %", top1(&smaller));
    Ok(())
}
