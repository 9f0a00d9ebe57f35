//! [`Inference`]: a module's forward pass for deployment on a CPU, whatever layers the module is made of.
//!
//! The forward pass is recorded, what depends on parameters alone is computed once, and each convolution or linear layer takes in what follows it: a
//! batch normalisation, a sum with another tensor (a residual connection), a ReLU. For each of them the fastest way is measured: Burn's own operations, or
//! one kernel of `burn-sfp-ndarray` on weights that are packed once, or transformed once for fewer products, or, of sparse layers, the sparse kernel.
//!
//! | what | where |
//! | --- | --- |
//! | the settings | `config` |
//! | what a layer takes in | `fuse` |
//! | the layer as one kernel | `packed` |
//! | steps in order, and which tensor is read last by which | `program` |
//! | the faster way of each layer | `choose` |
//! | what was chosen, printed, saved, used again | `choices` |

mod choices;
mod choose;
mod config;
mod fuse;
mod packed;
mod program;

use std::cell::RefCell;

use burn::backend::ir::TensorId;
use burn::tensor::{Bool, DispatchTensor, Int, Tensor};
use burn_sfp_nn::sparse::recorded_calls;

use crate::capture::SparseAt;
use crate::input::InputMapper;
use crate::network::Network;
use crate::replay::Dispatched;
use crate::{GraphError, GraphModule, ModuleInput};

pub use choices::{LayerChoice, LayerChoices, Way};
pub use config::InferenceConfig;
use program::Program;

/// Programs for different shapes of the input that are kept.
const PROGRAMS: usize = 2;

/// A module's forward pass for inference: the same outputs to rounding, in less time.
///
/// It is made on an example, for whose shapes it is ready at once; inputs of other shapes are recorded and measured when they are first seen, and the last
/// two shapes are kept. What was found can be saved ([`LayerChoices::save`]) and used again, without measuring. On devices other than flex and ndarray, and for elements other than `f32`, all layers run by Burn's own operations.
///
/// Memory: beside the module the packed weights, for each of the shapes kept; while ways are measured, those of all ways.
///
/// A NaN in an image reaches what its forward pass would reach, and by [`Way::Winograd`] its neighbours within a tile as well.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::conv::{Conv2d, Conv2dConfig};
/// # use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
/// # use burn_sfp_graph::GraphModule;
/// use burn_sfp_graph::Inference;
/// # #[derive(Module, Debug)]
/// # struct Net { conv: Conv2d, norm: BatchNorm, fc: Linear }
/// # impl GraphModule for Net {
/// #     type Inputs = Tensor<4>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<4>) -> Tensor<2> {
/// #         let x = burn::tensor::activation::relu(self.norm.forward(self.conv.forward(x)));
/// #         self.fc.forward(x.flatten(1, 3))
/// #     }
/// # }
/// # let device = Device::flex();
/// # let net = Net {
/// #     conv: Conv2dConfig::new([3, 8], [3, 3]).init(&device),
/// #     norm: BatchNormConfig::new(8).init(&device),
/// #     fc: LinearConfig::new(8 * 36, 5).init(&device),
/// # };
/// let x = Tensor::<4>::random([1, 3, 8, 8], burn::tensor::Distribution::Default, &device);
/// let mut fast = Inference::new(&net, &x)?;
/// println!("{}", fast.choices());
/// let y = fast.run(x.clone())?;
/// assert!((y - net.run(x)).abs().max().into_scalar::<f32>() < 1e-5);
/// // The convolution takes in its normalisation and the activation.
/// assert_eq!(fast.choices().layers[0].takes_in, ["batch norm", "relu"]);
/// # Ok::<(), burn_sfp_graph::GraphError>(())
/// ```
#[derive(Debug)]
pub struct Inference<M: GraphModule> {
    model: M,
    config: InferenceConfig,
    /// The last one was used last.
    programs: Vec<Program>,
    /// The outputs of a forward pass, whose tensors are replaced.
    outputs: M::Outputs,
}

impl<M: GraphModule> Inference<M> {
    /// Records the forward pass on an example and chooses the faster way of each layer, by three runs of each. The module is not changed.
    ///
    /// # Errors
    /// Those of [`Network::capture`], [`GraphError::UnsupportedDevice`] where this build runs no recorded operations on the device, and
    /// [`GraphError::Replay`] where an operation fails on it.
    pub fn new(model: &M, example: &M::Inputs) -> Result<Self, GraphError> {
        Self::with_config(model, example, &InferenceConfig::new())
    }

    /// [`new`](Inference::new) with other settings.
    ///
    /// # Errors
    /// Those of [`new`](Inference::new).
    pub fn with_config(model: &M, example: &M::Inputs, config: &InferenceConfig) -> Result<Self, GraphError> {
        let model = model.valid();
        let (first, outputs) = compile(&model, example, config)?;
        Ok(Self { model, config: config.clone(), programs: vec![first], outputs })
    }

    /// How the layers run on inputs of the shape seen last, with the seconds that were measured.
    pub fn choices(&self) -> &LayerChoices {
        // There is one from the start.
        &self.programs[self.programs.len() - 1].choices
    }

    /// Runs the forward pass.
    ///
    /// # Errors
    /// [`GraphError::Replay`] where an operation fails on the device, and for inputs of another shape those of [`new`](Inference::new).
    pub fn run(&mut self, inputs: M::Inputs) -> Result<M::Outputs, GraphError> {
        let shapes = inputs.shapes();
        match self.programs.iter().position(|program| program.input_shapes == shapes) {
            Some(index) => {
                let program = self.programs.remove(index);
                self.programs.push(program);
            }
            None => {
                let (program, outputs) = compile(&self.model, &inputs, &self.config)?;
                self.outputs = outputs;
                self.programs.push(program);
                if self.programs.len() > PROGRAMS {
                    self.programs.remove(0);
                }
            }
        }
        let last = self.programs.len() - 1;
        let mut tensors = Dispatched(Vec::new());
        let _ = inputs.map_tensors(&mut tensors);
        let results = self.programs[last].run(tensors.0)?;
        Ok(self.outputs.clone().map_tensors(&mut Replace(results.into_iter())))
    }

    /// Runs the forward pass and returns the seconds of each of its steps, by the name of the layer or of the operation.
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_graph::GraphModule;
    /// use burn_sfp_graph::Inference;
    /// # #[derive(Module, Debug)]
    /// # struct Mlp { a: Linear, b: Linear }
    /// # impl GraphModule for Mlp {
    /// #     type Inputs = Tensor<2>;
    /// #     type Outputs = Tensor<2>;
    /// #     fn run(&self, x: Tensor<2>) -> Tensor<2> {
    /// #         self.b.forward(burn::tensor::activation::gelu(self.a.forward(x)))
    /// #     }
    /// # }
    /// # let device = Device::flex();
    /// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 2).init(&device) };
    /// let x = Tensor::ones([2, 4], &device);
    /// let seconds = Inference::new(&mlp, &x)?.profile(x)?;
    /// assert!(seconds.iter().any(|(step, _)| step == "Gelu"));
    /// # Ok::<(), burn_sfp_graph::GraphError>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`run`](Inference::run).
    pub fn profile(&mut self, inputs: M::Inputs) -> Result<Vec<(String, f64)>, GraphError> {
        // The program for this shape is the last one then.
        self.run(inputs.clone())?;
        let last = self.programs.len() - 1;
        let mut tensors = Dispatched(Vec::new());
        let _ = inputs.map_tensors(&mut tensors);
        let devices = self.model.devices();
        let synchronise = || devices.iter().try_for_each(|device| device.sync());
        self.programs[last]
            .profile(tensors.0, &|| synchronise().map_err(|error| GraphError::Capture(error.to_string())))
    }
}

/// Records the forward pass and makes its program; also returns the outputs of a plain pass.
fn compile<M: GraphModule>(
    model: &M,
    inputs: &M::Inputs,
    config: &InferenceConfig,
) -> Result<(Program, M::Outputs), GraphError> {
    let sparse: RefCell<Vec<SparseAt>> = RefCell::default();
    let forward = |model: &M, inputs: M::Inputs| {
        let (outputs, calls) = recorded_calls(|| model.run(inputs));
        *sparse.borrow_mut() = calls.into_iter().filter_map(SparseAt::of).collect();
        outputs
    };
    // A network without a layer runs all the same.
    let network = Network::record(model, inputs, forward)?;
    let outputs = crate::panics::attempt(|| model.run(inputs.clone())).map_err(|message| {
        let shape = inputs.shapes().into_iter().next().unwrap_or_default();
        GraphError::Forward { shape, after: None, message }
    })?;
    Ok((choose::program(&network, &sparse.into_inner(), config)?, outputs))
}

/// Puts tensors in the places of others, in their order.
struct Replace(std::vec::IntoIter<DispatchTensor>);

impl InputMapper for Replace {
    fn float<const D: usize>(&mut self, old: Tensor<D>) -> Tensor<D> {
        self.0.next().map_or(old, Tensor::from_dispatch)
    }
    fn int<const D: usize>(&mut self, old: Tensor<D, Int>) -> Tensor<D, Int> {
        self.0.next().map_or(old, Tensor::from_dispatch)
    }
    fn bool<const D: usize>(&mut self, old: Tensor<D, Bool>) -> Tensor<D, Bool> {
        self.0.next().map_or(old, Tensor::from_dispatch)
    }
}

/// The sparse convolution that makes a tensor.
fn sparse_of(sparse: &[SparseAt], tensor: TensorId) -> Option<&SparseAt> {
    sparse.iter().find(|call| call.out == tensor)
}
