//! Labelled calibration batches, one at a time in memory: from tensors, from a Burn `DataLoader`, from an iterator.

use std::sync::Arc;

use burn::data::dataloader::DataLoader;

use crate::ModuleInput;

/// Samples and their labels.
#[derive(Clone, Debug)]
pub struct Batch<I> {
    /// The model's input; the first axis of each tensor counts the samples.
    pub input: I,
    /// One label a sample, from 0 to the number of classes less one.
    pub labels: Vec<usize>,
}

/// The batches of one pass, or why one could not be read.
pub type BatchIter<'a, I> = Box<dyn Iterator<Item = Result<Batch<I>, String>> + 'a>;

/// A source of labelled batches that can be walked through more than once.
///
/// The gradient readouts walk through it once an epoch, everything else once. Each walk must give
/// the same samples; for the same bits it must also give them in the same order.
pub trait Calibration<I> {
    /// Starts a pass over the data.
    fn batches(&self) -> BatchIter<'_, I>;

    /// Number of samples of a pass, where it is known (for progress only).
    fn samples(&self) -> Option<usize> {
        None
    }
}

/// Calibration data that is in memory already, cut into batches.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_sfp_core::{Calibration, TensorCalibration};
///
/// let images = Tensor::<4>::zeros([10, 3, 8, 8], &Device::flex());
/// let data = TensorCalibration::new(images, vec![0; 10], 4);
/// let sizes: Vec<usize> = data.batches().map(|b| b.unwrap().labels.len()).collect();
/// assert_eq!(sizes, [4, 4, 2]);
/// ```
#[derive(Clone, Debug)]
pub struct TensorCalibration<I> {
    input: I,
    labels: Vec<usize>,
    batch_size: usize,
}

impl<I: ModuleInput> TensorCalibration<I> {
    /// Input with its samples on the first axis, a label a sample, and how many samples make a batch (at least 1).
    pub fn new(input: I, labels: Vec<usize>, batch_size: usize) -> Self {
        Self { input, labels, batch_size: batch_size.max(1) }
    }
}

impl<I: ModuleInput> Calibration<I> for TensorCalibration<I> {
    fn batches(&self) -> BatchIter<'_, I> {
        let samples = self.input.samples();
        if samples != self.labels.len() {
            // Handed over whole, so that the sweep reports the mismatch.
            let batch = Batch { input: self.input.clone(), labels: self.labels.clone() };
            return Box::new(std::iter::once(Ok(batch)));
        }
        Box::new((0..samples).step_by(self.batch_size).map(move |start| {
            let end = (start + self.batch_size).min(samples);
            Ok(Batch { input: self.input.clone().slice_samples(start, end), labels: self.labels[start..end].to_vec() })
        }))
    }

    fn samples(&self) -> Option<usize> {
        Some(self.labels.len())
    }
}

/// Calibration data from a Burn [`DataLoader`] and a function that turns its batches into [`Batch`]es.
///
/// The loader must not shuffle between passes where the same bits are wanted.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use burn::data::dataloader::DataLoader;
/// # use burn::tensor::{Int, Tensor};
/// # use burn_sfp_core::{Batch, LoaderCalibration};
/// # struct MnistBatch { images: Tensor<4>, targets: Tensor<1, Int> }
/// # fn example(loader: Arc<dyn DataLoader<MnistBatch>>) {
/// let data = LoaderCalibration::new(loader, |batch: MnistBatch| Batch {
///     input: batch.images,
///     labels: batch.targets.into_data().iter::<i64>().map(|label| label as usize).collect(),
/// });
/// # }
/// ```
pub struct LoaderCalibration<B, F> {
    loader: Arc<dyn DataLoader<B>>,
    convert: F,
}

impl<B, F> LoaderCalibration<B, F> {
    /// A loader and the conversion of its batches.
    pub fn new(loader: Arc<dyn DataLoader<B>>, convert: F) -> Self {
        Self { loader, convert }
    }
}

impl<B, I, F: Fn(B) -> Batch<I>> Calibration<I> for LoaderCalibration<B, F> {
    fn batches(&self) -> BatchIter<'_, I> {
        Box::new(self.loader.iter().map(|batch| batch.map(&self.convert).map_err(|error| error.to_string())))
    }

    fn samples(&self) -> Option<usize> {
        Some(self.loader.num_items())
    }
}

/// Calibration data from a function that starts a pass, for everything else (files, generators).
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_sfp_core::{Batch, Calibration, FnCalibration};
///
/// let data = FnCalibration::new(|| {
///     (0..3).map(|k| Ok(Batch { input: Tensor::<2>::zeros([1, 4], &Device::flex()), labels: vec![k] }))
/// });
/// assert_eq!(data.batches().count(), 3);
/// ```
pub struct FnCalibration<F>(F);

impl<F> FnCalibration<F> {
    /// A function that starts a pass over the batches.
    pub fn new(start: F) -> Self {
        Self(start)
    }
}

impl<I, F, It> Calibration<I> for FnCalibration<F>
where
    F: Fn() -> It,
    It: Iterator<Item = Result<Batch<I>, String>> + 'static,
{
    fn batches(&self) -> BatchIter<'_, I> {
        Box::new((self.0)())
    }
}
