//! Weights in dense blocks on the CPU's packed kernels, without gradients.
//!
//! The blocks' weights are packed in the first pass and kept, together with the tensor that they were made of: as long as that is held, its
//! memory is not written to, so that another weight, after a training step or a load, has another address.

use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::Tensor;
use burn_sfp_ndarray::{
    ConvGeometry, ConvShapes, Epilogue, KernelError, PackedConv2d, PackedLinear, WinogradConv2d, WinogradTile,
    packed_conv2d, packed_linear, winograd_conv2d,
};
use ndarray::{Array, ArrayView, ArrayView2, ArrayView4, Axis, Dimension, Ix2, Ix4};
use rayon::prelude::*;

use super::call::Finish;
use super::format::{Block, Blocks};
use crate::tensor::{address, from_array, on_host};

/// The packed weights of a layer, shared by its clones.
#[derive(Clone, Default)]
pub(crate) struct Packing(Arc<Mutex<Option<Kept>>>);

impl std::fmt::Debug for Packing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Packing")
    }
}

#[derive(Clone)]
struct Kept {
    of: Of,
    kernels: Arc<[Kernel]>,
    /// Keeps the weight's memory.
    _weight: Arc<dyn Send + Sync>,
}

/// What packed weights were made of, and for.
#[derive(Clone, PartialEq)]
struct Of {
    address: usize,
    blocks: Arc<Blocks>,
    /// Rows and columns of a kernel, stride and the like; `None` of a linear layer.
    geometry: Option<([usize; 2], ConvGeometry)>,
    tiles: Vec<Option<WinogradTile>>,
}

enum Kernel {
    Packed(PackedConv2d),
    Winograd(WinogradConv2d),
    Linear(PackedLinear),
}

impl Packing {
    /// The packed weights of these blocks; they are made by `pack`, and kept where the weight has an address, if they are not there.
    fn kernels<const D: usize>(
        &self,
        weight: &Tensor<D>,
        of: Option<Of>,
        pack: impl FnOnce() -> Option<Vec<Kernel>>,
    ) -> Option<Arc<[Kernel]>> {
        let Some(of) = of else { return pack().map(Into::into) };
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = lock().as_ref().filter(|kept| kept.of == of) {
            return Some(kept.kernels.clone());
        }
        let kernels: Arc<[Kernel]> = pack()?.into();
        *lock() = Some(Kept { of, kernels: kernels.clone(), _weight: Arc::new(weight.clone()) });
        Some(kernels)
    }
}

/// Convolves `x`, `[N, I, H, W]`, with blocks, `[rows, 1, kh, kw]`; `None` where a tensor does not live in host memory, or does not fit.
pub(crate) fn convolve(
    x: &Tensor<4>,
    weight: &Tensor<4>,
    blocks: &Arc<Blocks>,
    geometry: &ConvGeometry,
    finish: &Finish,
    packing: &Packing,
) -> Option<Tensor<4>> {
    let [samples, channels, height, width] = x.dims();
    let [_, _, kh, kw] = weight.dims();
    if channels != blocks.inputs {
        return None;
    }
    let size = geometry.output_size([height, width], [kh, kw]).ok()?;
    let tile = |block: &Block| {
        let (inputs, outputs) = (block.inputs.len(), block.outputs.len());
        ConvShapes { kernel: [kh, kw], inputs, outputs, size, samples }.tile(geometry)
    };
    let tiles: Vec<_> = blocks.blocks.iter().map(tile).collect();
    let pack = || {
        let pack = |(view, tile): (ArrayView4<f32>, &Option<WinogradTile>)| match tile {
            Some(tile) => Some(Kernel::Winograd(WinogradConv2d::new(view, geometry, *tile).ok()?)),
            None => Some(Kernel::Packed(PackedConv2d::new(view, geometry).ok()?)),
        };
        on_host(weight, |weight| {
            let views = parts(weight, blocks, |block, part| {
                part.into_shape_with_order([block.outputs.len(), block.inputs.len(), kh, kw]).ok()
            })?;
            views.into_iter().zip(&tiles).map(pack).collect::<Option<Vec<_>>>()
        })?
    };
    let of =
        |address| Of { address, blocks: blocks.clone(), geometry: Some(([kh, kw], *geometry)), tiles: tiles.clone() };
    // The weight is asked for its memory only where the input has some.
    on_host(x, |x| {
        let kernels = packing.kernels(weight, address(weight).map(of), pack)?;
        let run = |kernel: &Kernel, x: ArrayView4<f32>, epilogue: Epilogue<'_>| match kernel {
            Kernel::Packed(conv) => packed_conv2d(x, conv, epilogue, None),
            Kernel::Winograd(conv) => winograd_conv2d(x, conv, epilogue, None),
            Kernel::Linear(_) => Err(KernelError::Geometry { what: "the weights are those of a linear layer" }),
        };
        all::<Ix4>(x, blocks, &kernels, finish, run).ok()
    })?
    .map(|out| from_array(out, &x.device()))
}

/// Multiplies `x`, `[N, I]`, with blocks, `[rows, 1]`; `None` where a tensor does not live in host memory, or does not fit.
pub(crate) fn multiply(
    x: &Tensor<2>,
    weight: &Tensor<2>,
    blocks: &Arc<Blocks>,
    finish: &Finish,
    packing: &Packing,
) -> Option<Tensor<2>> {
    if x.dims()[1] != blocks.inputs {
        return None;
    }
    let pack = || {
        on_host(weight, |weight| {
            let views = parts(weight, blocks, |block, part| {
                part.into_shape_with_order([block.outputs.len(), block.inputs.len()]).ok()
            })?;
            let pack = |view: ArrayView2<f32>| Kernel::Linear(PackedLinear::new(view.t()));
            Some(views.into_iter().map(pack).collect::<Vec<_>>())
        })?
    };
    let of = |address| Of { address, blocks: blocks.clone(), geometry: None, tiles: Vec::new() };
    on_host(x, |x| {
        let kernels = packing.kernels(weight, address(weight).map(of), pack)?;
        let run = |kernel: &Kernel, x: ArrayView2<f32>, epilogue: Epilogue<'_>| match kernel {
            Kernel::Linear(linear) => packed_linear(x, linear, epilogue, None),
            _ => Err(KernelError::Geometry { what: "the weights are those of a convolution" }),
        };
        all::<Ix2>(x, blocks, &kernels, finish, run).ok()
    })?
    .map(|out| from_array(out, &x.device()))
}

/// The weight of each block, in its dense shape.
fn parts<'a, D: Dimension, R>(
    weight: ArrayView<'a, f32, D>,
    blocks: &Blocks,
    shaped: impl Fn(&Block, ArrayView<'a, f32, D>) -> Option<R>,
) -> Option<Vec<R>> {
    let mut rest = weight;
    let mut parts = Vec::with_capacity(blocks.blocks.len());
    for block in &blocks.blocks {
        if rest.len_of(Axis(0)) < block.keep.len() {
            return None;
        }
        let (part, later) = rest.split_at(Axis(0), block.keep.len());
        parts.push(shaped(block, part)?);
        rest = later;
    }
    Some(parts)
}

/// Runs every block on the channels that it reads, and puts its outputs where they belong.
fn all<D: Dimension>(
    x: ArrayView<f32, D>,
    blocks: &Blocks,
    kernels: &[Kernel],
    finish: &Finish,
    run: impl Fn(&Kernel, ArrayView<f32, D>, Epilogue<'_>) -> Result<Array<f32, D>, KernelError> + Sync,
) -> Result<Array<f32, D>, KernelError> {
    let x = x.as_standard_layout();
    let run = |(block, kernel): (&Block, &Kernel)| {
        let of_block = |values: &Option<Vec<f32>>| -> Option<Vec<f32>> {
            values.as_ref().map(|values| block.outputs.iter().map(|&output| values[output as usize]).collect())
        };
        let (scale, shift) = (of_block(&finish.scale), of_block(&finish.shift));
        let epilogue = Epilogue { scale: scale.as_deref(), shift: shift.as_deref(), relu: finish.relu, most: None };
        match in_order(&block.inputs, blocks.inputs) {
            true => run(kernel, x.view(), epilogue),
            false => run(kernel, gathered(x.view(), &block.inputs)?.view(), epilogue),
        }
    };
    // Blocks are too small to keep all threads busy with one of them.
    let mut made: Vec<Array<f32, D>> =
        blocks.blocks.par_iter().zip(kernels.par_iter()).map(run).collect::<Result<_, _>>()?;
    match (&*blocks.blocks, made.pop()) {
        ([block], Some(only)) if in_order(&block.outputs, blocks.outputs) => Ok(only),
        (_, Some(last)) => {
            made.push(last);
            joined(&made, blocks)
        }
        (_, None) => Err(KernelError::Geometry { what: "the layer has no block" }),
    }
}

/// Whether a list names all channels in their order.
fn in_order(list: &[u32], of: usize) -> bool {
    list.len() == of && list.iter().enumerate().all(|(at, &channel)| at == channel as usize)
}

/// Some channels of each sample.
fn gathered<D: Dimension>(x: ArrayView<f32, D>, channels: &[u32]) -> Result<Array<f32, D>, KernelError> {
    let (of, map) = sizes(&x);
    let mut shape = x.raw_dim();
    shape[1] = channels.len();
    let mut out = vec![0.0; shape.size()];
    let from = x.as_slice().unwrap_or_default();
    let samples = out.par_chunks_mut((channels.len() * map).max(1)).zip(from.par_chunks((of * map).max(1)));
    samples.for_each(|(out, from)| {
        for (to, &channel) in out.chunks_exact_mut(map).zip(channels) {
            to.copy_from_slice(&from[channel as usize * map..][..map]);
        }
    });
    shaped(shape, out)
}

/// The outputs of all blocks in the layer's order.
fn joined<D: Dimension>(made: &[Array<f32, D>], blocks: &Blocks) -> Result<Array<f32, D>, KernelError> {
    let first = made[0].view();
    let (_, map) = sizes(&first);
    let mut shape = first.raw_dim();
    shape[1] = blocks.outputs;
    let mut out = vec![0.0; shape.size()];
    out.par_chunks_mut((blocks.outputs * map).max(1)).enumerate().for_each(|(sample, out)| {
        for (made, block) in made.iter().zip(&blocks.blocks) {
            let each = block.outputs.len() * map;
            let from = &made.as_slice().unwrap_or_default()[sample * each..][..each];
            for (from, &output) in from.chunks_exact(map).zip(&block.outputs) {
                out[output as usize * map..][..map].copy_from_slice(from);
            }
        }
    });
    shaped(shape, out)
}

/// The channels of an array, and the elements of one channel of a sample, at least one.
fn sizes<D: Dimension>(x: &ArrayView<f32, D>) -> (usize, usize) {
    (x.shape()[1], x.shape()[2..].iter().product::<usize>().max(1))
}

fn shaped<D: Dimension>(shape: D, values: Vec<f32>) -> Result<Array<f32, D>, KernelError> {
    let wrong = KernelError::Geometry { what: "the result has more elements than fit into memory" };
    Array::from_shape_vec(shape, values).map_err(|_| wrong)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn the_same_weight_is_packed_once() {
        let format = crate::sparse::WeightFormat::packed(2, 2).unwrap();
        let crate::sparse::WeightFormat::Blocks(blocks) = format else { panic!("one block") };
        let packing = Packing::default();
        let packed = |weight: &Tensor<2>, packing: &Packing| {
            let mut is_packed = false;
            let of = |address| Of { address, blocks: blocks.clone(), geometry: None, tiles: Vec::new() };
            packing.kernels(weight, address(weight).map(of), || {
                is_packed = true;
                Some(Vec::new())
            });
            is_packed
        };
        let mut weight = Tensor::<2>::from_floats([[1.0], [2.0], [3.0], [4.0]], &Device::flex());
        assert!(packed(&weight, &packing));
        assert!(!packed(&weight, &packing));
        assert!(!packed(&weight.clone(), &packing.clone()), "clones share what is packed");
        for _ in 0..3 {
            weight = weight * 2.0;
            assert!(packed(&weight, &packing));
            assert!(!packed(&weight, &packing));
        }
        // A view in another order has no address.
        let view = weight.reshape([2, 2]).transpose();
        assert!(packed(&view, &packing) && packed(&view, &packing));
    }
}
