//! Class sums: the sums of the activations of each class label.
//!
//! The single-filter performance matrix is linear in the activations, so it needs only the mean activation of each label
//! (`docs/method.md`, section 2; Tzach et al. 2025, Phys. Rev. E 111, 065307). The host groups the samples by label. A
//! thread owns one column (f, s), or four neighbouring columns, of one label; it adds that label's samples in a register,
//! in their order in the batch, and writes the sum once. Every activation is read once, no two threads write the same
//! element, and the result has the same bits from run to run.

use std::ops::Range;

use burn_backend::DType;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use burn_sfp_kernels::{KernelError, SamplesByLabel, expect_labels, expect_len};

use crate::GpuError;
use crate::device::{Buffer, RowMajor, checked, float_type, grid, guarded, threads};
use crate::error::{dims, expect_f32, same_device};

/// Fewest threads, with four columns each, at which a thread owns four columns instead of one.
const ENOUGH_THREADS: usize = 1 << 15;

/// Adds a batch of activations to the sums of their labels: `sums[labels[n], f, s] += acts[n, f, s]`.
///
/// * `acts`: `[N, F, S]`, the layer's output for N samples, F filters, S positions; f32, f16 or bf16 (if the
///   device supports it), any strides (row-major is fastest, others are copied first);
/// * `labels`: N labels below `classes`;
/// * `sums`: `[C, F, S]` in f32, the running sums, or `None` for zeros; overwritten in place when nothing else refers
///   to their memory;
/// * result: the new sums, `[C, F, S]` in f32, row-major.
///
/// The samples of a label in this batch are added in f32, and the result is added to the running sum. These are the
/// class means of `docs/method.md`, section 2, before the division by the number of samples (Tzach et al. 2025, Phys.
/// Rev. E 111, 065307). Infinite activations and NaN are added like any other value.
///
/// # Errors
/// [`GpuError::Argument`], [`GpuError::Dtype`] and [`GpuError::OtherDevice`] for wrong arguments, before anything is
/// launched; [`GpuError::OutOfMemory`] and [`GpuError::Device`] when the runtime rejects an allocation or the kernel.
/// The kernel runs later: a device that is lost while it runs is reported when the sums are read.
///
/// # Example
/// ```
/// use burn::tensor::Tensor;
/// use burn_cubecl::{CubeBackend, CubeDevice};
/// use burn_sfp_wgpu::class_sums;
///
/// # let Some(device) = std::panic::catch_unwind(|| {
/// #     let device = burn::tensor::Device::wgpu(burn::tensor::DeviceKind::DefaultDevice);
/// #     let _ = Tensor::<1>::zeros([1], &device).into_data();
/// #     device
/// # }).ok() else { println!("skipped: no wgpu adapter"); return Ok(()) };
/// // [N = 3, F = 1, S = 2]
/// let acts = Tensor::<3>::from_data([[[1.0, 2.0]], [[10.0, 20.0]], [[100.0, 200.0]]], &device);
/// let acts = acts.try_into_primitive::<CubeBackend>().unwrap();
/// let sums = class_sums(acts, &[1, 0, 1], 2, None)?;
/// let sums = Tensor::<3>::from_primitive::<CubeBackend>(sums);
/// assert_eq!(sums.into_data().try_to_vec::<f32>().unwrap(), [10.0, 20.0, 101.0, 202.0]);
/// # Ok::<(), burn_sfp_wgpu::GpuError>(())
/// ```
pub fn class_sums(
    acts: CubeTensor,
    labels: &[usize],
    classes: usize,
    sums: Option<CubeTensor>,
) -> Result<CubeTensor, GpuError> {
    let [samples, filters, positions] = dims("axes of the activations", &acts)?;
    let element = float_type("activations", &acts)?;
    expect_labels(labels, samples, classes)?;
    let shape = [classes, filters, positions];
    if let Some(sums) = &sums {
        let found: [usize; 3] = dims("axes of the sums", sums)?;
        expect_len("classes of the sums", classes, found[0])?;
        expect_len("filters of the sums", filters, found[1])?;
        expect_len("positions of the sums", positions, found[2])?;
        expect_f32("sums", sums)?;
        same_device("sums", &acts, sums)?;
    }
    guarded(|| add(acts, labels, shape, sums, element))
}

/// Adds the batch on the device, once the arguments are checked.
fn add(
    acts: CubeTensor,
    labels: &[usize],
    shape: [usize; 3],
    sums: Option<CubeTensor>,
    element: ElemType,
) -> Result<CubeTensor, GpuError> {
    let [classes, filters, positions] = shape;
    let plane = filters * positions;
    let fresh = sums.is_none();
    let sums = match sums {
        None => RowMajor::uninitialized(&acts, shape, DType::F32)?,
        Some(sums) if plane == 0 || labels.is_empty() => RowMajor::new(sums)?,
        Some(sums) => RowMajor::new(sums)?.exclusive()?,
    };
    if plane == 0 {
        return checked(sums);
    }
    // Labels and samples are 32-bit integers on the device.
    let most = u32::MAX as usize;
    if let Some(found) = [classes, labels.len()].into_iter().find(|&count| count > most) {
        let what = "classes or samples, at most 2^32 - 1 on the device";
        return Err(KernelError::Shape { what, expected: most, found }.into());
    }
    let grouped = SamplesByLabel::new(labels);
    let bounds = bounds(&grouped, classes, fresh);
    let groups = bounds.len() / 3;
    if groups == 0 {
        return checked(sums);
    }
    let acts = RowMajor::new(acts)?;
    let client = &acts.client;
    let width = if plane.is_multiple_of(4) && plane / 4 * groups >= ENOUGH_THREADS { 4 } else { 1 };
    let columns = plane / width;
    let cube = threads(client, 256);
    let order: Vec<u32> = grouped.order().iter().map(|&sample| sample as u32).collect();
    // SAFETY: the kernel uses columns below `columns` = F * S / width, samples of `order`, which are below N, and labels
    // of `bounds`, which are below C. So it reads `acts`, N * F * S elements, and writes `sums`, C * F * S elements, within
    // their lengths. The ranges of `bounds` are ranges of `order`.
    unsafe {
        class_sums_kernel::launch_unchecked(
            client,
            grid(client, columns.div_ceil(cube as usize), groups),
            CubeDim::new_1d(cube),
            acts.required_address_type().max(AddressType::from_len(sums.elements())),
            width,
            acts.arg(),
            Buffer::upload(client, &order).arg(),
            Buffer::upload(client, &bounds).arg(),
            sums.arg(),
            columns,
            groups,
            fresh,
            element,
        );
    }
    checked(sums)
}

/// Returns label, start and end in [`SamplesByLabel::order`] of every group: of all labels below `classes` with `all`,
/// else of the labels that have samples.
fn bounds(grouped: &SamplesByLabel, classes: usize, all: bool) -> Vec<u32> {
    let group = |label: usize, range: &Range<usize>| [label as u32, range.start as u32, range.end as u32];
    let mut ranges = grouped.ranges().iter();
    if !all {
        return ranges.flat_map(|(label, range)| group(*label, range)).collect();
    }
    let mut next = ranges.next();
    let mut bounds = Vec::with_capacity(3 * classes);
    for label in 0..classes {
        match next {
            Some((found, range)) if *found == label => {
                bounds.extend(group(label, range));
                next = ranges.next();
            }
            _ => bounds.extend(group(label, &(0..0))),
        }
    }
    bounds
}

/// Adds the samples of a label to one column (or vector of columns) per thread and step.
#[cube(launch_unchecked, address_type = "dynamic")]
fn class_sums_kernel<E: Numeric, N: Size>(
    acts: &[Vector<E, N>],
    order: &[u32],
    bounds: &[u32],
    sums: &mut [Vector<f32, N>],
    columns: usize,
    groups: usize,
    #[comptime] fresh: bool,
    #[define(E)] _element: ElemType,
) {
    let mut column = ABSOLUTE_POS_X as usize;
    while column < columns {
        let mut group = CUBE_POS_Y as usize;
        while group < groups {
            let label = bounds[3 * group] as usize;
            let mut next = bounds[3 * group + 1] as usize;
            let end = bounds[3 * group + 2] as usize;
            let mut sum = Vector::<f32, N>::new(0.0f32);
            // Four loads are in flight at once; the values are added in order.
            while next + 4 <= end {
                let a = acts[order[next] as usize * columns + column];
                let b = acts[order[next + 1] as usize * columns + column];
                let c = acts[order[next + 2] as usize * columns + column];
                let d = acts[order[next + 3] as usize * columns + column];
                sum += Vector::<f32, N>::cast_from(a);
                sum += Vector::<f32, N>::cast_from(b);
                sum += Vector::<f32, N>::cast_from(c);
                sum += Vector::<f32, N>::cast_from(d);
                next += 4;
            }
            while next < end {
                sum += Vector::<f32, N>::cast_from(acts[order[next] as usize * columns + column]);
                next += 1;
            }
            let place = label * columns + column;
            if comptime!(fresh) {
                sums[place] = sum;
            } else {
                sums[place] += sum;
            }
            group += CUBE_COUNT_Y as usize;
        }
        column += (CUBE_COUNT_X * CUBE_DIM_X) as usize;
    }
}
