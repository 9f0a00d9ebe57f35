//! [`Single`]: a layer as it runs alone.

use burn::tensor::module::{conv1d, conv2d, conv3d, linear};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Distribution, Tensor};
use serde::{Deserialize, Serialize};

use crate::GraphError;
use crate::layers::kind::LayerKind;
use crate::layers::layer::Layer;
use crate::panics::attempt;

/// Everything about a layer that its latency depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Single {
    /// How it applies its weight.
    pub kind: LayerKind,
    /// Number of input channels or features.
    pub inputs: usize,
    /// Number of filters or nodes.
    pub outputs: usize,
    /// Groups of a convolution.
    pub groups: usize,
    /// Length of the batch, and of each axis of positions; of a linear layer the number of rows.
    pub shape: Vec<usize>,
    /// Kernel size for each position axis.
    pub kernel: Vec<usize>,
    /// Stride for each position axis.
    pub stride: Vec<usize>,
    /// Dilation for each position axis.
    pub dilation: Vec<usize>,
    /// Zero padding for each position axis.
    pub padding: Vec<(usize, usize)>,
}

impl Single {
    /// What a captured layer is alone; `None` for layers that cannot be run alone: embeddings and transposed convolutions.
    pub(super) fn of(layer: &Layer) -> Option<Self> {
        let shape = layer.input_shape();
        let channels = layer.kind.channel_axis(shape.len());
        let others = shape.iter().enumerate().filter(|(axis, _)| *axis != channels).map(|(_, length)| *length);
        let rank = layer.kind.kernel_rank();
        let shape: Vec<usize> = match rank {
            0 if layer.kind.is_matrix() => vec![others.product()],
            1..=3 if !layer.kind.is_transposed() && shape.len() == rank + 2 => others.collect(),
            _ => return None,
        };
        let (kernel, stride, dilation) = (layer.kernel.clone(), layer.stride.clone(), layer.dilation.clone());
        let padding = layer.padding.clone();
        let (kind, inputs, outputs, groups) = (layer.kind, layer.inputs, layer.filters, layer.groups.max(1));
        Some(Self { kind, inputs, outputs, groups, shape, kernel, stride, dilation, padding })
    }

    #[cfg(test)]
    pub(super) fn linear(inputs: usize, outputs: usize, rows: usize) -> Self {
        let (kernel, stride, dilation, padding) = (vec![], vec![], vec![], vec![]);
        let (kind, shape) = (LayerKind::Linear, vec![rows]);
        Self { kind, inputs, outputs, groups: 1, shape, kernel, stride, dilation, padding }
    }

    fn options<const N: usize>(&self, groups: usize) -> Option<ConvOptions<N>> {
        let stride = <[usize; N]>::try_from(self.stride.clone()).ok()?;
        let dilation = <[usize; N]>::try_from(self.dilation.clone()).ok()?;
        let padding = <[(usize, usize); N]>::try_from(self.padding.clone()).ok()?;
        Some(ConvOptions { stride, padding, dilation, groups })
    }
}

/// A closure that runs a layer with so many inputs and outputs, to the end; `None` where it does not run.
pub(super) fn run_single(
    single: &Single,
    inputs: usize,
    outputs: usize,
    device: &Device,
) -> Option<Box<dyn Fn() -> Result<(), GraphError>>> {
    let run = prepare(single, inputs, outputs, device)?;
    let device = device.clone();
    let run = move || {
        run();
        device.sync().map_err(|error| GraphError::Capture(error.to_string()))
    };
    // Burn panics where a device refuses a shape.
    attempt(&run).ok()?.ok()?;
    Some(Box::new(run))
}

fn prepare(single: &Single, inputs: usize, outputs: usize, device: &Device) -> Option<Box<dyn Fn()>> {
    fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
        Tensor::random(shape, Distribution::Uniform(-1.0, 1.0), device)
    }
    // A depthwise convolution has as many groups as channels; others keep their groups.
    let (groups, inputs, outputs) = if single.groups == single.inputs && single.groups > 1 {
        let times = (single.outputs / single.inputs).max(1);
        (inputs, inputs, inputs * times)
    } else {
        let whole = |width: usize| width.next_multiple_of(single.groups);
        (single.groups, whole(inputs), whole(outputs))
    };
    let read = inputs / groups;
    Some(match (single.shape.as_slice(), single.kernel.as_slice()) {
        (&[rows], []) => {
            let (x, weight) = (random([rows, inputs], device), random([inputs, outputs], device));
            Box::new(move || drop(linear(x.clone(), weight.clone(), None)))
        }
        (&[n, a], &[k]) => {
            let (x, weight) = (random([n, inputs, a], device), random([outputs, read, k], device));
            let options = single.options::<1>(groups)?;
            Box::new(move || drop(conv1d(x.clone(), weight.clone(), None, options.clone())))
        }
        (&[n, a, b], &[k, l]) => {
            let (x, weight) = (random([n, inputs, a, b], device), random([outputs, read, k, l], device));
            let options = single.options::<2>(groups)?;
            Box::new(move || drop(conv2d(x.clone(), weight.clone(), None, options.clone())))
        }
        (&[n, a, b, c], &[k, l, m]) => {
            let (x, weight) = (random([n, inputs, a, b, c], device), random([outputs, read, k, l, m], device));
            let options = single.options::<3>(groups)?;
            Box::new(move || drop(conv3d(x.clone(), weight.clone(), None, options.clone())))
        }
        _ => return None,
    })
}
