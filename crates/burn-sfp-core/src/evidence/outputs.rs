//! [`OutputStatistics`]: means and share of zeros of the output of each filter.

use burn::tensor::{Int, Tensor};
use burn_sfp_nn::tensor::on_host;
use ndarray::{ArrayView3, Axis};
use rayon::prelude::*;

use crate::SfpError;
use crate::sums::doubles;

/// Statistics of the output of a layer, filter by filter, over all samples and positions. The output is read where the
/// analysis reads it: after the normalisation, activation and pooling that follow directly
/// ([`OutputTap`](burn_sfp_graph::OutputTap)).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct OutputStatistics {
    /// Mean of the values, `[F]`.
    pub mean: Vec<f64>,
    /// Mean of the absolute values, `[F]`.
    pub mean_absolute: Vec<f64>,
    /// Share of the values that are exactly zero, from 0 to 1, `[F]`.
    pub zeros: Vec<f64>,
}

/// Most values that are counted before the count is read.
const MOST_COUNTED: u64 = 1 << 30;

/// Sums over the values of a filter.
#[derive(Clone, Copy, Default)]
struct Sums {
    values: f64,
    absolute: f64,
    zeros: u64,
}

/// The sums of a layer over a part of the data.
pub(super) struct OutputPart {
    filters: Vec<Sums>,
    count: u64,
}

/// The running sums of a layer.
pub(super) struct OutputSums {
    pub path: String,
    filters: Vec<Sums>,
    /// Values of each filter.
    count: u64,
    /// On another device than the CPU.
    on_device: Option<OnDevice>,
}

/// Sums by Burn's operations, `[1, F, 1]`.
struct OnDevice {
    values: Tensor<3>,
    absolute: Tensor<3>,
    zeros: Tensor<3, Int>,
    /// Values of each filter that they are of.
    count: u64,
}

impl OutputSums {
    pub fn new(path: &str, filters: usize) -> Self {
        Self { path: path.into(), filters: vec![Sums::default(); filters], count: 0, on_device: None }
    }

    /// Adds a batch `[N, F, S]`.
    pub fn add(&mut self, acts: &Tensor<3>) -> Result<(), SfpError> {
        match on_host(acts, |acts| self.add_view(acts)) {
            Some(()) => Ok(()),
            None => self.add_on_device(acts),
        }
    }

    fn add_on_device(&mut self, acts: &Tensor<3>) -> Result<(), SfpError> {
        let [samples, _, positions] = acts.dims();
        let count = (samples * positions) as u64;
        self.count += count;
        // A device may count in 32 bits.
        if self.on_device.as_ref().is_some_and(|sums| sums.count + count > MOST_COUNTED) {
            self.read()?;
        }
        let sum = |values: Tensor<3>| values.sum_dim(2).sum_dim(0);
        let (values, absolute) = (sum(acts.clone()), sum(acts.clone().abs()));
        let zeros = acts.clone().equal_elem(0.0).int().sum_dim(2).sum_dim(0);
        self.on_device = Some(match self.on_device.take() {
            None => OnDevice { values, absolute, zeros, count },
            Some(all) => OnDevice {
                values: all.values + values,
                absolute: all.absolute + absolute,
                zeros: all.zeros + zeros,
                count: all.count + count,
            },
        });
        Ok(())
    }

    /// Takes the sums, after which they begin at zero again.
    pub fn take(&mut self) -> Result<OutputPart, SfpError> {
        self.read()?;
        let zeros = vec![Sums::default(); self.filters.len()];
        Ok(OutputPart { filters: std::mem::replace(&mut self.filters, zeros), count: std::mem::take(&mut self.count) })
    }

    /// Adds what was taken of another part of the data.
    pub fn merge(&mut self, part: OutputPart) {
        for (sums, own) in self.filters.iter_mut().zip(part.filters) {
            sums.values += own.values;
            sums.absolute += own.absolute;
            sums.zeros += own.zeros;
        }
        self.count += part.count;
    }

    /// Takes the sums from the device.
    fn read(&mut self) -> Result<(), SfpError> {
        let Some(OnDevice { values, absolute, zeros, .. }) = self.on_device.take() else { return Ok(()) };
        let zeros = zeros.into_data().iter::<i64>().map(|count| count as u64).collect::<Vec<u64>>();
        let sums = doubles(values)?.into_iter().zip(doubles(absolute)?).zip(zeros);
        for (all, ((values, absolute), zeros)) in self.filters.iter_mut().zip(sums) {
            all.values += values;
            all.absolute += absolute;
            all.zeros += zeros;
        }
        Ok(())
    }

    /// Each filter is summed by one thread in the order of its values.
    fn add_view(&mut self, acts: ArrayView3<'_, f32>) {
        let (samples, _, positions) = acts.dim();
        self.filters.par_iter_mut().zip(acts.axis_iter(Axis(1)).into_par_iter()).for_each(|(sums, values)| {
            for &value in values {
                let value = f64::from(value);
                sums.values += value;
                sums.absolute += value.abs();
                sums.zeros += u64::from(value == 0.0);
            }
        });
        self.count += (samples * positions) as u64;
    }

    pub fn finish(mut self) -> Result<(String, OutputStatistics), SfpError> {
        self.read()?;
        let count = self.count.max(1) as f64;
        let of = |read: &dyn Fn(&Sums) -> f64| self.filters.iter().map(|sums| read(sums) / count).collect::<Vec<f64>>();
        let found = OutputStatistics {
            mean: of(&|sums| sums.values),
            mean_absolute: of(&|sums| sums.absolute),
            zeros: of(&|sums| sums.zeros as f64),
        };
        match found.mean.iter().position(|mean| !mean.is_finite()) {
            None => Ok((self.path, found)),
            Some(filter) => Err(SfpError::NonFiniteOutput { path: self.path, filter, value: found.mean[filter] }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};
    use ndarray::Array3;

    #[test]
    fn batches_add_up() {
        let acts = Array3::from_shape_fn((4, 3, 5), |(n, f, s)| ((n * 15 + f * 5 + s) % 4) as f32 - f as f32);
        let values = TensorData::new(acts.iter().copied().collect::<Vec<f32>>(), [4, 3, 5]);
        let tensor = Tensor::<3>::from_data(values, &Device::flex());
        let (mut here, mut there) = (OutputSums::new("conv", 3), OutputSums::new("conv", 3));
        for _ in 0..2 {
            here.add(&tensor).unwrap();
            there.add_on_device(&tensor).unwrap();
        }
        for (sums, digits) in [(here, 1e-12), (there, 1e-6)] {
            let (path, found) = sums.finish().unwrap();
            assert_eq!(path, "conv");
            for f in 0..3 {
                let values: Vec<f64> = acts.index_axis(Axis(1), f).iter().map(|&v| f64::from(v)).collect();
                let mean = |read: &dyn Fn(f64) -> f64| values.iter().map(|&v| read(v)).sum::<f64>() / 20.0;
                assert!((found.mean[f] - mean(&|v| v)).abs() < digits);
                assert!((found.mean_absolute[f] - mean(&f64::abs)).abs() < digits);
                assert!((found.zeros[f] - mean(&|v| f64::from(u8::from(v == 0.0)))).abs() < 1e-12);
            }
            assert!(found.zeros[0] > 0.0);
        }
    }

    #[test]
    fn a_nan_is_an_error_with_its_filter() {
        let mut sums = OutputSums::new("conv", 2);
        sums.add(&Tensor::from_floats([[[1.0], [f32::NAN]]], &Device::flex())).unwrap();
        assert!(matches!(sums.finish(), Err(SfpError::NonFiniteOutput { path, filter: 1, .. }) if path == "conv"));
    }
}
