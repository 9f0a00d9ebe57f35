//! [`ChannelMoments`]: mean and variance of each channel.

use burn::tensor::Tensor;
use burn_sfp_nn::tensor::on_host;
use ndarray::{ArrayView3, Axis};
use rayon::prelude::*;

use crate::SfpError;
use crate::sums::{doubles, single};

/// Mean and variance of each channel over all samples and positions, in double precision.
///
/// On flex and ndarray; elsewhere the sums are the device's, in its `f32`, and only they are read back.
///
/// Within a batch the deviations are taken from the mean of the batch, and batches are put together by the formula of Chan, Golub and
/// LeVeque ("Updating formulae and a pairwise algorithm for computing sample variances", 1979), so that a large mean costs no digits. Each
/// channel is summed by one thread.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_sfp_core::ChannelMoments;
///
/// let mut moments = ChannelMoments::new("norm", 1);
/// moments.add(&Tensor::from_floats([[[1.0, 3.0]]], &Device::flex()));
/// moments.add(&Tensor::from_floats([[[5.0, 7.0]]], &Device::flex()));
/// assert_eq!(moments.finish()?, (vec![4.0], vec![5.0]));
/// # Ok::<(), burn_sfp_core::SfpError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ChannelMoments {
    path: String,
    count: u64,
    mean: Vec<f64>,
    /// Sums of squared deviations.
    deviations: Vec<f64>,
    /// Count, mean and deviations of values on another device than the CPU.
    on_device: Option<(u64, [Tensor<3>; 2])>,
}

impl ChannelMoments {
    /// Starts with no sample, for so many channels of the module at `path`.
    pub fn new(path: &str, channels: usize) -> Self {
        Self {
            path: path.into(),
            count: 0,
            mean: vec![0.0; channels],
            deviations: vec![0.0; channels],
            on_device: None,
        }
    }

    /// Adds a batch `[rows, channels, positions]`.
    pub fn add(&mut self, values: &Tensor<3>) {
        if on_host(values, |values| self.add_view(values)).is_none() {
            self.add_on_device(&single(values.clone()));
        }
    }

    fn add_on_device(&mut self, values: &Tensor<3>) {
        let [rows, _, positions] = values.dims();
        let added = (rows * positions) as u64;
        if added == 0 {
            return;
        }
        let batch_mean = values.clone().mean_dim(2).mean_dim(0);
        let batch = (values.clone() - batch_mean.clone()).square().sum_dim(2).sum_dim(0);
        self.on_device = Some(match self.on_device.take() {
            None => (added, [batch_mean, batch]),
            Some((count, [mean, deviations])) => {
                let (before, own, all) = (count as f64, added as f64, (count + added) as f64);
                let step = batch_mean - mean.clone();
                let deviations = deviations + batch + step.clone().square() * (before * own / all);
                (count + added, [mean + step * (own / all), deviations])
            }
        });
    }

    fn add_view(&mut self, values: ArrayView3<'_, f32>) {
        let added = (values.dim().0 * values.dim().2) as u64;
        if added == 0 {
            return;
        }
        let before = self.count as f64;
        self.count += added;
        let (own, all) = (added as f64, self.count as f64);
        let channels = self.mean.par_iter_mut().zip(&mut self.deviations);
        channels.zip(values.axis_iter(Axis(1)).into_par_iter()).for_each(|((mean, deviations), values)| {
            let batch_mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / own;
            let batch = values.iter().map(|&value| (f64::from(value) - batch_mean).powi(2)).sum::<f64>();
            let step = batch_mean - *mean;
            *mean += step * own / all;
            *deviations += batch + step * step * before * own / all;
        });
    }

    /// Adds the moments of other values; both are read from their devices first.
    ///
    /// ```
    /// # use burn::tensor::{Device, Tensor};
    /// # use burn_sfp_core::ChannelMoments;
    /// let of = |values: [f32; 2]| {
    ///     let mut moments = ChannelMoments::new("norm", 1);
    ///     moments.add(&Tensor::<1>::from_floats(values, &Device::flex()).reshape([1, 1, 2]));
    ///     moments
    /// };
    /// let mut all = of([1.0, 3.0]);
    /// all.merge(of([5.0, 7.0]))?;
    /// assert_eq!(all.finish()?, (vec![4.0], vec![5.0]));
    /// # Ok::<(), burn_sfp_core::SfpError>(())
    /// ```
    ///
    /// # Errors
    /// [`SfpError::Layer`] where a device does not return its sums.
    pub fn merge(&mut self, mut other: Self) -> Result<(), SfpError> {
        self.settle()?;
        other.settle()?;
        self.add_sums(other.count, &other.mean, &other.deviations);
        Ok(())
    }

    /// Takes the sums from the device, if they are on one.
    ///
    /// # Errors
    /// [`SfpError::Layer`] where the device does not return them.
    pub fn settle(&mut self) -> Result<(), SfpError> {
        if let Some((count, [mean, deviations])) = self.on_device.take() {
            self.add_sums(count, &doubles(mean)?, &doubles(deviations)?);
        }
        Ok(())
    }

    fn add_sums(&mut self, count: u64, means: &[f64], deviations: &[f64]) {
        let before = self.count as f64;
        self.count += count;
        let (own, all) = (count as f64, self.count.max(1) as f64);
        for (channel, (own_mean, own_deviations)) in means.iter().zip(deviations).enumerate() {
            if before == 0.0 {
                // No rounding where there is nothing to be added to.
                (self.mean[channel], self.deviations[channel]) = (*own_mean, *own_deviations);
                continue;
            }
            let step = own_mean - self.mean[channel];
            self.mean[channel] += step * own / all;
            self.deviations[channel] += own_deviations + step * step * before * own / all;
        }
    }

    /// Values of each channel so far.
    pub fn count(&self) -> u64 {
        self.count + self.on_device.as_ref().map_or(0, |(count, _)| *count)
    }

    /// Mean and variance of each channel; the variance is that of the samples as a population, as batch normalisation takes it.
    ///
    /// # Errors
    /// [`SfpError::NonFiniteInput`] where values were NaN or infinite, [`SfpError::Layer`] where the device does not return its sums.
    pub fn finish(mut self) -> Result<(Vec<f64>, Vec<f64>), SfpError> {
        self.settle()?;
        let count = self.count.max(1) as f64;
        let variance: Vec<f64> = self.deviations.iter().map(|sum| sum / count).collect();
        let undefined = (0..variance.len()).find(|&k| !self.mean[k].is_finite() || !variance[k].is_finite());
        match undefined {
            None => Ok((self.mean, variance)),
            Some(input) => Err(SfpError::NonFiniteInput { path: self.path, input, value: self.mean[input] as f32 }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};
    use ndarray::Array3;

    #[test]
    fn batches_of_different_sizes_add_up() {
        let all = Array3::from_shape_fn((7, 3, 4), |(n, c, s)| ((n * 12 + c * 5 + s * 3) % 11) as f32 + 1e4 * c as f32);
        let (mut here, mut there) = (ChannelMoments::new("norm", 3), ChannelMoments::new("norm", 3));
        let (mut read, mut apart) = (ChannelMoments::new("norm", 3), Vec::new());
        for (from, to) in [(0, 3), (3, 4), (4, 7)] {
            let values: Vec<f32> = all.slice(ndarray::s![from..to, .., ..]).iter().copied().collect();
            let values = Tensor::from_data(TensorData::new(values, [to - from, 3, 4]), &Device::flex());
            here.add(&values);
            there.add_on_device(&values);
            apart.push(ChannelMoments::new("norm", 3));
            apart.iter_mut().rev().take(1).for_each(|own| own.add(&values));
            // Sums go on where they were read.
            read.add_on_device(&values);
            read.settle().unwrap();
        }
        let mut merged = ChannelMoments::new("norm", 3);
        apart.into_iter().for_each(|own| merged.merge(own).unwrap());
        assert_eq!([&here, &there, &merged, &read].map(ChannelMoments::count), [28; 4]);
        for (moments, digits) in [(here, 1e-9_f64), (merged, 1e-9), (there, 1e-3), (read, 1e-3)] {
            let (mean, variance) = moments.finish().unwrap();
            for c in 0..3 {
                let values: Vec<f64> = all.index_axis(Axis(1), c).iter().map(|&value| f64::from(value)).collect();
                let expected = values.iter().sum::<f64>() / 28.0;
                let deviation = values.iter().map(|value| (value - expected).powi(2)).sum::<f64>() / 28.0;
                assert!((mean[c] - expected).abs() < digits * expected.abs().max(1.0));
                assert!((variance[c] - deviation).abs() < digits * deviation, "{} {deviation}", variance[c]);
            }
        }
    }

    #[test]
    fn a_nan_is_an_error_with_its_channel() {
        let values = Tensor::from_floats([[[1.0], [f32::NAN]]], &Device::flex());
        let (mut here, mut there) = (ChannelMoments::new("norm", 2), ChannelMoments::new("norm", 2));
        here.add(&values);
        there.add_on_device(&values);
        for moments in [here, there] {
            let error = moments.finish().unwrap_err();
            assert!(matches!(error, SfpError::NonFiniteInput { path, input: 1, .. } if path == "norm"));
        }
    }
}
