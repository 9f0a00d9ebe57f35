//! Weights that the forward pass computes: what is a position of a kernel stays, and a layer is named, scored and counted as what it is.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::nn::conv::Conv2d;
use burn::tensor::activation::{relu, tanh};
use burn::tensor::module::{
    conv_transpose1d, conv_transpose2d, conv_transpose3d, conv1d, conv2d, conv3d, deform_conv2d,
};
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions, DeformConvOptions};
use burn::tensor::{Tensor, TensorData, s};
use burn_sfp_nn::Shrink;
use burn_sfp_prune::{Budget, GroupCut, Magnitude, MagnitudeConnections, Planner};

use crate::support::*;

type Bare<const D: usize> = Param<Tensor<D>>;

fn half() -> Planner {
    Planner::new().budget(Budget::PerLayer(0.5))
}

/// The norm of each row of a matrix.
fn row_norms(matrix: Tensor<2>) -> Vec<f64> {
    norms(&Param::from_tensor(matrix), 0)
}

/// A kernel that is the product of two thin matrices.
#[derive(Module, Debug)]
struct Thin {
    stem: Linear,
    a: Bare<2>,
    b: Bare<2>,
    fc: Linear,
}

graph!(Thin: Tensor<3> => Tensor<2>, |net, x| {
    let x = relu(net.stem.forward(x)).swap_dims(1, 2);
    let (outputs, inputs) = (net.a.dims()[0] as i32, x.dims()[1] as i32);
    let kernel = net.a.val().matmul(net.b.val()).reshape([outputs, inputs, -1]);
    let y = relu(conv1d(x, kernel, None, ConvOptions::new([2], [1], [1], 1)));
    net.fc.forward(y.mean_dim(2).squeeze_dim(2))
});

#[test]
fn taps_of_a_thin_kernel_stay() {
    let net = Thin { stem: linear(3, 4), a: bare([16, 8]), b: bare([8, 4 * 3]), fc: linear(16, 3) };
    let net = random(net);
    for steps in [8, 9] {
        let x = input([2, steps, 3]);
        let smaller = prune(&net, &x, 0.5);
        let plan = &smaller.plan;
        assert_eq!((smaller.model.a.dims(), smaller.model.b.dims()), ([8, 8], [8, 2 * 3]));
        let layers: Vec<&str> = plan.layers.iter().map(|layer| layer.path.as_str()).collect();
        assert_eq!(layers, ["stem", "{a,b}", "fc"]);
        // Scored by the kernel, counted by the convolution.
        let scores = row_norms(net.a.val().matmul(net.b.val()));
        assert_eq!(kept(plan, "a", 0), strongest(&scores, 8));
        let layer = plan.layer("{a,b}").unwrap();
        let positions = (steps as u64 + 2 - 3) / 2 + 1;
        assert_eq!((layer.filters_before, layer.filters_after), (16, 8));
        assert_eq!((layer.macs_before, layer.macs_after), (16 * 4 * 3 * positions, 8 * 2 * 3 * positions));
        assert_eq!((layer.connections_before, layer.connections_after), (16 * 4, 8 * 2));
        assert_eq!((layer.parameters_before, layer.parameters_after), (16 * 8 + 8 * 12, 8 * 8 + 8 * 6));
        assert!(plan.trainable.contains(&"a".to_string()) && plan.trainable.contains(&"b".to_string()));
        sweep(&net, &x, GroupCut::WithinGroups);
        sweep(&net, &x, GroupCut::WholeGroups);
    }
}

/// The same of every rank and direction, its input of any rank. `way` names the operation.
#[derive(Module, Debug)]
struct Any {
    stem: Conv2d,
    a: Bare<2>,
    b: Bare<2>,
    offsets: Bare<4>,
    fc: Linear,
    #[module(skip)]
    way: &'static str,
}

graph!(Any: Tensor<4> => Tensor<2>, |net, x| {
    let x = relu(net.stem.forward(x));
    let [samples, inputs, h, w] = x.dims();
    let kernel = net.a.val().matmul(net.b.val());
    let i = inputs as i32;
    let wide = x.clone().reshape([samples, inputs, h * w]);
    let deep = x.clone().reshape([samples, inputs, 2, h / 2, w]);
    let y: Tensor<4> = match net.way {
        "conv1d" => conv1d(wide, kernel.reshape([-1, i, 3]), None, ConvOptions::new([2], [1], [1], 1)).unsqueeze_dim(3),
        "conv2d" => conv2d(x, kernel.reshape([-1, i, 3, 2]), None, ConvOptions::new([2, 2], [1, 1], [1, 1], 1)),
        "conv3d" => {
            let y = conv3d(deep, kernel.reshape([-1, i, 2, 2, 2]), None, ConvOptions::new([1; 3], [1; 3], [1; 3], 1));
            y.flatten(3, 4)
        }
        "conv_transpose1d" => {
            let options = ConvTransposeOptions::new([2], [1], [0], [1], 1);
            conv_transpose1d(wide, kernel.swap_dims(0, 1).reshape([i, 3, -1]).swap_dims(1, 2), None, options).unsqueeze_dim(3)
        }
        "conv_transpose2d" => {
            let kernel = kernel.swap_dims(0, 1).reshape([i, 2, 3, -1]).permute([0, 3, 1, 2]);
            conv_transpose2d(x, kernel, None, ConvTransposeOptions::new([2, 2], [1, 1], [0, 0], [1, 1], 1))
        }
        "conv_transpose3d" => {
            let kernel = kernel.swap_dims(0, 1).reshape([i, 8, -1]).swap_dims(1, 2).reshape([i, -1, 2, 2, 2]);
            let options = ConvTransposeOptions::new([1; 3], [0; 3], [0; 3], [1; 3], 1);
            conv_transpose3d(deep, kernel, None, options).flatten(3, 4)
        }
        "deform_conv2d" => {
            let offsets = net.offsets.val().expand([samples, 18, h, w]);
            let options = DeformConvOptions::new([1, 1], [1, 1], [1, 1], 1, 1);
            deform_conv2d(x, offsets, kernel.reshape([-1, i, 3, 3]), None, None, options)
        }
        // A channel each.
        _ => conv2d(x, kernel.reshape([i, 1, 3, -1]), None, ConvOptions::new([1, 1], [1, 1], [1, 1], inputs)),
    };
    net.fc.forward(mean(relu(y)))
});

fn any(way: &'static str, outputs: usize, columns: usize) -> Any {
    let (a, b) = (bare([outputs, 5]), bare([5, columns]));
    random(Any { stem: conv(2, 6), a, b, offsets: bare([1, 18, 1, 1]), fc: linear(outputs, 3), way })
}

#[test]
fn taps_of_any_convolution_stay() {
    let x = input([2, 2, 4, 6]);
    for (way, taps) in [
        ("conv1d", 3),
        ("conv2d", 6),
        ("conv3d", 8),
        ("conv_transpose1d", 3),
        ("conv_transpose2d", 6),
        ("conv_transpose3d", 8),
        ("deform_conv2d", 9),
    ] {
        let net = any(way, 8, 6 * taps);
        let smaller = prune(&net, &x, 0.5);
        assert_eq!(smaller.model.b.dims(), [5, 3 * taps], "{way}");
        if way != "deform_conv2d" {
            assert_eq!(smaller.model.a.dims(), [4, 5], "{way}");
        }
        sweep(&net, &x, GroupCut::WithinGroups);
    }
}

#[test]
fn taps_of_a_computed_depthwise_kernel_stay() {
    let (net, x) = (any("depthwise", 6, 9), input([2, 2, 4, 6]));
    let smaller = prune(&net, &x, 0.5);
    assert_eq!(smaller.model.b.dims(), [5, 9]);
    sweep(&net, &x, GroupCut::WithinGroups);
    sweep(&net, &x, GroupCut::WholeGroups);
}

/// A kernel under another order of its axes, as other libraries store it, and one stored as a matrix.
#[derive(Module, Debug)]
struct Stored {
    first: Bare<4>,
    second: Bare<2>,
    fc: Linear,
}

graph!(Stored: Tensor<4> => Tensor<2>, |net, x| {
    let options = || ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
    let x = relu(conv2d(x, net.first.val().permute([3, 2, 0, 1]), None, options()));
    let inputs = x.dims()[1] as i32;
    let kernel = net.second.val().reshape([-1, inputs, 3, 3]);
    net.fc.forward(mean(relu(conv2d(x, kernel, None, options()))))
});

#[test]
fn kernels_in_another_order_are_scored_by_filter() {
    let net = random(Stored { first: bare([3, 3, 2, 8]), second: bare([6, 8 * 9]), fc: linear(6, 3) });
    let x = input([2, 2, 5, 5]);
    let smaller = prune(&net, &x, 0.5);
    assert_eq!(kept(&smaller.plan, "first", 3), strongest(&norms(&net.first, 3), 4));
    assert_eq!(kept(&smaller.plan, "second", 0), strongest(&norms(&net.second, 0), 3));
    assert_eq!(smaller.model.second.dims(), [3, 4 * 9]);
    sweep(&net, &x, GroupCut::WithinGroups);
    // Their connections are not masked: no axis of the parameter counts the inputs.
    let masked = half().prune(&net, &x, &MagnitudeConnections::l1()).unwrap();
    assert!(masked.plan.masks.iter().all(|mask| mask.parameter == "fc.weight"));
}

/// A low-rank update of a stored weight, and a direction times a length.
#[derive(Module, Debug)]
struct Adapted {
    base: Linear,
    a: Bare<2>,
    b: Bare<2>,
    direction: Bare<2>,
    length: Bare<2>,
    fc: Linear,
}

graph!(Adapted: Tensor<2> => Tensor<2>, |net, x| {
    let weight = net.base.weight.val() + net.a.val().matmul(net.b.val()) * 0.5;
    let x = relu(x.matmul(weight) + net.base.bias.as_ref().unwrap().val().unsqueeze());
    let direction = net.direction.val();
    let norm = direction.clone().square().sum_dim(0).sqrt();
    net.fc.forward(relu(x.matmul(direction / norm * net.length.val())))
});

#[test]
fn sums_and_products_of_parameters_are_one_layer() {
    let net = random(Adapted {
        base: linear(5, 8),
        a: bare([5, 2]),
        b: bare([2, 8]),
        direction: bare([8, 6]),
        length: bare([1, 6]),
        fc: linear(6, 3),
    });
    let x = input([3, 5]);
    let network = capture(&net, &x);
    let paths: Vec<&str> = network.layers().iter().map(|layer| layer.path.as_str()).collect();
    assert_eq!(paths, ["{base.weight,a,b}", "{direction,length}", "fc"]);
    assert_eq!(network.layers()[0].parameters, (5 * 8 + 8) + 5 * 2 + 2 * 8);
    let smaller = prune(&net, &x, 0.5);
    let sum = net.base.weight.val() + net.a.val().matmul(net.b.val()) * 0.5;
    assert_eq!(kept(&smaller.plan, "b", 1), strongest(&row_norms(sum.transpose()), 4));
    // A direction has length 1: the other parameter decides.
    assert_eq!(kept(&smaller.plan, "length", 1), strongest(&norms(&net.length, 1), 3));
    assert_eq!(smaller.model.direction.dims(), [4, 3]);
    sweep(&net, &x, GroupCut::WithinGroups);
    // By the path of one of the parameters a layer is left alone.
    let left = prune_with(&net, &x, &half().exclude(["a"]), &Magnitude::l1()).unwrap();
    assert_eq!(left.model.base.weight.dims(), [5, 8]);
}

/// Kernels that a small network makes of a code, two of them of the same parameters.
#[derive(Module, Debug)]
struct Hyper {
    stem: Conv2d,
    code: Bare<2>,
    hidden: Linear,
    kernel: Linear,
    fc: Linear,
}

graph!(Hyper: Tensor<4> => Tensor<2>, |net, x| {
    let mut x = relu(net.stem.forward(x));
    for row in 0..net.code.dims()[0] {
        let code = net.code.val().narrow(0, row, 1);
        let inputs = x.dims()[1] as i32;
        let kernel = net.kernel.forward(relu(net.hidden.forward(code))).reshape([inputs, inputs, 3, 3]);
        x = x.clone() + relu(conv2d(x, kernel, None, ConvOptions::new([1, 1], [1, 1], [1, 1], 1)));
    }
    net.fc.forward(mean(x))
});

fn hyper(codes: usize) -> Hyper {
    let (hidden, kernel) = (linear(3, 6), linear(6, 4 * 4 * 9));
    random(Hyper { stem: conv(2, 4), code: bare([codes, 3]), hidden, kernel, fc: linear(4, 3) })
}

#[test]
fn a_hypernetwork_of_a_code() {
    let x = input([2, 2, 5, 5]);
    let all = "{code,hidden.weight,hidden.bias,kernel.weight,kernel.bias}";
    let net = hyper(1);
    let smaller = prune(&net, &x, 0.5);
    let paths: Vec<&str> = smaller.plan.layers.iter().map(|layer| layer.path.as_str()).collect();
    assert_eq!(paths, ["stem", "hidden", "kernel", all, "fc"]);
    assert_eq!(smaller.model.kernel.weight.dims(), [3, 2 * 2 * 9]);
    sweep(&net, &x, GroupCut::WithinGroups);
    // Two kernels that the same columns make, each reading what the other writes: they are two layers.
    let net = hyper(2);
    let smaller = prune(&net, &x, 0.5);
    let paths: Vec<&str> = smaller.plan.layers.iter().map(|layer| layer.path.as_str()).collect();
    assert!(paths.contains(&all) && paths.contains(&format!("{all}#2").as_str()), "{paths:?}");
    assert_eq!(smaller.model.hidden.weight.dims(), [3, 3]);
    sweep(&net, &x, GroupCut::WithinGroups);
}

/// A kernel for each sample, its batch in the groups of the convolution.
#[derive(Module, Debug)]
struct PerSample {
    stem: Conv2d,
    kernels: Linear,
    fc: Linear,
}

graph!(PerSample: Tensor<4> => Tensor<2>, |net, x| {
    let x = relu(net.stem.forward(x));
    let [samples, inputs, h, w] = x.dims();
    let kernels: Tensor<4> = tanh(net.kernels.forward(mean(x.clone()))).reshape([-1, inputs as i32, 3, 3]);
    let folded = x.reshape([1, samples * inputs, h, w]);
    let y = conv2d(folded, kernels, None, ConvOptions::new([1, 1], [1, 1], [1, 1], samples));
    let outputs = y.dims()[1] / samples;
    net.fc.forward(mean(relu(y.reshape([samples, outputs, h, w]))))
});

#[test]
fn taps_of_a_kernel_for_each_sample_stay() {
    let net = random(PerSample { stem: conv(2, 4), kernels: linear(4, 6 * 4 * 9), fc: linear(6, 3) });
    for samples in [1, 3] {
        let x = input([samples, 2, 5, 5]);
        let smaller = prune(&net, &x, 0.5);
        let [inputs, outputs] = smaller.model.kernels.weight.dims();
        let fc = smaller.model.fc.weight.dims()[0];
        assert_eq!((inputs, outputs), (2, fc * 2 * 9));
        sweep(&net, &x, GroupCut::WithinGroups);
        sweep(&net, &x, GroupCut::WholeGroups);
    }
}

/// A kernel of parts side by side, and one of several symmetric to each other.
#[derive(Module, Debug)]
struct Parts {
    left: Bare<4>,
    right: Bare<4>,
    mixed: Bare<4>,
    fc: Linear,
}

graph!(Parts: Tensor<4> => Tensor<2>, |net, x| {
    let options = || ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
    let kernel = Tensor::cat(vec![net.left.val(), net.right.val()], 0);
    let x = relu(conv2d(x, kernel, None, options()));
    // The same from left to right and back.
    let kernel = (net.mixed.val() + net.mixed.val().flip([3])) * 0.5;
    net.fc.forward(mean(relu(conv2d(x, kernel, None, options()))))
});

#[test]
fn kernels_put_together() {
    let net = random(Parts {
        left: bare([4, 2, 3, 3]),
        right: bare([6, 2, 3, 3]),
        mixed: bare([8, 10, 3, 3]),
        fc: linear(8, 3),
    });
    let x = input([2, 2, 5, 5]);
    let smaller = prune(&net, &x, 0.5);
    assert_eq!(smaller.plan.layers[0].path, "{left,right}");
    assert_eq!(smaller.model.mixed.dims(), [4, 5, 3, 3]);
    assert_eq!(smaller.model.left.dims()[0] + smaller.model.right.dims()[0], 5);
    sweep(&net, &x, GroupCut::WithinGroups);
}

/// Something else than a width follows from a width, and every shape is the same all the same. `way` says what.
#[derive(Module, Debug, Shrink)]
struct ByWidth {
    stem: Conv2d,
    one: Conv2d,
    other: Conv2d,
    fc: Linear,
    #[module(skip)]
    way: Way,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Branch,
    Rows,
    Reversed,
    Dilation,
    Constant,
    Steps,
}

impl Shrink for Way {
    fn shrink(&mut self, _scope: &mut burn_sfp_nn::Scope<'_>) {}
}

graph!(ByWidth: Tensor<4> => Tensor<2>, |net, x| {
    let x = relu(net.stem.forward(x));
    let width = x.dims()[1];
    let wide = width >= 8;
    let y = match net.way {
        Way::Branch => {
            let (first, second) = if wide { (&net.one, &net.other) } else { (&net.other, &net.one) };
            first.forward(x.clone()) - second.forward(x) * 2.0
        }
        Way::Rows => net.one.forward(x).narrow(2, if wide { 0 } else { 1 }, 3),
        Way::Reversed => net.one.forward(x.clone()) - net.other.forward(x) * 2.0,
        Way::Dilation => {
            let (padding, dilation) = if wide { (1, 1) } else { (2, 2) };
            let options = ConvOptions::new([1, 1], [padding; 2], [dilation; 2], 1);
            conv2d(x, net.one.weight.val(), None, options)
        }
        Way::Constant => {
            let rows: Vec<f32> = (0..5).map(|row| if (row < 2) == wide { 1.0 } else { 0.0 }).collect();
            let rows = Tensor::<1>::from_data(TensorData::new(rows, [5]), &x.device());
            net.one.forward(x) * rows.reshape([1, 1, 5, 1])
        }
        Way::Steps => {
            let y = net.one.forward(x);
            if wide { y.slice_dim(2, s![0..3;1]) } else { y.slice_dim(2, s![0..5;2]) }
        }
    };
    net.fc.forward(mean(relu(y)))
});

#[test]
fn what_else_follows_from_a_width_is_noticed() {
    for way in [Way::Branch, Way::Rows, Way::Dilation, Way::Constant, Way::Steps] {
        let net = random(ByWidth { stem: conv(2, 8), one: conv(8, 6), other: conv(8, 6), fc: linear(6, 3), way });
        let x = input([2, 2, 5, 5]);
        // `prune` compares the outputs: what does not follow stays.
        let smaller = prune(&net, &x, 0.5);
        assert_eq!(smaller.model.stem.weight.dims()[0], 8, "{way:?}");
        assert!(!why(&smaller.plan, "stem").is_empty(), "{way:?}");
        assert_eq!(smaller.model.fc.weight.dims()[0], 3, "{way:?}");
        let strict = half().strict().prune(&net, &x, &Magnitude::l2());
        assert!(strict.is_err(), "{way:?}");
    }
    let net = ByWidth { stem: conv(2, 8), one: conv(8, 6), other: conv(8, 6), fc: linear(6, 3), way: Way::Reversed };
    assert_eq!(prune(&random(net), &input([2, 2, 5, 5]), 0.5).model.stem.weight.dims()[0], 4);
}
