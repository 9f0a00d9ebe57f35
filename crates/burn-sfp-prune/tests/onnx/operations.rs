//! Each operation by itself: between two convolutions on images, and on vectors behind a linear layer.

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::nn::conv::{Conv1dConfig, Conv2d, Conv2dConfig};
use burn::nn::interpolate::{Interpolate2dConfig, InterpolateMode};
use burn::nn::pool::{AdaptiveAvgPool2dConfig, AvgPool2dConfig, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Embedding, EmbeddingConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::prelude::s;
use burn::tensor::activation::{relu, sigmoid, silu, tanh};
use burn::tensor::ops::PadMode;
use burn::tensor::{Device, Int, Tensor};
use burn_sfp_graph::{GraphModule, ModuleInput};
use burn_sfp_prune::{OnnxConfig, PruneError, export_onnx_with};

use super::draw::{drawn, uniform};
use crate::run::{check_in_python, difference, save_case};

/// Layers to make forward passes of.
#[derive(Module, Debug)]
pub struct Layers {
    pub conv: Conv2d,
    pub norm: BatchNorm,
    pub linear: Linear,
    pub words: Embedding,
}

pub const CHANNELS: usize = 4;

impl GraphModule for Layers {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<4>;
    fn run(&self, x: Tensor<4>) -> Tensor<4> {
        self.conv.forward(x)
    }
}

pub fn layers() -> Layers {
    let device = Device::flex();
    let conv = Conv2dConfig::new([3, CHANNELS], [3, 3]).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1));
    let mut norm = BatchNormConfig::new(CHANNELS).init(&device);
    norm.running_mean = burn::module::RunningState::new(random([CHANNELS]));
    norm.running_var = burn::module::RunningState::new(random([CHANNELS]).abs() + 0.5);
    drawn(Layers {
        conv: conv.init(&device),
        norm,
        linear: LinearConfig::new(6, 5).init(&device),
        words: EmbeddingConfig::new(11, 6).init(&device),
    })
}

pub fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    uniform(shape, -2.0, 2.0, &Device::flex())
}

/// Exports forward passes and compares what rten computes, at two batch sizes.
pub struct Cases {
    folder: tempfile::TempDir,
    files: Vec<PathBuf>,
    layers: Layers,
    failures: Vec<String>,
}

impl Cases {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), files: Vec::new(), layers: layers(), failures: Vec::new() }
    }

    /// Exports a forward pass; `make` makes an input of so many samples.
    pub fn export<I: ModuleInput, O: ModuleInput>(
        &self,
        name: &str,
        make: impl Fn(usize) -> I,
        forward: impl Fn(&Layers, I) -> O,
    ) -> (PathBuf, Result<(), PruneError>) {
        let file = self.folder.path().join(format!("{name}.onnx"));
        let result = export_onnx_with(&self.layers, &make(1), &file, &OnnxConfig::new(), &forward);
        (file, result)
    }

    fn agrees<I: ModuleInput, O: ModuleInput>(
        &mut self,
        name: &str,
        make: impl Fn(usize) -> I,
        forward: impl Fn(&Layers, I) -> O,
    ) {
        self.compare(name, make, forward, true);
    }

    fn compare<I: ModuleInput, O: ModuleInput>(
        &mut self,
        name: &str,
        make: impl Fn(usize) -> I,
        forward: impl Fn(&Layers, I) -> O,
        in_rten: bool,
    ) {
        let (file, result) = self.export(name, &make, &forward);
        if let Err(error) = result {
            self.failures.push(format!("{name}: {error}"));
            return;
        }
        for (case, samples) in [1, 5].into_iter().enumerate() {
            let input = make(samples);
            let expected = forward(&self.layers.valid(), input.clone());
            save_case(&file, case, input.clone(), expected.clone());
            let off = if in_rten { difference(&file, input, expected) } else { 0.0 };
            if off > 1e-4 {
                self.failures.push(format!("{name}, {samples} samples: {off}"));
            }
        }
        self.files.push(file);
    }

    fn images<O: ModuleInput>(&mut self, name: &str, then: impl Fn(&Layers, Tensor<4>) -> O) {
        self.agrees(name, |samples| random([samples, 3, 8, 6]), |layers, x| then(layers, layers.conv.forward(x)));
    }

    /// In onnxruntime alone, where rten does not know an attribute.
    fn images_in_python<O: ModuleInput>(&mut self, name: &str, then: impl Fn(&Layers, Tensor<4>) -> O) {
        let forward = |layers: &Layers, x| then(layers, layers.conv.forward(x));
        self.compare(name, |samples| random([samples, 3, 8, 6]), forward, false);
    }

    fn vectors<O: ModuleInput>(&mut self, name: &str, then: impl Fn(&Layers, Tensor<2>) -> O) {
        self.agrees(name, |samples| random([samples, 6]), |layers, x| then(layers, layers.linear.forward(x)));
    }

    /// All agreed, and do so in onnxruntime.
    pub fn finish(self) {
        assert!(self.failures.is_empty(), "{:#?}", self.failures);
        let files: Vec<&Path> = self.files.iter().map(PathBuf::as_path).collect();
        check_in_python(&files, 1e-4);
    }
}

pub fn tokens(samples: usize) -> Tensor<2, Int> {
    let ids: Vec<i64> = (0..samples as i64 * 7).map(|k| k * 5 % 11).collect();
    Tensor::<1, Int>::from_data(ids.as_slice(), &Device::flex()).reshape([samples, 7])
}

#[test]
fn arithmetic_and_activations() {
    let mut cases = Cases::new();
    cases.vectors("relu", |_, x| relu(x));
    cases.vectors("sigmoid", |_, x| sigmoid(x));
    cases.vectors("tanh", |_, x| tanh(x));
    cases.vectors("silu", |_, x| silu(x));
    cases.vectors("exp", |_, x| x.exp());
    cases.vectors("log", |_, x| (x.abs() + 1.5).log());
    cases.vectors("sqrt", |_, x| (x.abs() + 0.5).sqrt());
    cases.vectors("neg", |_, x| -x);
    cases.vectors("scalars", |_, x| (x * 2.0 - 3.0) / 1.5 + 0.25);
    cases.vectors("tensors", |_, x| (x.clone() + x.clone() * x.clone() - x.clone() / (x.abs() + 1.0)).add_scalar(1));
    cases.images("broadcast", |layers, x| x.clone() * layers.norm.gamma.val().reshape([1, CHANNELS, 1, 1]) + x);
    cases.finish();
}

#[test]
fn layers_of_every_kind() {
    let mut cases = Cases::new();
    cases.images("norm", |layers, x| layers.norm.forward(x));
    cases.vectors("linear", |_, x| x);
    cases.agrees("linear3", |samples| random([samples, 7, 6]), |layers, x| layers.linear.forward(x));
    cases.agrees("words", tokens, |layers, ids| {
        let rows = layers.words.weight.val().select(0, ids.flatten::<1>(0, 1));
        layers.linear.forward(rows.reshape([-1, 7, 6]))
    });
    let device = Device::flex();
    let strided = Conv2dConfig::new([CHANNELS, 6], [3, 2]).with_stride([2, 1]).with_dilation([1, 2]).with_groups(2);
    let strided = strided.with_padding(PaddingConfig2d::Explicit(1, 0, 0, 1)).init(&device);
    cases.images("strided", move |_, x| strided.clone().to_device(&x.device()).forward(x));
    let same = Conv2dConfig::new([CHANNELS, 6], [3, 3]).with_stride([2, 2]).with_padding(PaddingConfig2d::Same);
    let same = same.init(&device);
    cases.images("same", move |_, x| same.clone().to_device(&x.device()).forward(x));
    let flat = Conv1dConfig::new(CHANNELS, 3, 3).with_stride(2).with_dilation(2).init(&device);
    cases.images("conv1d", move |_, x| flat.clone().to_device(&x.device()).forward(x.flatten::<3>(2, 3)));
    cases.finish();
}

#[test]
fn poolings() {
    let mut cases = Cases::new();
    let explicit = PaddingConfig2d::Explicit(1, 1, 1, 1);
    for ceil in [false, true] {
        let max = MaxPool2dConfig::new([3, 2]).with_strides([2, 2]).with_ceil_mode(ceil);
        cases.images(&format!("max_{ceil}"), move |_, x| max.init().forward(x));
        let max = MaxPool2dConfig::new([2, 2]).with_strides([1, 2]).with_dilation([2, 1]).with_ceil_mode(ceil);
        let max = max.with_padding(explicit.clone());
        cases.images_in_python(&format!("max_padded_{ceil}"), move |_, x| max.init().forward(x));
        for count in [false, true] {
            let mean =
                AvgPool2dConfig::new([3, 2]).with_strides([2, 2]).with_ceil_mode(ceil).with_count_include_pad(count);
            let padded = mean.clone().with_padding(explicit.clone());
            cases.images(&format!("mean_{ceil}_{count}"), move |_, x| mean.init().forward(x));
            cases.images(&format!("mean_padded_{ceil}_{count}"), move |_, x| padded.init().forward(x));
        }
    }
    cases.images("global", |_, x| AdaptiveAvgPool2dConfig::new([1, 1]).init().forward(x).flatten::<2>(1, 3));
    cases.finish();
}

#[test]
fn interpolation_and_padding() {
    let mut cases = Cases::new();
    for (name, mode) in
        [("nearest", InterpolateMode::Nearest), ("linear", InterpolateMode::Linear), ("cubic", InterpolateMode::Cubic)]
    {
        for (size, output) in [("larger", [16, 12]), ("odd", [11, 9]), ("smaller", [4, 3])] {
            for align in [false, true] {
                let resize = Interpolate2dConfig::new().with_mode(mode.clone()).with_align_corners(align);
                let resize = resize.with_output_size(Some(output)).init();
                cases.images_in_python(&format!("{name}_{size}_{align}"), move |_, x| resize.forward(x));
            }
        }
    }
    for (name, mode) in [("constant", PadMode::Constant(0.5)), ("reflect", PadMode::Reflect), ("edge", PadMode::Edge)] {
        cases.images(name, move |_, x| x.pad((1, 2, 2, 1), mode));
    }
    cases.finish();
}

#[test]
fn indexing_and_shapes() {
    let mut cases = Cases::new();
    cases.images("cat", |_, x| Tensor::cat(vec![x.clone(), relu(x)], 1));
    cases.images("narrow", |_, x| x.narrow(1, 1, 2));
    cases.images("slice", |_, x| x.slice(s![.., 0..3, 1..7, 2..6]));
    cases.images("steps", |_, x| x.slice_dim(2, s![1..8;2]));
    cases.images("backwards", |_, x| x.slice_dim(2, s![..;-1]));
    cases.images("chunk", |_, x| {
        let parts = x.chunk(2, 1);
        parts[0].clone() * sigmoid(parts[1].clone())
    });
    cases.images("select", |_, x| {
        let picked = Tensor::<1, Int>::from_data([2, 0, 3], &x.device());
        x.select(1, picked)
    });
    cases.images("sum", |_, x| x.sum_dim(2).sum_dim(3) / 48.0);
    cases.images("flatten", |_, x| x.flatten::<2>(1, 3));
    cases.images("fold", |_, x| x.flatten::<3>(0, 1));
    cases.images("unfold", |layers, x| {
        // Back from a batch that holds the channels.
        let [samples, channels, height, width] = x.dims();
        let y = relu(x.reshape([samples * channels, height, width]));
        layers.norm.forward(y.reshape([samples, channels, height, width]))
    });
    cases.images("argmax", |_, x| x.argmax(1));
    cases.images("max", |_, x| x.max_dim_with_indices(3));
    cases.images("min", |_, x| x.min_dim_with_indices(2));
    cases.images("product", |_, x| {
        let rows: Tensor<3> = x.clone().flatten(1, 2);
        let [samples, rows_count, width] = rows.dims();
        rows.matmul(x.flatten::<3>(2, 3).reshape([samples, width, rows_count]))
    });
    cases.images("twice", |_, x| (x.clone(), relu(x.clone()), hard(x)));
    cases.finish();
}

/// Of exported operations alone.
fn hard(x: Tensor<4>) -> Tensor<4> {
    relu(x.clone() + 3.0) * x
}
