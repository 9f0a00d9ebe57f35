//! Forward pass of a weight in dense blocks where the packed kernels do not run it whole: a few dense layers on gathered channels.

use burn::tensor::{Int, Tensor, TensorData};

use super::format::Blocks;

/// Runs every block and returns the outputs in the layer's order.
///
/// `dense` receives a block's inputs (channels on axis 1) and its weight `[outputs, inputs, rest ..]`, and returns its outputs on
/// axis 1.
pub(crate) fn run<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<D>,
    blocks: &Blocks,
    dense: impl Fn(Tensor<D>, Tensor<D>) -> Tensor<D>,
) -> Tensor<D> {
    let device = x.device().without_autodiff();
    let (channels, inputs) = (x.dims()[1], blocks.inputs);
    assert_eq!(channels, inputs, "a sparse layer of {inputs} inputs on {channels} channels");
    let select = |tensor: Tensor<D>, list: &[u32]| {
        let in_order = list.len() == tensor.dims()[1] && list.iter().enumerate().all(|(k, &n)| k == n as usize);
        if in_order {
            return tensor;
        }
        let list: Vec<i64> = list.iter().map(|&n| i64::from(n)).collect();
        let count = list.len();
        tensor.select(1, Tensor::<1, Int>::from_data(TensorData::new(list, [count]), &device))
    };
    let mut at = 0;
    let mut made = Vec::with_capacity(blocks.blocks.len());
    for block in &blocks.blocks {
        let rows = block.keep.len();
        let mut kernels = weight.clone().slice_dim(0, at..at + rows);
        at += rows;
        if kernels.is_autodiff() && block.keep.contains(&false) {
            // Zeros of pairs that are not connected get no gradient, and so stay zero.
            let mask = block.keep.iter().map(|&keep| f32::from(u8::from(keep))).collect();
            let mut shape = [1; D];
            shape[0] = rows;
            let like = (&device, kernels.dtype());
            kernels = kernels * Tensor::from_data(TensorData::new::<f32, _>(mask, shape), like);
        }
        let mut shape = weight.dims();
        shape[0] = block.outputs.len();
        shape[1] = block.inputs.len();
        made.push(dense(select(x.clone(), &block.inputs), kernels.reshape(shape)));
    }
    let order: Vec<u32> = blocks.blocks.iter().flat_map(|block| block.outputs.iter().copied()).collect();
    let mut place = vec![0; order.len()];
    for (at, &output) in order.iter().enumerate() {
        place[output as usize] = at as u32;
    }
    select(Tensor::cat(made, 1), &place)
}
