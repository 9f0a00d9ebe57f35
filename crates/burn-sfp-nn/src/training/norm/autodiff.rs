//! The normalisation as one operation of the autodiff graph.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::{Autodiff, Backend, DispatchKindConversion};
use burn::tensor::{DispatchTensor, Tensor};
use burn_sfp_ndarray::{BatchNormGradients, batch_norm_train_gradients};

use super::{Normalized, Options, forward};
use crate::autodiff::{Operation, Primitive, inner, lifted, on_cpu, recorded};
use crate::bodies::{Task, ran_on_host};
use crate::tensor::{from_array, on_host};

/// Normalises tensors of which at least one has autodiff.
pub(super) fn tracked(x: &Tensor<3>, gamma: &Tensor<1>, beta: &Tensor<1>, options: Options) -> Option<Normalized> {
    on_cpu(&Normalization { x, gamma, beta, options })
}

struct Normalization<'a> {
    x: &'a Tensor<3>,
    gamma: &'a Tensor<1>,
    beta: &'a Tensor<1>,
    options: Options,
}

impl Operation for Normalization<'_> {
    type Output = Normalized;

    fn run<B: Backend, C: CheckpointStrategy>(&self) -> Option<Normalized>
    where
        DispatchTensor: DispatchKindConversion<B> + DispatchKindConversion<Autodiff<B, C>>,
    {
        let Self { x, gamma, beta, options } = *self;
        let (x, gamma, beta) = (lifted::<B, C, 3>(x)?, lifted::<B, C, 1>(gamma)?, lifted::<B, C, 1>(beta)?);
        let done = forward(&inner::<B, C, 3>(&x), &inner::<B, C, 1>(&gamma), &inner::<B, C, 1>(&beta), options)?;
        let out = done.output.try_into_primitive::<B>().ok()?;
        let (parents, statistics) = ([&x, &gamma, &beta], || [done.mean.clone(), done.variance.clone()]);
        let out = recorded::<B, C, _, 3, 3>(Gradient, parents, parents, out, |nodes| (nodes, statistics(), options));
        let output = Tensor::from_primitive::<Autodiff<B, C>>(out);
        Some(Normalized { output, mean: done.mean, variance: done.variance })
    }
}

#[derive(Debug)]
struct Gradient;

impl<B: Backend> Backward<B, 3> for Gradient
where
    DispatchTensor: DispatchKindConversion<B>,
{
    type State = ([NodeId; 3], [Tensor<1>; 2], Options);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let [of_x, of_gamma, of_beta] = ops.parents;
        let ([x, gamma, beta], statistics, options) = ops.state;
        let grad = Tensor::<3>::from_primitive::<B>(grads.consume::<B>(&ops.node));
        let x = Tensor::<3>::from_primitive::<B>(checkpointer.retrieve_node_output(x));
        let [gamma, beta] =
            [gamma, beta].map(|tensor| Tensor::<1>::from_primitive::<B>(checkpointer.retrieve_node_output(tensor)));
        // The forward pass ran on this backend's memory, so this does.
        let Some(found) = gradients(&x, &grad, [&gamma, &beta], &statistics, options) else { return };
        let device = x.device();
        let mut register = |node: Option<NodeId>, found: Option<Primitive<B>>| {
            if let (Some(node), Some(found)) = (node, found) {
                grads.register::<B>(node, found);
            }
        };
        let [of_x, of_gamma, of_beta] = [of_x, of_gamma, of_beta].map(|node| node.map(|node| node.id));
        register(of_x, from_array::<3, _>(found.input, &device).try_into_primitive::<B>().ok());
        register(of_gamma, from_array::<1, _>(found.gamma, &device).try_into_primitive::<B>().ok());
        register(of_beta, from_array::<1, _>(found.beta, &device).try_into_primitive::<B>().ok());
    }
}

fn gradients(
    x: &Tensor<3>,
    grad: &Tensor<3>,
    [gamma, beta]: [&Tensor<1>; 2],
    [mean, variance]: &[Tensor<1>; 2],
    Options { epsilon, relu }: Options,
) -> Option<BatchNormGradients> {
    let values = |tensor: &Tensor<1>| on_host(tensor, |values| values.to_owned());
    let (gamma, beta, mean, variance) = (values(gamma)?, values(beta)?, values(mean)?, values(variance)?);
    let (affine, statistics) = ([gamma.view(), beta.view()], [mean.view(), variance.view()]);
    let done =
        on_host(x, |x| on_host(grad, |grad| batch_norm_train_gradients(x, grad, affine, statistics, epsilon, relu)))??;
    ran_on_host(Task::NormGradients, done.ok())
}
