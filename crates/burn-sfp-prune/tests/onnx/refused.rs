//! What is not exported is refused with an error that says what and where, and nothing is written.

use burn::module::Module;
use burn::nn::conv::ConvTranspose2dConfig;
use burn::nn::interpolate::{Interpolate2dConfig, InterpolateMode};
use burn::nn::pool::AdaptiveAvgPool2dConfig;
use burn::nn::{GroupNormConfig, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::activation::{gelu, hard_sigmoid, leaky_relu, log_softmax, relu6, softmax};
use burn::tensor::{DType, Device, Tensor};
use burn_sfp_graph::{GraphError, GraphModule, ModuleInput};
use burn_sfp_nn::HeadAttentionConfig;
use burn_sfp_prune::{OnnxConfig, OnnxError, PruneError, export_onnx, export_onnx_with};

use crate::operations::{CHANNELS, Cases, Layers, random, tokens};

#[test]
fn an_operation_with_parameters_is_named_with_its_layer() {
    let (_, result) =
        Cases::new().export("net", tokens, |layers, ids| layers.linear.forward(layers.words.forward(ids)));
    let message = result.unwrap_err().to_string();
    assert!(message.starts_with("operation 0 (Embedding) of layer `words` cannot be exported"), "{message}");
}

/// Exports a forward pass on images that runs something behind the convolution, and expects it to be refused.
fn refused<O: ModuleInput>(then: impl Fn(&Layers, Tensor<4>) -> O) -> (String, String) {
    let (file, result) =
        Cases::new().export("net", |n| random([n, 3, 8, 6]), |layers, x| then(layers, layers.conv.forward(x)));
    assert!(!file.exists());
    match result {
        Err(PruneError::Onnx(OnnxError::Unsupported { name, after, .. })) => (name, after.unwrap_or_default()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn operations_are_named_with_the_layer_before_them() {
    let device = Device::flex();
    let up = ConvTranspose2dConfig::new([CHANNELS, 2], [2, 2]).init(&device);
    let group = GroupNormConfig::new(2, CHANNELS).init(&device);
    let norm = LayerNormConfig::new(6).init(&device);
    let resize = Interpolate2dConfig::new().with_mode(InterpolateMode::Lanczos).with_output_size(Some([4, 4])).init();
    let found = [
        refused(|_, x| x.mean_dim(2)),
        refused(|_, x| softmax(x, 1)),
        refused(|_, x| log_softmax(x, 1)),
        refused(|_, x| gelu(x)),
        refused(|_, x| relu6(x)),
        refused(|_, x| x.clamp_min(0.5)),
        refused(|_, x| leaky_relu(x, 0.1)),
        refused(|_, x| hard_sigmoid(x, 0.2, 0.5)),
        refused(|_, x| x.permute([0, 2, 3, 1])),
        refused(|_, x| x.swap_dims(1, 2)),
        refused(|_, x| x.flip([2])),
        refused(|_, x| x.max_dim(1)),
        refused(|_, x| x.powf_scalar(1.5)),
        refused(|_, x| x.cos()),
        refused(|_, x| x.greater_elem(0.0).float()),
        refused(|_, x| x.clone().mask_fill(x.lower_elem(0.0), 0.0)),
        refused(|_, x| x.sum()),
        refused(|_, x| AdaptiveAvgPool2dConfig::new([2, 2]).init().forward(x)),
        refused(|_, x| resize.forward(x)),
        refused(|_, x| up.clone().to_device(&x.device()).forward(x)),
        refused(|_, x| group.clone().to_device(&x.device()).forward(x)),
        refused(|_, x| norm.clone().to_device(&x.device()).forward(x)),
    ];
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "MeanDim",
        "Softmax",
        "LogSoftmax",
        "Gelu",
        "Clamp",
        "ClampMin",
        "LeakyRelu",
        "HardSigmoid",
        "Permute",
        "SwapDims",
        "Flip",
        "MaxDim",
        "PowfScalar",
        "Cos",
        "GreaterElem",
        "LowerElem",
        "Sum",
        "AdaptiveAvgPool2d",
        "Interpolate",
        "ConvTranspose2d",
        "MeanDim",
        "LayerNorm",
    ];
    assert_eq!(names, expected);
    assert!(found.iter().all(|(_, after)| after == "conv"), "{found:?}");
}

#[derive(Module, Debug)]
struct Attends {
    first: Linear,
    attention: burn_sfp_nn::HeadAttention,
}

impl GraphModule for Attends {
    type Inputs = Tensor<3>;
    type Outputs = Tensor<3>;
    fn run(&self, x: Tensor<3>) -> Tensor<3> {
        self.attention.forward(burn_sfp_nn::MhaInput::self_attn(self.first.forward(x))).context
    }
}

#[test]
fn attention_is_refused_by_its_first_operation_that_is_not_exported() {
    let device = Device::flex();
    let net = Attends {
        first: LinearConfig::new(8, 8).init(&device),
        attention: HeadAttentionConfig::new(8, 2).init(&device),
    };
    let file = tempfile::tempdir().unwrap().path().join("net.onnx");
    let error = export_onnx(&net, &Tensor::zeros([1, 5, 8], &device), file, &OnnxConfig::new()).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("(SwapDims) after layer `attention.query`"), "{message}");
    assert!(message.contains("docs/networks.md"), "{message}");
}

#[derive(Module, Debug)]
struct Plain {
    layer: Linear,
}

impl GraphModule for Plain {
    type Inputs = Tensor<2>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<2>) -> Tensor<2> {
        self.layer.forward(x)
    }
}

fn plain() -> Plain {
    Plain { layer: LinearConfig::new(4, 3).init(&Device::flex()) }
}

/// The error of a forward pass of a linear layer.
fn error<O: ModuleInput>(forward: impl Fn(&Plain, Tensor<2>) -> O) -> PruneError {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.onnx");
    let input = Tensor::zeros([2, 4], &Device::flex());
    export_onnx_with(&plain(), &input, &file, &OnnxConfig::new(), forward).unwrap_err()
}

#[test]
fn boundaries_that_a_file_cannot_have() {
    let twice = error(|net, x| {
        let y = net.layer.forward(x);
        (y.clone(), y)
    });
    assert!(
        matches!(&twice, PruneError::Onnx(OnnxError::Boundary { what }) if what.contains("more than once")),
        "{twice}"
    );
    let deep = error(|net, x| net.layer.forward(x).reshape([1, 1, 1, 1, 1, 1, 1, 2, 3]));
    assert!(matches!(&deep, PruneError::Onnx(OnnxError::Boundary { what }) if what.contains("9 axes")), "{deep}");
}

#[test]
fn values_that_are_read() {
    // Known to a capture of this library, not to the exporter.
    let read = error(|net, x| {
        let factor: f32 = net.layer.bias.as_ref().unwrap().val().sum().into_scalar();
        net.layer.forward(x) * factor
    });
    assert!(matches!(&read, PruneError::Onnx(OnnxError::Forward { .. })), "{read}");
    let depends = error(|net, x| {
        let factor: f32 = x.clone().sum().into_scalar();
        net.layer.forward(x) * factor
    });
    assert!(matches!(&depends, PruneError::Graph(GraphError::ReadsValues { .. })), "{depends}");
    let wrong = error(|net, x| net.layer.forward(x.reshape([1, 8])));
    assert!(matches!(&wrong, PruneError::Graph(GraphError::Forward { .. })), "{wrong}");
}

#[test]
fn number_types_without_operations_elsewhere() {
    let mut net = plain();
    net.layer.bias = net.layer.bias.map(|bias| bias.map(|bias| bias.cast(DType::BF16)));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.onnx");
    let error = export_onnx(&net, &Tensor::zeros([2, 4], &Device::flex()), &file, &OnnxConfig::new()).unwrap_err();
    assert!(error.to_string().contains("`layer.bias` holds values of type BF16"), "{error}");
}

#[test]
fn an_old_file_stays_where_nothing_can_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.onnx");
    std::fs::write(&file, "old").unwrap();
    let input = Tensor::<2>::zeros([2, 4], &Device::flex());
    let softmax = |net: &Plain, x| softmax(net.layer.forward(x), 1);
    export_onnx_with(&plain(), &input, &file, &OnnxConfig::new(), softmax).unwrap_err();
    assert_eq!(std::fs::read(&file).unwrap(), b"old");
    export_onnx(&plain(), &input, &file, &OnnxConfig::new()).unwrap();
    assert_ne!(std::fs::read(&file).unwrap(), b"old");
    let nowhere = folder.path().join("no folder").join("net.onnx");
    let error = export_onnx(&plain(), &input, &nowhere, &OnnxConfig::new()).unwrap_err();
    assert!(matches!(error, PruneError::Onnx(OnnxError::File(_))), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file was left");
}

/// Forward passes that depend on the batch size: an error with a dynamic batch axis, exported for a fixed one.
fn only_fixed<O: ModuleInput>(forward: impl Fn(&Plain, Tensor<2>) -> O + Copy, expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.onnx");
    let input = random([2, 4]);
    match export_onnx_with(&plain(), &input, &file, &OnnxConfig::new(), forward) {
        Err(PruneError::Onnx(OnnxError::DynamicBatch { what, .. })) => assert!(what.contains(expected), "{what}"),
        other => panic!("{other:?}, expected {expected}"),
    }
    let net = plain();
    export_onnx_with(&net, &input, &file, &OnnxConfig::new().fixed_batch(), forward).unwrap();
    let expected = forward(&net, input.clone());
    assert!(crate::run::difference(&file, input, expected) < 1e-5);
}

#[test]
fn forward_passes_that_depend_on_the_batch_size() {
    only_fixed(|net, x| net.layer.forward(x).reshape([2, 3, 1]), "it fails on a batch of 6 samples");
    only_fixed(
        |net, x| {
            let samples = x.dims()[0];
            net.layer.forward(x) / samples as f32
        },
        "depend on the batch size",
    );
    only_fixed(
        |net, x| {
            let samples = x.dims()[0];
            net.layer.forward(x).slice([0..samples - 1, 0..3])
        },
        "the sizes of Slice depend on the batch size",
    );
    only_fixed(
        |net, x| {
            let samples = x.dims()[0];
            let more = Tensor::<2>::ones([samples, 2], &x.device());
            Tensor::cat(vec![net.layer.forward(x), more], 1)
        },
        "the sizes of ConstantOfShape depend on the batch size",
    );
    only_fixed(
        |net, x| {
            let samples = x.dims()[0];
            let y = net.layer.forward(x);
            if samples > 2 { y * 2.0 } else { y + 1.0 }
        },
        "it runs Add on a batch of 2 samples, Mul on one of 6",
    );
}
