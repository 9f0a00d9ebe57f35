//! Training on stored outputs of the frozen layers trains as the whole model does, and goes on after a kill with the same bits.

#[path = "../common/inspect.rs"]
mod inspect;
mod killed;
mod networks;
mod refused;
mod same;
mod stored;

use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use burn_sfp_core::{Batch, DataError, SfpModule};
use burn_sfp_nn::walk::{ParamPath, ParamVisitor, visit_params};
use burn_sfp_prune::{FineTuneConfig, MagnitudeConnections, Planner, PrunedModule, Schedule, StoreConfig, epoch_order};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Random numbers are of the process, so that tests run one at a time.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Samples of a copy.
pub(crate) const SAMPLES: usize = 14;
/// The last batch of an epoch holds two samples.
pub(crate) const BATCH: usize = 4;

pub(crate) type Images = Tensor<4>;
pub(crate) type Loaded = Result<Batch<Images>, DataError>;

/// Augmented copy `copy` of all images, `[14, 2, 8, 8]`.
pub(crate) fn copy(copy: usize) -> Images {
    let mut rng = ChaCha8Rng::seed_from_u64(copy as u64);
    let values: Vec<f32> = (0..SAMPLES * 128).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_data(TensorData::new(values, [SAMPLES, 2, 8, 8]), &Device::flex())
}

pub(crate) fn label(sample: usize) -> usize {
    (sample * 5 + sample / 3) % 3
}

/// Some samples of a copy as a batch.
pub(crate) fn batch(number: usize, samples: &[usize]) -> Loaded {
    let all = copy(number);
    let rows = samples.iter().map(|&sample| all.clone().slice_dim(0, sample..sample + 1)).collect();
    Ok(Batch { input: Tensor::cat(rows, 0), labels: samples.iter().map(|&sample| label(sample)).collect() })
}

/// A pass over a copy in its order, in batches of five.
pub(crate) fn pass(number: usize) -> impl Iterator<Item = Loaded> {
    let all: Vec<usize> = (0..SAMPLES).collect();
    let batches: Vec<Loaded> = all.chunks(5).map(|samples| batch(number, samples)).collect();
    batches.into_iter()
}

/// The epoch that a store with this seed takes, for the whole model.
pub(crate) fn epoch(seed: u64, copies: usize) -> impl Fn(usize) -> std::vec::IntoIter<Loaded> {
    move |number| {
        let order = epoch_order(SAMPLES, seed, number);
        order.chunks(BATCH).map(|samples| batch(number % copies, samples)).collect::<Vec<_>>().into_iter()
    }
}

/// Connections of these layers at zero.
pub(crate) fn pruned<M: SfpModule<Inputs = Images>>(model: &M, layers: &[&str]) -> PrunedModule<M> {
    let policy = MagnitudeConnections::l1().layers(layers.iter().copied()).removing(0.6);
    Planner::new().keep_empty(true).prune(model, &copy(0), &policy).unwrap()
}

pub(crate) fn config() -> FineTuneConfig {
    FineTuneConfig::new().with_epochs(4.0).with_learning_rate(0.05).with_schedule(Schedule::Exponential(0.9))
}

pub(crate) fn store() -> StoreConfig {
    StoreConfig::new().copies(3).batch_size(BATCH).seed(7)
}

/// All float parameters and running statistics, by path.
pub(crate) fn weights<M: Module>(model: &M) -> Vec<(String, Vec<f32>)> {
    struct Read(Vec<(String, Vec<f32>)>);
    impl ParamVisitor for Read {
        fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D>>) {
            self.0.push((path.join(), inspect::values(param.base())));
        }
    }
    let mut read = Read(Vec::new());
    visit_params(model, &mut read);
    read.0
}

/// The largest difference of a parameter over its largest value, and its path.
pub(crate) fn apart<M: Module>(a: &M, b: &M) -> (f32, String) {
    let (a, b) = (weights(a), weights(b));
    assert_eq!(a.len(), b.len());
    let mut worst = (0.0, String::new());
    for ((path, a), (_, b)) in a.iter().zip(&b) {
        let largest = b.iter().fold(1e-3_f32, |largest, value| largest.max(value.abs()));
        let off = a.iter().zip(b).fold(0.0_f32, |off, (a, b)| off.max((a - b).abs())) / largest;
        assert!(off.is_finite());
        if off > worst.0 {
            worst = (off, path.clone());
        }
    }
    worst
}
