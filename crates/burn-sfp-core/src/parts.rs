//! Smaller batches where a device lacks the memory for those of the caller.

use std::fmt::Display;
use std::marker::PhantomData;

use burn_sfp_graph::ModuleInput;

use crate::{Batch, BatchIter, Calibration, SfpError};

/// Most parts that a batch is cut into before a pass fails.
const MOST: usize = 1024;

/// An error that may say that a device lacked memory.
pub trait MayLackMemory: Display {
    /// Whether the same work may succeed with smaller batches.
    fn lacks_memory(&self) -> bool;
}

impl MayLackMemory for SfpError {
    fn lacks_memory(&self) -> bool {
        self.is_out_of_memory()
    }
}

/// Starts over with every batch cut in half, in four, and so on, until the device has enough memory or no batch can be cut
/// any more. It is for sums over samples (class sums, normal equations, moments), whose result is that of the whole batches, up to
/// rounding. Batches of a fixed size are not cut.
///
/// # Errors
/// That of the attempt: of the first one whose error is not about memory, or of the last.
pub fn in_smaller_batches<T, E: MayLackMemory>(
    is_fixed: bool,
    mut attempt: impl FnMut(usize) -> Result<T, E>,
) -> Result<T, E> {
    if is_fixed { attempt(1) } else { in_smaller_batches_from(1, attempt) }
}

/// The same, beginning with every batch cut into so many parts.
pub(crate) fn in_smaller_batches_from<T, E: MayLackMemory>(
    first: usize,
    mut attempt: impl FnMut(usize) -> Result<T, E>,
) -> Result<T, E> {
    let mut parts = first;
    loop {
        match attempt(parts) {
            Err(error) if error.lacks_memory() && parts < MOST => {
                parts *= 2;
                tracing::warn!("{error}: starting over with every batch cut into {parts}");
            }
            done => return done,
        }
    }
}

/// Calibration data whose batches are cut into parts of equal size, the last one perhaps smaller.
pub struct Parts<'a, I, C: ?Sized> {
    data: &'a C,
    parts: usize,
    input: PhantomData<&'a I>,
}

impl<'a, I, C: ?Sized> Parts<'a, I, C> {
    /// Cuts each batch of `data` into so many parts.
    pub fn new(data: &'a C, parts: usize) -> Self {
        Self { data, parts, input: PhantomData }
    }
}

impl<I: ModuleInput, C: Calibration<I> + ?Sized> Calibration<I> for Parts<'_, I, C> {
    fn batches(&self) -> BatchIter<'_, I> {
        if self.parts == 1 {
            return self.data.batches();
        }
        Box::new(self.data.batches().flat_map(|batch| match batch {
            Ok(batch) => cut(batch, self.parts).into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        }))
    }

    fn samples(&self) -> Option<usize> {
        self.data.samples()
    }
}

fn cut<I: ModuleInput>(batch: Batch<I>, parts: usize) -> Vec<Batch<I>> {
    let samples = batch.input.samples();
    if samples < 2 || samples != batch.labels.len() {
        // Nothing to cut, or a mismatch that the sweep reports.
        return vec![batch];
    }
    let size = samples.div_ceil(parts);
    let starts = (0..samples).step_by(size);
    let part = |start: usize| {
        let end = (start + size).min(samples);
        Batch { input: batch.input.clone().slice_samples(start, end), labels: batch.labels[start..end].to_vec() }
    };
    starts.map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorCalibration;
    use burn::tensor::{Device, Tensor};

    fn lacking() -> SfpError {
        SfpError::Device { path: "conv".into(), out_of_memory: true, message: "no memory".into() }
    }

    #[test]
    fn starts_over_until_it_fits() {
        let mut seen = Vec::new();
        let mut fit = |most: usize| {
            seen.push(most);
            if most < 8 { Err(lacking()) } else { Ok(most) }
        };
        assert_eq!(in_smaller_batches(false, &mut fit).unwrap(), 8);
        assert_eq!(seen, [1, 2, 4, 8]);
        let mut count = 0;
        let mut never = |_| -> Result<(), SfpError> {
            count += 1;
            Err(lacking())
        };
        assert!(in_smaller_batches(false, &mut never).unwrap_err().is_out_of_memory());
        assert!(in_smaller_batches(true, &mut never).unwrap_err().is_out_of_memory());
        assert_eq!(count, 11 + 1);
        let other = in_smaller_batches(false, |_| -> Result<(), SfpError> { Err(SfpError::NoSamples) });
        assert!(matches!(other, Err(SfpError::NoSamples)));
    }

    #[test]
    fn parts_hold_all_samples_in_order() {
        let values: Vec<f32> = (0..10).map(|n| n as f32).collect();
        let input = Tensor::<1>::from_floats(values.as_slice(), &Device::flex()).reshape([10, 1]);
        let data = TensorCalibration::new(input, (0..10).collect(), 7);
        for parts in [1, 2, 3, 16] {
            let cut = Parts::new(&data, parts);
            let batches: Vec<_> = cut.batches().map(Result::unwrap).collect();
            assert!(batches.iter().all(|batch| batch.labels.len() <= 7_usize.div_ceil(parts)));
            let found: Vec<f32> =
                batches.iter().flat_map(|b| b.input.clone().into_data().iter::<f32>().collect::<Vec<_>>()).collect();
            assert_eq!(found, values);
            let labels: Vec<usize> = batches.into_iter().flat_map(|batch| batch.labels).collect();
            assert_eq!(labels, (0..10).collect::<Vec<_>>());
            assert_eq!(cut.samples(), data.samples());
        }
    }
}
