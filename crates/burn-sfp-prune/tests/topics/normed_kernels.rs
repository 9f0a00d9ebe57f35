//! Kernels with a norm of their own: weight normalisation, weight standardisation, demodulation.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn_sfp_graph::GraphModule;

use crate::sums::{reason, smaller_layers};
use crate::support::*;

type Bare<const D: usize> = Param<Tensor<D>>;

/// Kernels that are made of parameters with a norm of their own.
#[derive(Clone, Copy, Debug)]
enum Normed {
    /// A direction and a length for each filter (weight normalisation), the length without an epsilon.
    Weight,
    /// The same with the length of all filters together.
    Whole,
    /// Mean and deviation over the inputs taken out (weight standardisation).
    Standard,
}

#[derive(Module, Debug)]
struct Kernel {
    stem: Conv2d,
    v: Bare<4>,
    g: Bare<4>,
    body: Conv2d,
    fc: Linear,
    #[module(skip)]
    by: Normed,
}

graph!(Kernel: Tensor<4> => Tensor<2>, |net, x| {
    let x = relu(net.stem.forward(x));
    let v = net.v.val();
    let kernel = match net.by {
        Normed::Weight => v.clone() / v.square().sum_dims(&[1, 2, 3]).sqrt() * net.g.val(),
        Normed::Whole => v.clone() / v.square().sum_dims(&[0, 1, 2, 3]).sqrt() * net.g.val(),
        Normed::Standard => {
            let v = v.clone() - v.mean_dims(&[1, 2, 3]);
            v.clone() / (v.square().mean_dims(&[1, 2, 3]) + 1e-4).sqrt() * net.g.val()
        }
    };
    let x = relu(conv2d(x, kernel, None, ConvOptions::new([1, 1], [1, 1], [1, 1], 1)));
    net.fc.forward(mean(relu(net.body.forward(x))))
});

fn kernel(by: Normed) -> Kernel {
    random(Kernel {
        stem: conv(2, 6),
        v: bare([8, 6, 3, 3]),
        g: bare([8, 1, 1, 1]),
        body: conv(8, 4),
        fc: linear(4, 3),
        by,
    })
}

#[test]
fn weight_normalisation() {
    let x = input([2, 2, 5, 5]);
    for by in [Normed::Weight, Normed::Whole] {
        let net = kernel(by);
        let smaller = prune(&net, &x, 0.5);
        assert_eq!((smaller.model.v.dims(), smaller.model.g.dims()), ([4, 3, 3, 3], [4, 1, 1, 1]), "{by:?}");
        let out = values(smaller.plan.zeroed(&net).unwrap().run(x.clone()));
        assert!(out.iter().all(|value| value.is_finite()), "{by:?}");
        assert_eq!(smaller_layers(&net, &x), ["stem", "{v,g}", "body"], "{by:?}");
    }
}

#[test]
fn inputs_of_a_standardised_kernel_stay() {
    let (net, x) = (kernel(Normed::Standard), input([2, 2, 5, 5]));
    assert_eq!(smaller_layers(&net, &x), ["{v,g}", "body"]);
    holds(reason(&net, &x, "stem"), &["MeanDim runs along its channels", "Sub"]);
}

/// A kernel for each sample whose filters have the same energy (StyleGAN 2).
#[derive(Module, Debug)]
struct Style {
    stem: Conv2d,
    style: Linear,
    weight: Bare<4>,
    body: Conv2d,
    fc: Linear,
}

graph!(Style: Tensor<4> => Tensor<2>, |net, x| {
    let style = net.style.forward(mean(x.clone()));
    let x = relu(net.stem.forward(x));
    let [samples, inputs, h, w] = x.dims();
    let kernel = net.weight.val().unsqueeze::<5>() * style.reshape([samples as i32, 1, -1, 1, 1]);
    let energy = kernel.clone().square().sum_dims(&[2, 3, 4]) + 1e-6;
    let kernel = kernel * energy.sqrt().recip();
    let outputs = kernel.dims()[1];
    let kernel = kernel.reshape([-1, inputs as i32, 3, 3]);
    let folded = x.reshape([1, samples * inputs, h, w]);
    let y = conv2d(folded, kernel, None, ConvOptions::new([1, 1], [1, 1], [1, 1], samples));
    net.fc.forward(mean(relu(net.body.forward(y.reshape([samples, outputs, h, w])))))
});

#[test]
fn demodulation() {
    let net =
        Style { stem: conv(2, 6), style: linear(2, 6), weight: bare([8, 6, 3, 3]), body: conv(8, 4), fc: linear(4, 3) };
    let (net, x) = (random(net), input([3, 2, 5, 5]));
    let smaller = smaller_layers(&net, &x);
    for path in ["stem", "weight", "body"] {
        assert!(smaller.contains(&path.to_string()), "{path}: {smaller:?}");
    }
    let smaller = prune(&net, &x, 0.5);
    assert_eq!(smaller.model.weight.dims(), [4, 3, 3, 3]);
    assert_eq!(kept(&smaller.plan, "weight", 0), strongest(&norms(&net.weight, 0), 4));
    assert_eq!(smaller.model.style.weight.dims(), [2, 3]);
}
