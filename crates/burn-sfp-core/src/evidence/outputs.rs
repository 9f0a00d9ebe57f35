//! [`OutputStatistics`]: means and share of zeros of the output of each filter.

use ndarray::{ArrayView3, Axis};
use rayon::prelude::*;

use crate::SfpError;

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

/// Sums over the values of a filter.
#[derive(Clone, Copy, Default)]
struct Sums {
    values: f64,
    absolute: f64,
    zeros: u64,
}

/// The running sums of a layer.
pub(super) struct OutputSums {
    pub path: String,
    filters: Vec<Sums>,
    /// Values of each filter.
    count: u64,
}

impl OutputSums {
    pub fn new(path: &str, filters: usize) -> Self {
        Self { path: path.into(), filters: vec![Sums::default(); filters], count: 0 }
    }

    /// Adds a batch `[N, F, S]`. Each filter is summed by one thread in the order of its values.
    pub fn add(&mut self, acts: ArrayView3<'_, f32>) {
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

    pub fn finish(self) -> Result<(String, OutputStatistics), SfpError> {
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
    use ndarray::Array3;

    #[test]
    fn batches_add_up() {
        let acts = Array3::from_shape_fn((4, 3, 5), |(n, f, s)| ((n * 15 + f * 5 + s) % 4) as f32 - f as f32);
        let mut sums = OutputSums::new("conv", 3);
        sums.add(acts.view());
        sums.add(acts.view());
        let (path, found) = sums.finish().unwrap();
        assert_eq!(path, "conv");
        for f in 0..3 {
            let values: Vec<f64> = acts.index_axis(Axis(1), f).iter().map(|&v| f64::from(v)).collect();
            let mean = |read: &dyn Fn(f64) -> f64| values.iter().map(|&v| read(v)).sum::<f64>() / 20.0;
            assert!((found.mean[f] - mean(&|v| v)).abs() < 1e-12);
            assert!((found.mean_absolute[f] - mean(&f64::abs)).abs() < 1e-12);
            assert!((found.zeros[f] - mean(&|v| f64::from(u8::from(v == 0.0)))).abs() < 1e-12);
        }
        assert!(found.zeros[0] > 0.0);
    }

    #[test]
    fn a_nan_is_an_error_with_its_filter() {
        let mut sums = OutputSums::new("conv", 2);
        sums.add(ndarray::array![[[1.0_f32], [f32::NAN]]].view());
        assert!(matches!(sums.finish(), Err(SfpError::NonFiniteOutput { path, filter: 1, .. }) if path == "conv"));
    }
}
