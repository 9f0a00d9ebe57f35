//! Whole models: layers of this library, training mode, inputs of every form, names, number types.

use std::path::PathBuf;

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNormConfig, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{DType, Device, Tensor};
use burn_sfp_graph::{GraphModule, InputMapper, ModuleInput};
use burn_sfp_nn::{CenteredLayerNorm, FoldBatchNorm, Shrink, SparseConv2d, SparseLinear};
use burn_sfp_prune::{
    Budget, Magnitude, MagnitudeConnections, OnnxConfig, OnnxError, Planner, PruneError, SparseConfig, SparseFormat,
    export_onnx, fold_batch_norms, sparsify,
};
use tempfile::TempDir;

use crate::operations::random;
use crate::run::{check_in_python, difference, save_case};

/// A folder with a file to be.
fn file() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.onnx");
    (folder, file)
}

/// Exports a model and returns how far what the file computes is off, at two batch sizes.
fn off<M: GraphModule>(model: &M, make: impl Fn(usize) -> M::Inputs) -> f64 {
    let (_folder, file) = file();
    export_onnx(model, &make(1), &file, &OnnxConfig::new()).unwrap();
    let worst = [1, 4].into_iter().enumerate().map(|(case, samples)| {
        let input = make(samples);
        let expected = model.valid().run(input.clone());
        save_case(&file, case, input.clone(), expected.clone());
        difference(&file, input, expected)
    });
    let worst = worst.fold(0.0, f64::max);
    check_in_python(&[&file], 1e-4);
    worst
}

#[derive(Module, Debug)]
struct Sparse {
    conv: SparseConv2d,
    norm: FoldBatchNorm,
    second: SparseConv2d,
    last: SparseLinear,
}

impl GraphModule for Sparse {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<4>) -> Tensor<2> {
        let x = relu(self.norm.forward(self.conv.forward(x)));
        let x = relu(self.second.forward(x));
        self.last.forward(x.flatten(1, 3))
    }
}

fn images(samples: usize) -> Tensor<4> {
    random([samples, 3, 6, 6])
}

fn sparse(device: &Device) -> Sparse {
    let conv = |from, to| Conv2dConfig::new([from, to], [3, 3]).init(device);
    let mut norm = BatchNormConfig::new(8).init(device);
    norm.gamma = Param::from_tensor(random([8]));
    norm.running_mean = burn::module::RunningState::new(random([8]));
    Sparse {
        conv: conv(3, 8).into(),
        norm: norm.into(),
        second: conv(8, 8).into(),
        last: LinearConfig::new(32, 5).init(device).into(),
    }
}

#[test]
fn masks_and_sparse_layers_are_written_dense() {
    let model = sparse(&Device::flex());
    let masked = Planner::new().prune(&model, &images(2), &MagnitudeConnections::l1()).unwrap();
    assert!(!masked.plan.masks.is_empty());
    assert!(off(&masked.model, images) < 1e-5);
    for format in [SparseFormat::Kernels, SparseFormat::Blocks] {
        let config = SparseConfig::new().with_format(format);
        let sparse = sparsify(&masked.model, &images(2), &config).unwrap();
        assert_ne!(sparse.model.second.weight.dims(), masked.model.second.weight.dims());
        assert!(off(&sparse.model, images) < 1e-5);
        let (_folder, dense_file) = file();
        let sparse_file = dense_file.with_file_name("sparse.onnx");
        masked.export_onnx(&dense_file, &images(1)).unwrap();
        export_onnx(&sparse.model, &images(1), &sparse_file, &OnnxConfig::new()).unwrap();
        // Blocks may have other orders of filters.
        assert_eq!(std::fs::read(dense_file).unwrap().len(), std::fs::read(sparse_file).unwrap().len());
    }
}

#[test]
fn folded_normalisations_are_gone() {
    let model = sparse(&Device::flex());
    let folded = fold_batch_norms(&model, &images(2)).unwrap().model;
    assert_eq!(folded.norm.gamma.dims(), [0]);
    assert!(off(&folded, images) < 1e-5);
    let (_folder, path) = file();
    export_onnx(&folded, &images(1), &path, &OnnxConfig::new()).unwrap();
    let bytes = std::fs::read(path).unwrap();
    assert!(!bytes.windows(18).any(|window| window == b"BatchNormalization"));
}

#[test]
fn a_model_in_training_stays_as_it_is() {
    let model = sparse(&Device::flex()).train();
    let statistics = |model: &Sparse| model.norm.running_mean.value().into_data();
    let before = statistics(&model);
    assert!(off(&model, |samples| Tensor::from_inner(images(samples))) < 1e-5);
    assert_eq!(statistics(&model), before);
    assert!(model.conv.weight.val().device().is_autodiff());
    // It still runs and trains.
    let loss = model.run(Tensor::from_inner(images(3))).sum();
    assert!(model.last.weight.val().grad(&loss.backward()).is_some());
}

#[derive(Module, Debug, Shrink)]
struct Normed {
    first: Linear,
    norm: CenteredLayerNorm,
    last: Linear,
}

impl GraphModule for Normed {
    type Inputs = Tensor<2>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<2>) -> Tensor<2> {
        self.last.forward(self.norm.forward(self.first.forward(x)))
    }
    fn shrinkable(&mut self) -> Option<&mut dyn Shrink> {
        Some(self)
    }
}

#[test]
fn layer_normalisations_are_refused_in_both_forms() {
    let device = Device::flex();
    let linear = |from, to| LinearConfig::new(from, to).init(&device);
    let norm = LayerNormConfig::new(8).init(&device).into();
    let model = Normed { first: linear(4, 8), norm, last: linear(8, 3) };
    let input = random([2, 4]);
    let smaller = Planner::new().budget(Budget::PerLayer(0.5)).prune(&model, &input, &Magnitude::l2()).unwrap().model;
    let refused = |model: &Normed| {
        let (_folder, file) = file();
        match export_onnx(model, &input, file, &OnnxConfig::new()) {
            Err(PruneError::Onnx(OnnxError::Unsupported { name, of, after, .. })) => (name, of, after),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(&model), ("LayerNorm".into(), Some("norm".into()), Some("first".into())));
    // Of the root of the mean square, once channels have left.
    assert_eq!((smaller.norm.centered, refused(&smaller)), (true, ("MeanDim".into(), None, Some("first".into()))));
}

/// Takes and returns tensors in every form there is.
#[derive(Module, Debug)]
struct Forms {
    image: Conv2d,
    vector: Linear,
}

#[derive(Clone)]
struct Scan {
    image: Tensor<4>,
    vectors: [Tensor<2>; 2],
    more: Option<Tensor<2>>,
}

impl ModuleInput for Scan {
    fn map_tensors<M: InputMapper>(self, mapper: &mut M) -> Self {
        Self {
            image: self.image.map_tensors(mapper),
            vectors: self.vectors.map_tensors(mapper),
            more: self.more.map_tensors(mapper),
        }
    }
}

impl GraphModule for Forms {
    type Inputs = Scan;
    type Outputs = (Vec<Tensor<2>>, Tensor<4>, Tensor<1>);
    fn run(&self, scan: Scan) -> Self::Outputs {
        let image = self.image.forward(scan.image);
        let [first, second] = scan.vectors;
        let vector = self.vector.forward(first - second * 2.0 + scan.more.unwrap());
        let [samples, width] = vector.dims();
        let gated = image * vector.clone().reshape([samples, width, 1, 1]);
        // Of squares: a sum in which terms cancel is off by more than rounding of its own size.
        let sums = (gated.clone() * gated.clone()).flatten::<2>(1, 3).sum_dim(1).reshape([samples]);
        (vec![vector.clone(), relu(vector)], gated, sums)
    }
}

#[test]
fn inputs_and_outputs_of_every_form() {
    let device = Device::flex();
    let model =
        Forms { image: Conv2dConfig::new([2, 5], [3, 3]).init(&device), vector: LinearConfig::new(4, 5).init(&device) };
    let scan = |samples| Scan {
        image: random([samples, 2, 6, 5]),
        vectors: [random([samples, 4]), random([samples, 4])],
        more: Some(random([samples, 4])),
    };
    assert!(off(&model, scan) < 1e-5);
}

#[test]
fn the_same_model_gives_the_same_file() {
    let model = sparse(&Device::flex());
    let (_folder, first) = file();
    let second = first.with_file_name("second.onnx");
    export_onnx(&model, &images(1), &first, &OnnxConfig::new()).unwrap();
    export_onnx(&model, &images(7), &second, &OnnxConfig::new()).unwrap();
    let bytes = std::fs::read(&first).unwrap();
    assert_eq!(bytes, std::fs::read(second).unwrap());
    let loaded = rten::Model::load(bytes).unwrap();
    for name in ["input", "output", "conv.weight", "norm.gamma", "last.bias"] {
        assert!(loaded.find_node(name).is_some(), "{name}");
    }
    let shape = format!("{:?}", loaded.input_shape(0).unwrap());
    assert!(shape.contains("batch"), "{shape}");
}

/// A module that stores its device and makes tensors on it.
#[derive(Module, Debug)]
struct Stored {
    layer: Linear,
    #[module(skip)]
    device: Device,
}

impl Stored {
    fn new(width: usize, device: &Device) -> Self {
        Self { layer: LinearConfig::new(4, width).init(device), device: device.clone() }
    }
}

impl GraphModule for Stored {
    type Inputs = Tensor<2>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<2>) -> Tensor<2> {
        let shift = Tensor::<2>::from_floats([[1.0, 2.0, 3.0, 4.0]], &self.device);
        self.layer.forward(x + shift)
    }
    fn rebuild(&self, device: &Device) -> Option<Self> {
        Some(Self::new(9, device))
    }
}

#[test]
fn a_stored_device_is_that_of_the_export() {
    // Of another width than the one that is built anew, as after pruning.
    assert!(off(&Stored::new(3, &Device::flex()), |samples| random([samples, 4])) < 1e-5);
}

#[test]
fn other_float_types() {
    let model = sparse(&Device::flex());
    for (dtype, tolerance) in [(DType::F64, 1e-5), (DType::F16, 1e-2)] {
        struct Cast(DType);
        impl burn::module::ModuleMapper for Cast {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                param.map(|tensor| tensor.cast(self.0))
            }
        }
        let cast = model.valid().map(&mut Cast(dtype));
        let (_folder, file) = file();
        let input = |samples| images(samples).cast(dtype);
        export_onnx(&cast, &input(1), &file, &OnnxConfig::new()).unwrap();
        for (case, samples) in [1, 4].into_iter().enumerate() {
            let input = input(samples);
            let expected = cast.run(input.clone());
            save_case(&file, case, input.clone(), expected.clone());
            // rten has no numbers of half precision, and onnxruntime no convolution in double precision on a CPU.
            if dtype == DType::F64 {
                assert!(difference(&file, input, expected) < tolerance);
            }
        }
        if dtype == DType::F16 {
            check_in_python(&[&file], tolerance);
        }
    }
}
