//! Layers and activations with gradients.

use burn::backend::Dispatch as D;
use burn::backend::DispatchTensor;
use burn::backend::ir::{ActivationOperationIr as A, Conv2dOpIr, ModuleOperationIr as M};
use burn::backend::ops::{ActivationOps, ModuleOps};
use burn::tensor::Tensor;
use burn_sfp_nn::training::conv2d;

use super::differentiable::{One, call, optional};
use super::execute::{Values, get};
use crate::op::convolution::geometry;

/// Runs a layer on tensors of which at least one has autodiff.
pub(super) fn module(op: &M, values: &Values) -> One {
    match op {
        M::BatchNorm(op) => call!(values, op, D::batch_norm, [x, gamma, beta, mean, variance], op.epsilon.elem()),
        M::LayerNorm(op) => {
            let (input, gamma) = (get(values, &op.input)?, get(values, &op.gamma)?);
            Ok(Some((op.out.id, D::layer_norm(input, gamma, optional(values, &op.beta)?, op.epsilon.elem()))))
        }
        M::Embedding(op) => call!(values, op, D::embedding, [weights, indices]),
        M::Linear(op) => call!(values, op, D::linear, [x, weight], optional(values, &op.bias)?),
        M::Attention(op) => {
            let (mask, bias) = (optional(values, &op.mask)?, optional(values, &op.attn_bias)?);
            call!(values, op, D::attention, [query, key, value], mask, bias, op.options.clone().into())
        }
        M::Conv1d(_) | M::Conv2d(_) | M::Conv3d(_) => convolution(op, values),
        M::ConvTranspose1d(_) | M::ConvTranspose2d(_) | M::ConvTranspose3d(_) => convolution(op, values),
        _ => pooling(op, values),
    }
}

fn convolution(op: &M, values: &Values) -> One {
    match op {
        M::Conv1d(op) => {
            call!(values, op, D::conv1d, [x, weight], optional(values, &op.bias)?, op.options.clone().into())
        }
        M::Conv2d(op) => {
            if let Some(out) = by_packed_kernels(op, values)? {
                return Ok(Some((op.out.id, out)));
            }
            call!(values, op, D::conv2d, [x, weight], optional(values, &op.bias)?, op.options.clone().into())
        }
        M::Conv3d(op) => {
            call!(values, op, D::conv3d, [x, weight], optional(values, &op.bias)?, op.options.clone().into())
        }
        M::ConvTranspose1d(op) => {
            call!(values, op, D::conv_transpose1d, [x, weight], optional(values, &op.bias)?, op.options.clone().into())
        }
        M::ConvTranspose2d(op) => {
            call!(values, op, D::conv_transpose2d, [x, weight], optional(values, &op.bias)?, op.options.clone().into())
        }
        M::ConvTranspose3d(op) => {
            call!(values, op, D::conv_transpose3d, [x, weight], optional(values, &op.bias)?, op.options.clone().into())
        }
        _ => Ok(None),
    }
}

/// A convolution by packed kernels, where there are some for it.
pub(super) fn by_packed_kernels(op: &Conv2dOpIr, values: &Values) -> Result<Option<DispatchTensor>, String> {
    let (x, weight) = (Tensor::from_dispatch(get(values, &op.x)?), Tensor::from_dispatch(get(values, &op.weight)?));
    let bias = optional(values, &op.bias)?.map(Tensor::from_dispatch);
    Ok(conv2d(&x, &weight, bias.as_ref(), &geometry(&op.options)).map(Tensor::into_dispatch))
}

fn pooling(op: &M, values: &Values) -> One {
    match op {
        M::AvgPool1d(op) => {
            let (size, stride, padding) = (op.kernel_size, op.stride, op.padding);
            call!(values, op, D::avg_pool1d, [x], size, stride, padding, op.count_include_pad, op.ceil_mode)
        }
        M::AvgPool2d(op) => {
            let (size, stride, padding) = (op.kernel_size, op.stride, op.padding);
            call!(values, op, D::avg_pool2d, [x], size, stride, padding, op.count_include_pad, op.ceil_mode)
        }
        M::AdaptiveAvgPool1d(op) => call!(values, op, D::adaptive_avg_pool1d, [x], op.output_size),
        M::AdaptiveAvgPool2d(op) => call!(values, op, D::adaptive_avg_pool2d, [x], op.output_size),
        M::AdaptiveAvgPool3d(op) => call!(values, op, D::adaptive_avg_pool3d, [x], op.output_size),
        M::MaxPool1d(op) => {
            let (size, stride, padding) = (op.kernel_size, op.stride, op.padding);
            call!(values, op, D::max_pool1d, [x], size, stride, padding, op.dilation, op.ceil_mode)
        }
        M::MaxPool2d(op) => {
            let (size, stride, padding) = (op.kernel_size, op.stride, op.padding);
            call!(values, op, D::max_pool2d, [x], size, stride, padding, op.dilation, op.ceil_mode)
        }
        M::Interpolate(op) => call!(values, op, D::interpolate, [x], op.output_size, op.options.clone().into()),
        _ => Ok(None),
    }
}

/// Runs an activation on a tensor with autodiff.
pub(super) fn activation(op: &A, values: &Values) -> One {
    match op {
        A::Relu(op) => call!(values, op, D::relu, [input]),
        A::LeakyRelu(op) => call!(values, op, D::leaky_relu, [lhs], op.rhs.into()),
        A::PRelu(op) => call!(values, op, D::prelu, [lhs, rhs]),
        A::Gelu(op) => call!(values, op, D::gelu, [input]),
        A::Sigmoid(op) => call!(values, op, D::sigmoid, [input]),
        A::HardSigmoid(op) => call!(values, op, D::hard_sigmoid, [tensor], op.alpha.into(), op.beta.into()),
        A::LogSigmoid(op) => call!(values, op, D::log_sigmoid, [input]),
        A::Softmax(op) => call!(values, op, D::softmax, [input], op.axis),
        A::LogSoftmax(op) => call!(values, op, D::log_softmax, [input], op.axis),
        A::Softmin(op) => call!(values, op, D::softmin, [input], op.axis),
        _ => Ok(None),
    }
}
