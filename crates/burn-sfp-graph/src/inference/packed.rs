//! A layer with what it takes in as one kernel on packed weights.

use std::sync::Arc;

use burn::backend::ir::{TensorIr, TensorStatus};
use burn::tensor::{DType, Device, DispatchTensor, Tensor, TensorData};
use burn_sfp_ndarray::{
    ConvGeometry, Epilogue, KernelError, KernelPattern, PackedConv2d, PackedLinear, Storage, WinogradConv2d,
    WinogradTile, packed_conv2d, packed_linear, sparse_conv2d, winograd_conv2d,
};
use burn_sfp_nn::tensor::on_host;
use ndarray::{Array3, ArrayView2, ArrayView4};

use super::fuse::Fused;
use crate::op::description::dims;
use crate::replay::Execute;

/// The kernel that a layer runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kernel {
    /// On packed weights, as they are stored.
    Packed(Storage),
    /// On transformed weights, by tiles of outputs.
    Winograd(WinogradTile),
    /// On the kernels that stay.
    Sparse,
}

/// The kernels of a sparse convolution that stay: which ones, and the tensor of their values, `[kernels, height, width]`.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub pattern: Arc<KernelPattern>,
    pub values: TensorIr,
}

/// A layer whose weights are packed.
pub(super) struct PackedLayer {
    pub name: String,
    pub kernel: Kernel,
    weights: Weights,
    scale: Option<Vec<f32>>,
    shift: Option<Vec<f32>>,
    relu: bool,
    most: Option<f32>,
    pub x: TensorIr,
    pub residual: Option<TensorIr>,
    pub out: TensorIr,
    device: Device,
}

enum Weights {
    Conv(PackedConv2d),
    Winograd(WinogradConv2d),
    Sparse(Arc<KernelPattern>, Array3<f32>, ConvGeometry),
    Linear(PackedLinear),
}

impl PackedLayer {
    /// Packs the weights of a layer, of which `kept` stay where it is sparse, and whose constants are read by `constant`; `None` where there is no kernel
    /// for it.
    pub fn new(
        name: String,
        of: &Fused,
        kernel: Kernel,
        kept: Option<&Kept>,
        device: &Device,
        constant: &mut dyn FnMut(&TensorIr) -> Option<Vec<f32>>,
    ) -> Option<Self> {
        let weight = constant(&of.weight)?;
        let shape = dims(&of.weight);
        let weights = match of.geometry() {
            Some(geometry) => {
                let [out, read, height, width] = *shape.as_slice() else { return None };
                let weight = ArrayView4::from_shape([out, read, height, width], &weight).ok()?;
                match kernel {
                    Kernel::Sparse => {
                        let kept = kept.filter(|_| of.residual.is_none())?;
                        let shape: [usize; 3] = dims(&kept.values).try_into().ok()?;
                        let values = Array3::from_shape_vec(shape, constant(&kept.values)?).ok()?;
                        Weights::Sparse(kept.pattern.clone(), values, geometry)
                    }
                    Kernel::Packed(storage) => {
                        Weights::Conv(PackedConv2d::new(weight, &geometry).ok()?.stored_as(storage))
                    }
                    Kernel::Winograd(tile) => Weights::Winograd(WinogradConv2d::new(weight, &geometry, tile).ok()?),
                }
            }
            None => {
                let ([.., inputs, outputs], Kernel::Packed(storage)) = (shape.as_slice(), kernel) else { return None };
                let weight = ArrayView2::from_shape([*inputs, *outputs], &weight).ok()?;
                Weights::Linear(PackedLinear::new(weight).stored_as(storage))
            }
        };
        let mut shift = match &of.bias {
            Some(bias) => Some(constant(bias)?),
            None => None,
        };
        let mut scale = None;
        if let Some(norm) = &of.norm {
            let mut read = |tensor: &TensorIr| constant(tensor);
            let (gamma, beta) = (read(&norm.gamma)?, read(&norm.beta)?);
            let (mean, variance) = (read(&norm.mean)?, read(&norm.variance)?);
            let epsilon = norm.epsilon.elem::<f64>();
            let factor = |k: usize| f64::from(gamma[k]) / (f64::from(variance[k]) + epsilon).sqrt();
            let bias = |k: usize| shift.as_ref().map_or(0.0, |bias: &Vec<f32>| f64::from(bias[k]));
            let moved =
                (0..gamma.len()).map(|k| (f64::from(beta[k]) + (bias(k) - f64::from(mean[k])) * factor(k)) as f32);
            let moved: Vec<f32> = moved.collect();
            scale = Some((0..gamma.len()).map(|k| factor(k) as f32).collect());
            shift = Some(moved);
        }
        let (x, residual, out) = (of.x.clone(), of.residual.clone(), of.out.clone());
        Some(Self {
            name,
            kernel,
            weights,
            scale,
            shift,
            relu: of.relu,
            most: of.most,
            x,
            residual,
            out,
            device: device.clone(),
        })
    }

    /// Reads the inputs, computes, and puts the result under its id. `keep` says that nothing is read for the last time.
    pub fn run(&self, execute: &mut dyn Execute, keep: bool) -> Result<(), String> {
        let result = match &self.weights {
            Weights::Conv(conv) => {
                let run = |x: Tensor<4>, residual: Option<Tensor<4>>| {
                    with_residual(&x, residual.as_ref(), |x, residual| {
                        packed_conv2d(x, conv, self.epilogue(), residual).map(|y| y.into_raw_vec_and_offset().0)
                    })
                };
                self.on_tensors(execute, keep, |shape| shape.try_into().ok(), run)?
            }
            Weights::Winograd(conv) => {
                let run = |x: Tensor<4>, residual: Option<Tensor<4>>| {
                    with_residual(&x, residual.as_ref(), |x, residual| {
                        winograd_conv2d(x, conv, self.epilogue(), residual).map(|y| y.into_raw_vec_and_offset().0)
                    })
                };
                self.on_tensors(execute, keep, |shape| shape.try_into().ok(), run)?
            }
            Weights::Sparse(pattern, values, geometry) => {
                let run = |x: Tensor<4>, _: Option<Tensor<4>>| {
                    with_residual(&x, None, |x, _| {
                        sparse_conv2d(x, values.view(), pattern, geometry, self.epilogue())
                            .map(|y| y.into_raw_vec_and_offset().0)
                    })
                };
                self.on_tensors(execute, keep, |shape| shape.try_into().ok(), run)?
            }
            Weights::Linear(linear) => {
                let run = |x: Tensor<2>, residual: Option<Tensor<2>>| {
                    with_residual(&x, residual.as_ref(), |x, residual| {
                        packed_linear(x, linear, self.epilogue(), residual).map(|y| y.into_raw_vec_and_offset().0)
                    })
                };
                self.on_tensors(execute, keep, rows, run)?
            }
        };
        execute.put(self.out.id, result)
    }

    fn epilogue(&self) -> Epilogue<'_> {
        Epilogue { scale: self.scale.as_deref(), shift: self.shift.as_deref(), relu: self.relu, most: self.most }
    }

    fn on_tensors<const D: usize>(
        &self,
        execute: &mut dyn Execute,
        keep: bool,
        shape: impl Fn(&[usize]) -> Option<[usize; D]>,
        run: impl Fn(Tensor<D>, Option<Tensor<D>>) -> Option<Result<Vec<f32>, KernelError>>,
    ) -> Result<DispatchTensor, String> {
        let mut read = |tensor: &TensorIr| -> Result<Tensor<D>, String> {
            let mut tensor = tensor.clone();
            if keep {
                tensor.status = TensorStatus::ReadOnly;
            }
            let shape = shape(&dims(&tensor)).ok_or("an input of a layer has another rank")?;
            execute.get(&tensor, None, &shape).map(Tensor::from_dispatch)
        };
        // The residual may be the input.
        let residual = self.residual.as_ref().map(&mut read).transpose()?;
        let x = read(&self.x)?;
        let values = run(x, residual).ok_or("an input of a layer is not in the memory of the host")?;
        let values = values.map_err(|error| error.to_string())?;
        let data = TensorData::new(values, dims(&self.out));
        Ok(tensor_of(data, &self.device, dims(&self.out).len()))
    }
}

/// Leading axes as rows.
fn rows(shape: &[usize]) -> Option<[usize; 2]> {
    let (&last, rest) = shape.split_last()?;
    Some([rest.iter().product(), last])
}

/// A tensor of any rank.
pub(super) fn tensor_of(data: TensorData, device: &Device, rank: usize) -> DispatchTensor {
    let options = (device, DType::F32);
    match rank {
        1 => Tensor::<1>::from_data(data, options).into_dispatch(),
        2 => Tensor::<2>::from_data(data, options).into_dispatch(),
        3 => Tensor::<3>::from_data(data, options).into_dispatch(),
        4 => Tensor::<4>::from_data(data, options).into_dispatch(),
        5 => Tensor::<5>::from_data(data, options).into_dispatch(),
        _ => Tensor::<6>::from_data(data, options).into_dispatch(),
    }
}

/// Calls `work` with views of both tensors.
fn with_residual<const D: usize, R>(
    x: &Tensor<D>,
    residual: Option<&Tensor<D>>,
    work: impl Fn(View<'_, D>, Option<View<'_, D>>) -> R,
) -> Option<R>
where
    ndarray::Dim<[usize; D]>: ndarray::Dimension,
    [usize; D]: ndarray::IntoDimension<Dim = ndarray::Dim<[usize; D]>>,
{
    match residual {
        None => on_host(x, |x| work(x, None)),
        Some(residual) => on_host(x, |x| on_host(residual, |residual| work(x.view(), Some(residual))))?,
    }
}

type View<'a, const D: usize> = ndarray::ArrayView<'a, f32, ndarray::Dim<[usize; D]>>;
