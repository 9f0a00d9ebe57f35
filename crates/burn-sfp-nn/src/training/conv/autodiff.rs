//! The convolution as one operation of the autodiff graph.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::{Autodiff, Backend, DispatchKindConversion};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{DispatchTensor, Tensor};

use super::{ConvGeometry, forward, gradients};
use crate::autodiff::{Operation, Primitive, inner, lifted, on_cpu, recorded};
use crate::bodies::{Task, ran_on_host};

/// Convolves tensors of which at least one has autodiff.
pub(super) fn conv2d(
    x: &Tensor<4>,
    weight: &Tensor<4>,
    bias: Option<&Tensor<1>>,
    geometry: &ConvGeometry,
) -> Option<Tensor<4>> {
    on_cpu(&Convolution { x, weight, bias, geometry })
}

struct Convolution<'a> {
    x: &'a Tensor<4>,
    weight: &'a Tensor<4>,
    bias: Option<&'a Tensor<1>>,
    geometry: &'a ConvGeometry,
}

impl Operation for Convolution<'_> {
    type Output = Tensor<4>;

    fn run<B: Backend, C: CheckpointStrategy>(&self) -> Option<Tensor<4>>
    where
        DispatchTensor: DispatchKindConversion<B> + DispatchKindConversion<Autodiff<B, C>>,
    {
        let Self { x, weight, bias, geometry } = *self;
        // Without a bias, a constant stands in its place.
        let bias_or_zeros =
            bias.map_or_else(|| Tensor::zeros([weight.dims()[0]], &weight.device().without_autodiff()), Tensor::clone);
        let lifted_bias = lifted::<B, C, 1>(&bias_or_zeros)?;
        let (x, weight) = (lifted::<B, C, 4>(x)?, lifted::<B, C, 4>(weight)?);
        let plain_bias = bias.map(|_| inner::<B, C, 1>(&lifted_bias));
        let out = forward(&inner::<B, C, 4>(&x), &inner::<B, C, 4>(&weight), plain_bias.as_ref(), geometry)?;
        let out = out.try_into_primitive::<B>().ok()?;
        let (parents, kept) = ([&x, &weight, &lifted_bias], [&x, &weight]);
        let out = recorded::<B, C, _, 3, 2>(Gradient, parents, kept, out, |[x, weight]| (x, weight, *geometry));
        Some(Tensor::from_primitive::<Autodiff<B, C>>(out))
    }
}

/// One of Burn's backward passes, from input, weight and gradient.
type BackwardOf<B> = fn(Primitive<B>, Primitive<B>, Primitive<B>, ConvOptions<2>) -> Primitive<B>;

#[derive(Debug)]
struct Gradient;

impl<B: Backend> Backward<B, 3> for Gradient
where
    DispatchTensor: DispatchKindConversion<B>,
{
    type State = (NodeId, NodeId, ConvGeometry);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let [of_x, of_weight, of_bias] = ops.parents;
        let (x, weight, geometry) = ops.state;
        let grad = Tensor::<4>::from_primitive::<B>(grads.consume::<B>(&ops.node));
        let x = Tensor::<4>::from_primitive::<B>(checkpointer.retrieve_node_output(x));
        let weight = Tensor::<4>::from_primitive::<B>(checkpointer.retrieve_node_output(weight));
        let [.., kh, kw] = weight.dims();
        // Where there is no kernel for a gradient, as for strides, it is Burn's.
        let burns = |of: BackwardOf<B>| {
            let primitive = |tensor: &Tensor<4>| tensor.clone().try_into_primitive::<B>().ok();
            Some(of(primitive(&x)?, primitive(&weight)?, primitive(&grad)?, options(&geometry)))
        };
        if let Some(node) = of_x {
            let found = ran_on_host(Task::DenseGradInput, gradients::by_input(&grad, &weight, &geometry));
            let found = found.and_then(|found| found.try_into_primitive::<B>().ok());
            if let Some(found) = found.or_else(|| burns(B::conv2d_x_backward)) {
                grads.register::<B>(node.id, found);
            }
        }
        if let Some(node) = of_weight {
            let found = ran_on_host(Task::DenseGradWeight, gradients::by_weight(&x, &grad, &geometry, [kh, kw]));
            let found = found.and_then(|found| found.try_into_primitive::<B>().ok());
            if let Some(found) = found.or_else(|| burns(B::conv2d_weight_backward)) {
                grads.register::<B>(node.id, found);
            }
        }
        if let Some(node) = of_bias
            && let Some(found) = gradients::by_bias(&grad).and_then(|found| found.try_into_primitive::<B>().ok())
        {
            grads.register::<B>(node.id, found);
        }
    }
}

fn options(geometry: &ConvGeometry) -> ConvOptions<2> {
    let padding = geometry.padding.map(|[before, after]| (before, after));
    ConvOptions::new_with_padding(geometry.stride, padding, geometry.dilation, geometry.groups)
}
