//! Labelled calibration batches, one at a time in memory: from tensors, from a Burn `DataLoader`, from a function.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use burn::data::dataloader::DataLoader;

use burn_sfp_graph::ModuleInput;

/// A batch of samples and their labels.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_sfp_core::Batch;
///
/// let batch = Batch { input: Tensor::<4>::zeros([2, 3, 8, 8], &Device::flex()), labels: vec![0, 1] };
/// ```
#[derive(Clone, Debug)]
pub struct Batch<I> {
    /// The model's input; the first axis of each tensor counts the samples.
    pub input: I,
    /// One label per sample, from 0 to the number of classes less one.
    pub labels: Vec<usize>,
}

/// The error of a source of batches. Any error type, `String` and `&str` convert to it with `?` or `into()`.
pub type DataError = Box<dyn Error + Send + Sync>;

/// The batches of one pass, each or the error of the source that could not read it.
pub type BatchIter<'a, I> = Box<dyn Iterator<Item = Result<Batch<I>, DataError>> + 'a>;

/// A source of labelled batches that can be passed over more than once.
///
/// Gradient readouts take a pass per epoch, everything else takes one. Each pass must return the same samples; where results are
/// to be the same bit for bit, in the same order.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_sfp_core::{Batch, BatchIter, Calibration};
///
/// /// Samples in text files, a file per batch, each sample on a line: its label, then its four values.
/// struct TextFiles(Vec<std::path::PathBuf>);
///
/// impl Calibration<Tensor<2>> for TextFiles {
///     fn batches(&self) -> BatchIter<'_, Tensor<2>> {
///         Box::new(self.0.iter().map(|path| {
///             let text = std::fs::read_to_string(path)?;
///             let (mut labels, mut values) = (Vec::new(), Vec::<f32>::new());
///             for line in text.lines() {
///                 let (label, rest) = line.split_once(' ').ok_or("a line holds no value")?;
///                 labels.push(label.parse()?);
///                 for value in rest.split(' ') {
///                     values.push(value.parse()?);
///                 }
///             }
///             let input = Tensor::<1>::from_floats(values.as_slice(), &Device::flex()).reshape([-1, 4]);
///             Ok(Batch { input, labels })
///         }))
///     }
/// }
/// let files = TextFiles(vec!["missing.txt".into()]);
/// let error = files.batches().next().unwrap().unwrap_err();
/// assert!(error.downcast_ref::<std::io::Error>().is_some());
/// ```
pub trait Calibration<I> {
    /// Starts a pass over the data.
    fn batches(&self) -> BatchIter<'_, I>;

    /// Number of samples of a pass where it is known; only for progress.
    fn samples(&self) -> Option<usize> {
        None
    }
}

/// Calibration data that is in memory, cut into batches.
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
    /// Cuts the input, whose first axis counts the samples, and its labels, one per sample, into batches of `batch_size` samples
    /// (at least 1; the last one may be smaller).
    pub fn new(input: I, labels: Vec<usize>, batch_size: usize) -> Self {
        Self { input, labels, batch_size: batch_size.max(1) }
    }
}

impl<I: ModuleInput> Calibration<I> for TensorCalibration<I> {
    fn batches(&self) -> BatchIter<'_, I> {
        let samples = self.labels.len();
        if self.input.shapes().iter().any(|shape| shape.first() != Some(&samples)) || self.input.samples() != samples {
            // Returned whole, so that the sweep reports the mismatch.
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

/// Calibration data without its first samples, for example those that a cancelled analysis has seen.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_sfp_core::{Calibration, SkipSamples, TensorCalibration};
///
/// let data = TensorCalibration::new(Tensor::<2>::zeros([10, 3], &Device::flex()), (0..10).collect(), 4);
/// let labels: Vec<Vec<usize>> = SkipSamples::new(&data, 5).batches().map(|batch| batch.unwrap().labels).collect();
/// assert_eq!(labels, [vec![5, 6, 7], vec![8, 9]]);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct SkipSamples<'a, C: ?Sized> {
    data: &'a C,
    samples: usize,
}

impl<'a, C: ?Sized> SkipSamples<'a, C> {
    /// Leaves out the first samples of every pass.
    pub fn new(data: &'a C, samples: usize) -> Self {
        Self { data, samples }
    }
}

impl<I: ModuleInput + 'static, C: Calibration<I> + ?Sized> Calibration<I> for SkipSamples<'_, C> {
    fn batches(&self) -> BatchIter<'_, I> {
        let mut skip = self.samples;
        Box::new(self.data.batches().filter_map(move |batch| {
            let Ok(batch) = batch else { return Some(batch) };
            let samples = batch.labels.len();
            let from = skip.min(samples);
            skip -= from;
            // What does not hold together is reported as it is.
            match from {
                0 => Some(Ok(batch)),
                from if from == samples => None,
                from if batch.input.samples() != samples => {
                    Some(Ok(Batch { labels: batch.labels[from..].to_vec(), ..batch }))
                }
                from => {
                    let (input, labels) = (batch.input.slice_samples(from, samples), batch.labels[from..].to_vec());
                    Some(Ok(Batch { input, labels }))
                }
            }
        }))
    }

    fn samples(&self) -> Option<usize> {
        self.data.samples().map(|samples| samples.saturating_sub(self.samples))
    }
}

/// Calibration data from a Burn [`DataLoader`] and a function that converts its batches into [`Batch`]es.
///
/// A loader that shuffles changes the order of the samples between passes, and with it the last bits of the result.
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

impl<B, F> fmt::Debug for LoaderCalibration<B, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoaderCalibration").finish_non_exhaustive()
    }
}

impl<B, F> LoaderCalibration<B, F> {
    /// Takes a loader and the conversion of its batches.
    pub fn new(loader: Arc<dyn DataLoader<B>>, convert: F) -> Self {
        Self { loader, convert }
    }
}

impl<B, I, F: Fn(B) -> Batch<I>> Calibration<I> for LoaderCalibration<B, F> {
    fn batches(&self) -> BatchIter<'_, I> {
        Box::new(self.loader.iter().map(|batch| Ok((self.convert)(batch?))))
    }

    fn samples(&self) -> Option<usize> {
        Some(self.loader.num_items())
    }
}

/// Calibration data from a function that starts a pass, for every other source (files, generators).
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
#[derive(Clone)]
pub struct FnCalibration<F>(F);

impl<F> fmt::Debug for FnCalibration<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnCalibration").finish_non_exhaustive()
    }
}

impl<F> FnCalibration<F> {
    /// Takes a function that starts a pass over the batches. Errors are of type [`DataError`]; `Err("..".into())` makes one from
    /// a text.
    pub fn new(start: F) -> Self {
        Self(start)
    }
}

impl<I, F, It> Calibration<I> for FnCalibration<F>
where
    F: Fn() -> It,
    It: Iterator<Item = Result<Batch<I>, DataError>> + 'static,
{
    fn batches(&self) -> BatchIter<'_, I> {
        Box::new((self.0)())
    }
}
