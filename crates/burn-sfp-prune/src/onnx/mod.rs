//! [`export_onnx`]: a model as an .onnx file, written by burn-onnx.
//!
//! `prepare` makes a dense copy and batches of two sizes, `record` lets burn-onnx export one of them and says which operation an error
//! means, `flat` turns a module's inputs and outputs into types that burn-onnx takes, `names` puts
//! the file in order, `batch` makes the batch axis dynamic, `wire` encodes it.

mod batch;
mod config;
mod error;
mod flat;
mod names;
mod prepare;
mod record;
mod wire;

use std::io::Write;
use std::path::Path;

use burn_sfp_graph::{GraphError, GraphModule, ModuleInput, Network, attempt, file::replace};
use onnx_ir::{Message, ModelProto};

pub use config::OnnxConfig;
pub use error::OnnxError;

use crate::{PruneError, Pruned, PrunedModule};
use batch::merged;
use prepare::{batches, prepared};
use record::{Recorded, record};
use wire::unpacked;

impl<M: GraphModule> Pruned<M> {
    /// Writes the model as an .onnx file that takes batches of any size; see [`export_onnx`].
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_graph::GraphModule;
    /// # use burn_sfp_core::TensorCalibration;
    /// # use burn_sfp_prune::{Magnitude, Pruner};
    /// # #[derive(Module, Debug)]
    /// # struct Mlp { a: Linear, b: Linear }
    /// # impl GraphModule for Mlp {
    /// #     type Inputs = Tensor<2>;
    /// #     type Outputs = Tensor<2>;
    /// #     fn run(&self, x: Tensor<2>) -> Tensor<2> {
    /// #         self.b.forward(burn::tensor::activation::relu(self.a.forward(x)))
    /// #     }
    /// # }
    /// # let device = Device::flex();
    /// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 2).init(&device) };
    /// # let samples = Tensor::<2>::ones([2, 4], &device);
    /// # let calibration = TensorCalibration::new(samples.clone(), vec![0, 1], 2);
    /// # let path = std::env::temp_dir().join("burn-sfp-pruned-example.onnx");
    /// let pruned = Pruner::new(&calibration).policy(Magnitude::l2()).ratio(0.5).analyze_and_prune(&mlp)?;
    /// pruned.export_onnx(&path, &samples)?;
    /// # std::fs::remove_file(&path).unwrap();
    /// # Ok::<(), burn_sfp_prune::PruneError>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`export_onnx`].
    pub fn export_onnx(&self, path: impl AsRef<Path>, input: &M::Inputs) -> Result<(), PruneError> {
        export_onnx(&self.model, input, path, &OnnxConfig::new())
    }
}

impl<M: GraphModule> PrunedModule<M> {
    /// Writes the model as an .onnx file that takes batches of any size; see [`export_onnx`].
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_graph::GraphModule;
    /// # use burn_sfp_prune::{Budget, Magnitude, Planner};
    /// # #[derive(Module, Debug)]
    /// # struct Mlp { a: Linear, b: Linear }
    /// # impl GraphModule for Mlp {
    /// #     type Inputs = Tensor<2>;
    /// #     type Outputs = Tensor<2>;
    /// #     fn run(&self, x: Tensor<2>) -> Tensor<2> {
    /// #         self.b.forward(burn::tensor::activation::relu(self.a.forward(x)))
    /// #     }
    /// # }
    /// # let device = Device::flex();
    /// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 2).init(&device) };
    /// # let path = std::env::temp_dir().join("burn-sfp-module-example.onnx");
    /// let input = Tensor::zeros([1, 4], &device);
    /// let pruned = Planner::new().budget(Budget::PerLayer(0.5)).prune(&mlp, &input, &Magnitude::l2())?;
    /// pruned.export_onnx(&path, &input)?;
    /// # std::fs::remove_file(&path).unwrap();
    /// # Ok::<(), burn_sfp_prune::PruneError>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`export_onnx`].
    pub fn export_onnx(&self, path: impl AsRef<Path>, input: &M::Inputs) -> Result<(), PruneError> {
        export_onnx(&self.model, input, path, &OnnxConfig::new())
    }
}

/// Writes a model as an .onnx file (operator set 18) that computes what the model computes in evaluation mode.
///
/// Of the example input only the shapes are used. The first axis of every input is named `batch` and takes any length, unless the settings fix
/// it; the other axes are those of the example. Inputs are called `input`, or `input_0`, `input_1`, .. in the order of the module; outputs
/// likewise `output`; parameters have their module paths. The file appears whole or not at all.
///
/// The model itself is not changed: a copy is exported, without autodiff, with connection masks folded into the weights and sparse layers as
/// dense ones with zeros.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::GraphModule;
/// # use burn_sfp_prune::{OnnxConfig, export_onnx};
/// # #[derive(Module, Debug)]
/// # struct Mlp { a: Linear, b: Linear }
/// # impl GraphModule for Mlp {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<2>) -> Tensor<2> {
/// #         self.b.forward(burn::tensor::activation::relu(self.a.forward(x)))
/// #     }
/// # }
/// # let device = Device::flex();
/// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 2).init(&device) };
/// # let path = std::env::temp_dir().join("burn-sfp-export-example.onnx");
/// export_onnx(&mlp, &Tensor::zeros([1, 4], &device), &path, &OnnxConfig::new())?;
/// assert!(std::fs::metadata(&path).unwrap().len() > 4 * (4 * 8 + 8 + 8 * 2 + 2));
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), burn_sfp_prune::PruneError>(())
/// ```
///
/// # Errors
/// [`PruneError::Onnx`]: [`OnnxError::Unsupported`] with the operation and the nearest layer where ONNX export does not know an operation;
/// [`OnnxError::DynamicBatch`] where the forward pass depends on the batch size; see [`OnnxError`] for others. [`PruneError::Graph`] where the
/// model does not run on the input.
pub fn export_onnx<M: GraphModule>(
    model: &M,
    input: &M::Inputs,
    path: impl AsRef<Path>,
    config: &OnnxConfig,
) -> Result<(), PruneError> {
    export_onnx_with(model, input, path, config, M::run)
}

/// [`export_onnx`] of another forward pass of the same module: of one of its outputs, say, or with a layer behind it.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::GraphModule;
/// # use burn_sfp_prune::{OnnxConfig, export_onnx_with};
/// # #[derive(Module, Debug)]
/// # struct Net { trunk: Linear, head: Linear, auxiliary: Linear }
/// # impl GraphModule for Net {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = (Tensor<2>, Tensor<2>);
/// #     fn run(&self, x: Tensor<2>) -> Self::Outputs {
/// #         let x = self.trunk.forward(x);
/// #         (self.head.forward(x.clone()), self.auxiliary.forward(x))
/// #     }
/// # }
/// # let device = Device::flex();
/// # let linear = |from, to| LinearConfig::new(from, to).init(&device);
/// # let net = Net { trunk: linear(4, 8), head: linear(8, 3), auxiliary: linear(8, 3) };
/// # let path = std::env::temp_dir().join("burn-sfp-with-example.onnx");
/// // Without the auxiliary output and what only that needs.
/// let input = Tensor::<2>::zeros([1, 4], &device);
/// export_onnx_with(&net, &input, &path, &OnnxConfig::new(), |net: &Net, x| net.head.forward(net.trunk.forward(x)))?;
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), burn_sfp_prune::PruneError>(())
/// ```
///
/// # Errors
/// As [`export_onnx`].
pub fn export_onnx_with<M: GraphModule, I: ModuleInput, O: ModuleInput>(
    model: &M,
    input: &I,
    path: impl AsRef<Path>,
    config: &OnnxConfig,
    forward: impl Fn(&M, I) -> O,
) -> Result<(), PruneError> {
    let bytes = attempt(|| bytes(model, input, config, &forward))
        .unwrap_or_else(|message| Err(OnnxError::Exporter { message }.into()))?;
    replace(path.as_ref(), |file| file.write_all(&bytes)).map_err(OnnxError::from)?;
    Ok(())
}

fn bytes<M: GraphModule, I: ModuleInput, O: ModuleInput>(
    model: &M,
    input: &I,
    config: &OnnxConfig,
    forward: &impl Fn(&M, I) -> O,
) -> Result<Vec<u8>, PruneError> {
    let model = prepared(model)?;
    let written =
        if config.has_fixed_batch() { record(&model, input, forward)?.model } else { dynamic(&model, input, forward)? };
    let failed = |message: String| OnnxError::Exporter { message };
    let packed = written.write_to_bytes().map_err(|error| failed(error.to_string()))?;
    Ok(unpacked(&packed).ok_or_else(|| failed("the file could not be encoded".into()))?)
}

/// Exports at two batch sizes and joins the two.
fn dynamic<M: GraphModule, I: ModuleInput, O: ModuleInput>(
    model: &M,
    input: &I,
    forward: &impl Fn(&M, I) -> O,
) -> Result<ModelProto, PruneError> {
    let record = |batch: I| -> Result<Recorded, PruneError> {
        record(model, &batch, forward).map_err(|error| match error {
            // An error of this batch size alone.
            PruneError::Graph(GraphError::Forward { after, message, .. })
                if Network::capture_with(model, input, forward).is_ok() =>
            {
                let what = format!("it fails on a batch of {} samples ({message})", batch.samples());
                OnnxError::DynamicBatch { what, after }.into()
            }
            error => error,
        })
    };
    let [first, second] = batches(input);
    let (first, second) = (record(first)?, record(second)?);
    Ok(merged(first, &second)?)
}

/// The number in the name of a node, which is that of the operation it is written for.
fn index_of(node: &str) -> Option<usize> {
    node.strip_prefix("node_")?.split('_').next()?.parse().ok()
}
