//! Largest element and packed Boolean matrix of every filter's performance matrix.
//!
//! The performance matrix of filter f, `[C, C]` with row = label shown and column = output unit, is
//!
//! ```text
//! P_f[i][j] = sum_s Abar[i, f, s] * R[f, s, j]
//! ```
//!
//! with the class means `Abar` `[C, F, S]` and the readout `R` `[F, S, C]`, and its Boolean matrix is
//! `B_f[i][j] = P_f[i][j] / max P_f > threshold` (`docs/method.md`, sections 2 and 3; Tzach et al. 2025, Phys. Rev. E 111,
//! 065307). The device computes every product twice: the first pass keeps the largest element, the second compares and
//! packs 32 results per word. The matrices themselves are never stored, and the results have 1/32 of their size.

mod kernel;
mod layer;

use burn_cubecl::tensor::CubeTensor;
use burn_sfp_kernels::{expect_readout, expect_threshold};

use self::layer::Layer;
use crate::GpuError;
use crate::device::{RowMajor, guarded};
use crate::error::{dims, expect_f32, same_device};

/// Most bytes of results of one launch, unless the caller chooses the number of filters.
const BUDGET: usize = 64 << 20;

/// Largest element, Boolean matrix and number of near-threshold elements of every filter of a layer.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PackedPerformances {
    /// `[F]`: the largest element of the performance matrix; 0 for a matrix without elements, NaN when any element is
    /// NaN. When it is not positive or not finite, the filter recognizes nothing.
    pub max: Vec<f32>,
    /// `[F, C, ceil(C / 32)]`: the Boolean matrices; bit `j % 32` of word `j / 32` of row i is `B_f[i][j]`; bits from C on
    /// are zero.
    pub words: Vec<u32>,
    /// `[F]`: the number of elements with `|P / max - threshold| <= 1e-5`, whose bit may change with the order of the
    /// additions; 0 for a filter that recognizes nothing.
    pub near: Vec<u32>,
}

/// Computes largest element and Boolean matrix of every filter.
///
/// * `means`: `[C, F, S]` in f32, the mean activation of each label; any strides;
/// * `readout`: `[F, S, C]` in f32; any strides;
/// * `threshold`: 0.3 in the paper;
/// * `chunk`: filters per launch; `None` for as many as have 64 MiB of results.
///
/// `B_f[i][j]` is 1 where `P_f[i][j] > threshold * max P_f`, with the right side in double precision, as in
/// [`BooleanMatrix`](https://docs.rs/burn-sfp-ndarray) of the CPU kernels. The matrix is all zeros when the largest
/// element is not positive or is infinite, or when any element is NaN. The results of every launch are read before the
/// next. When the device has no memory for a chunk, the chunk is halved, down to one filter.
///
/// Source: `docs/method.md`, sections 2 and 3 (Tzach et al. 2025, Phys. Rev. E 111, 065307).
///
/// # Errors
/// [`GpuError::Argument`], [`GpuError::Dtype`] and [`GpuError::OtherDevice`] for wrong arguments;
/// [`GpuError::OutOfMemory`] when not even one filter fits; [`GpuError::Device`] when the device is lost or rejects a
/// kernel. The results are read here, so failures of the kernels are reported here too, as are failures of the
/// operations that compute `means` and `readout`.
///
/// # Example
/// ```
/// use burn::tensor::Tensor;
/// use burn_cubecl::CubeBackend;
/// use burn_sfp_wgpu::filter_performances;
///
/// # let Some(device) = std::panic::catch_unwind(|| {
/// #     let device = burn::tensor::Device::wgpu(burn::tensor::DeviceKind::DefaultDevice);
/// #     let _ = Tensor::<1>::zeros([1], &device).into_data();
/// #     device
/// # }).ok() else { println!("skipped: no wgpu adapter"); return Ok(()) };
/// // [C = 2, F = 2, S = 1] and [F = 2, S = 1, C = 2]
/// let means = Tensor::<3>::from_data([[[1.0], [-1.0]], [[0.5], [-1.0]]], &device);
/// let readout = Tensor::<3>::from_data([[[2.0, -1.0]], [[1.0, 1.0]]], &device);
/// let means = means.try_into_primitive::<CubeBackend>().unwrap();
/// let readout = readout.try_into_primitive::<CubeBackend>().unwrap();
/// let filters = filter_performances(means, readout, 0.3, None)?;
/// assert_eq!(filters.max, [2.0, -1.0]);
/// assert_eq!(filters.words, [0b01, 0b01, 0, 0]); // labels 0 and 1 drive output unit 0; filter 1 is silent
/// assert_eq!(filters.near, [0, 0]);
/// # Ok::<(), burn_sfp_wgpu::GpuError>(())
/// ```
pub fn filter_performances(
    means: CubeTensor,
    readout: CubeTensor,
    threshold: f64,
    chunk: Option<usize>,
) -> Result<PackedPerformances, GpuError> {
    let [classes, filters, positions] = dims("axes of the means", &means)?;
    let shape: [usize; 3] = dims("axes of the readout", &readout)?;
    expect_readout([classes, filters, positions], shape)?;
    expect_f32("means", &means)?;
    expect_f32("readout", &readout)?;
    same_device("readout", &means, &readout)?;
    expect_threshold(threshold)?;
    let mut all = PackedPerformances { max: Vec::new(), words: Vec::new(), near: Vec::new() };
    if classes == 0 {
        (all.max, all.near) = (vec![0.0; filters], vec![0; filters]);
        return Ok(all);
    }
    let (means, readout) = guarded(|| Ok((RowMajor::new(means)?, RowMajor::new(readout)?)))?;
    let layer = Layer::new(means, readout, [classes, filters, positions]);
    let chunk = chunk.unwrap_or(BUDGET / layer.bytes_of_a_filter().max(1));
    in_chunks(filters, chunk.min(layer.longest_chunk()), |first, count| {
        let part = guarded(|| layer.run(first, count, threshold))?;
        all.max.extend(part.max);
        all.words.extend(part.words);
        all.near.extend(part.near);
        Ok(())
    })?;
    Ok(all)
}

/// Calls `work` with the first filter and the number of filters of each chunk, of at most `chunk` filters.
///
/// When the device has no memory for a chunk, this chunk and the following ones are halved.
fn in_chunks(
    filters: usize,
    chunk: usize,
    mut work: impl FnMut(usize, usize) -> Result<(), GpuError>,
) -> Result<(), GpuError> {
    let (mut first, mut chunk) = (0, chunk.max(1));
    while first < filters {
        let count = chunk.min(filters - first);
        match work(first, count) {
            Ok(()) => first += count,
            Err(GpuError::OutOfMemory { .. }) if count > 1 => chunk = count / 2,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_without_memory_is_halved() {
        let run = |most: usize, filters, chunk| {
            let mut done = Vec::new();
            let result = in_chunks(filters, chunk, |first, count| {
                if count > most {
                    return Err(GpuError::OutOfMemory { bytes: None });
                }
                done.push((first, count));
                Ok(())
            });
            result.map(|()| done)
        };
        assert_eq!(run(3, 10, 8), Ok(vec![(0, 2), (2, 2), (4, 2), (6, 2), (8, 2)]));
        assert_eq!(run(9, 10, 4), Ok(vec![(0, 4), (4, 4), (8, 2)]));
        assert_eq!(run(1, 2, usize::MAX), Ok(vec![(0, 1), (1, 1)]));
        assert_eq!(run(9, 0, 4), Ok(vec![]));
        assert_eq!(run(0, 3, 4), Err(GpuError::OutOfMemory { bytes: None }));
        let lost = GpuError::Device { message: String::new(), lost: true };
        assert_eq!(in_chunks(3, 2, |_, _| Err(lost.clone())), Err(lost.clone()));
    }
}
