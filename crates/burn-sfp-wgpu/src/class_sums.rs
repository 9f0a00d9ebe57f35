//! Class sums: the one sweep over the samples that the performance matrices need.
//!
//! The single-filter performance matrix is linear in the activations, so it needs only the mean activation of
//! each label (Tzach et al. 2025, Phys. Rev. E 111, 065307; METHOD section 2). The host sorts the samples by
//! label; a thread owns one column (f, s), or four neighbours, of one label and adds that label's samples in
//! their order in the batch, in a register, then writes once. Every activation is read once, no two threads
//! write one number, and the result is the same bit for bit from run to run.

use burn_backend::DType;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use crate::GpuError;
use crate::device::{buffer, checked, contiguous, elements, empty, float_type, grid, guarded, slice, units, upload};
use crate::error::{dims, expect_f32, expect_len, same_device};

/// Threads below which a thread takes one column instead of four.
const ENOUGH_THREADS: usize = 1 << 15;

/// Adds a batch of activations to the sums of their labels: `sums[labels[n], f, s] += acts[n, f, s]`.
///
/// * `acts`: `[N, F, S]`, the layer's output for N samples, F filters, S positions; f32, f16 or bf16 (where the
///   device reads it), any strides (row-major is fastest, others are copied first);
/// * `labels`: N labels below `classes`;
/// * `sums`: `[C, F, S]` in f32, the running sums, or `None` for zeros. Overwritten in place when nothing else
///   refers to them.
///
/// Gives the new sums, `[C, F, S]` in f32, row-major. A label's samples of this batch are added in f32 first, and
/// their sum to the running sum then. Source: Tzach et al. 2025, Phys. Rev. E 111, 065307 (METHOD section 2, the
/// class means before division by the number of samples). Non-finite activations go into the sums as they are.
///
/// # Errors
/// [`GpuError::Shape`], [`GpuError::Label`], [`GpuError::Dtype`] and [`GpuError::OtherDevice`] for wrong
/// arguments, before anything is launched; [`GpuError::OutOfMemory`] and [`GpuError::Device`] when the runtime
/// refuses an allocation or the kernel. The kernel itself runs later: a device lost while it runs shows at the
/// read of the sums.
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
    class_sums_by(acts, labels, classes, sums, None)
}

/// [`class_sums`] with a given number of columns a thread, 1 or 4.
fn class_sums_by(
    acts: CubeTensor,
    labels: &[usize],
    classes: usize,
    sums: Option<CubeTensor>,
    columns: Option<usize>,
) -> Result<CubeTensor, GpuError> {
    let [samples, filters, positions] = dims("axes of the activations", &acts)?;
    let element = float_type("activations", &acts)?;
    expect_len("labels, one a sample", samples, labels.len())?;
    if let Some((index, &label)) = labels.iter().enumerate().find(|(_, l)| **l >= classes) {
        return Err(GpuError::Label { index, label, classes });
    }
    if let Some(sums) = &sums {
        let shape: [usize; 3] = dims("axes of the sums", sums)?;
        expect_len("classes of the sums", classes, shape[0])?;
        expect_len("filters of the sums", filters, shape[1])?;
        expect_len("positions of the sums", positions, shape[2])?;
        expect_f32("sums", sums)?;
        same_device("sums", &acts, sums)?;
    }
    let plane = filters * positions;
    guarded(|| {
        let fresh = sums.is_none();
        let sums = match sums.map(contiguous) {
            None => empty(&acts, [classes, filters, positions], DType::F32)?,
            Some(sums) if plane == 0 || samples == 0 || sums.can_mut() => sums,
            Some(sums) => sums.copy(),
        };
        if plane == 0 {
            return checked(sums);
        }
        // Labels and samples are 32-bit numbers on the device.
        let most = u32::MAX as usize;
        if let Some(found) = [classes, samples].into_iter().find(|&count| count > most) {
            return Err(GpuError::Shape { what: "classes and samples at most", expected: most, found });
        }
        let groups = Groups::new(labels, classes, fresh);
        if groups.count == 0 {
            return checked(sums);
        }
        let acts = contiguous(acts);
        let client = &acts.client;
        let width = match columns {
            Some(width) => width,
            None if plane.is_multiple_of(4) && plane / 4 * groups.count >= ENOUGH_THREADS => 4,
            None => 1,
        };
        let columns = plane / width;
        let cube = units(client, 256);
        let order = upload(client, &groups.order);
        let bounds = upload(client, &groups.bounds);
        // SAFETY: a thread's column is below `columns`, `order` holds samples and `bounds` labels and ranges of `order`.
        unsafe {
            class_sums_kernel::launch_unchecked(
                client,
                grid(client, columns.div_ceil(cube as usize), groups.count),
                CubeDim::new_1d(cube),
                acts.required_address_type().max(AddressType::from_len(elements(&sums))),
                width,
                buffer(&acts),
                slice(&order, groups.order.len()),
                slice(&bounds, groups.bounds.len()),
                buffer(&sums),
                columns,
                groups.count,
                fresh,
                element,
            );
        }
        checked(sums)
    })
}

/// The samples sorted by label.
struct Groups {
    /// Every label's samples in ascending order, label after label.
    order: Vec<u32>,
    /// For every group: label, start and end in `order`.
    bounds: Vec<u32>,
    count: usize,
}

impl Groups {
    /// Of every label, or of those that have samples.
    fn new(labels: &[usize], classes: usize, every: bool) -> Self {
        let mut order: Vec<u32> = (0..labels.len() as u32).collect();
        order.sort_by_key(|&sample| labels[sample as usize]); // stable
        let mut bounds = Vec::new();
        let mut start = 0;
        let mut push = |label: usize, start: usize, end: usize| {
            bounds.extend([label as u32, start as u32, end as u32]);
        };
        if every {
            for label in 0..classes {
                let length = order[start..].iter().take_while(|&&sample| labels[sample as usize] == label).count();
                push(label, start, start + length);
                start += length;
            }
        } else {
            for group in order.chunk_by(|&a, &b| labels[a as usize] == labels[b as usize]) {
                push(labels[group[0] as usize], start, start + group.len());
                start += group.len();
            }
        }
        let count = bounds.len() / 3;
        Self { order, bounds, count }
    }
}

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
            // Four loads under way at once, added in order.
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
