//! The captured network as plain data: operations, parameters by module path, layers, and which indices of which tensors carry the same
//! channel. This crate knows no class labels, no calibration data and no pruning policies.
//!
//! | what | where |
//! | --- | --- |
//! | the trait over Burn modules and their inputs | [`GraphModule`], [`ModuleInput`] |
//! | forward passes, recorded without running them | [`Network::capture`], [`ForwardPass`] |
//! | convolution and linear layers, attention heads, batch normalisations | [`Layer`], [`LayerKind`], [`Heads`], [`BatchNormalization`] |
//! | residual blocks that can be left out whole | [`Network::blocks`], [`Block`], [`Omitted`] |
//! | the forward pass as a small graph, to draw | [`Network::outline`], [`OutlineNode`] |
//! | which indices of which tensors carry the same channel | [`Flow`] |
//! | multiply-adds, parameters and bytes | [`Cost`], [`RunningCost`], [`RunningActivations`], [`RunningShapes`], [`UncountedOperation`] |
//! | a smaller network compared with what was planned | [`Network::compare_smaller`] |
//! | the recorded operations, run on a device | [`Replay`] |
//! | the same for many batches together, operation by operation, with parameters replaced on the way | [`StepReplay`], [`Step`] |
//! | the forward pass for deployment: layers that take in what follows them, on packed weights | [`Inference`] |
//! | a pass in training mode, cut where learning begins | [`TrainingGraph`] |
//! | latency of forward passes | [`latency`] |
//! | which values the parameters have | [`Fingerprint`] |
//! | errors of files | [`FileError`] |
//!
//! An operation is described in one place, the file of its family under `op/`; docs/architecture.md tells how to add one.
//!
//! # Example
//! ```
//! use burn::prelude::*;
//! use burn::nn::{Linear, LinearConfig};
//! use burn_sfp_graph::{GraphModule, Network};
//!
//! #[derive(Module, Debug)]
//! struct Mlp { hidden: Linear, classifier: Linear }
//!
//! impl GraphModule for Mlp {
//!     type Inputs = Tensor<2>;
//!     type Outputs = Tensor<2>;
//!     fn run(&self, x: Tensor<2>) -> Tensor<2> {
//!         self.classifier.forward(burn::tensor::activation::relu(self.hidden.forward(x)))
//!     }
//! }
//!
//! let device = Device::flex();
//! let mlp = Mlp {
//!     hidden: LinearConfig::new(4, 16).init(&device),
//!     classifier: LinearConfig::new(16, 2).init(&device),
//! };
//! let network = Network::capture(&mlp, &Tensor::zeros([1, 4], &device))?;
//! assert_eq!((network.layers().len(), network.macs()), (2, 4 * 16 + 16 * 2));
//! # Ok::<(), burn_sfp_graph::GraphError>(())
//! ```

mod blocks;
mod capture;
mod channels;
mod compare;
mod constants;
mod cost;
mod error;
mod explain;
mod fields;
#[doc(hidden)]
pub mod file;
mod fingerprint;
mod gather;
mod graph;
mod inference;
mod input;
pub mod latency;
mod layers;
mod module;
mod neighbours;
mod network;
mod norms;
mod op;
mod outline;
mod panics;
mod plain_field;
mod progress;
mod replay;
mod sources;
mod splits;
mod step_replay;
mod steps;
mod training;
mod weights;
mod wiring;

pub use blocks::{Block, Omitted};
pub use capture::ForwardPass;
pub use channels::flow::{Flow, ParamAxis};
pub use channels::ids::ChannelId;
pub use compare::ScalarChange;
pub use cost::activations::RunningActivations;
pub use cost::macs::UncountedOperation;
pub use cost::model::Cost;
pub use cost::running::RunningCost;
pub use cost::shapes::RunningShapes;
pub use error::GraphError;
#[doc(hidden)]
pub use error::{lacks_memory, mismatch_advice, panic_message, place};
pub use fields::ScaledPart;
pub use file::FileError;
pub use fingerprint::Fingerprint;
pub use gather::Gathered;
#[doc(hidden)]
pub use graph::is_statistic;
pub use graph::{Parameter, ParameterShape};
pub use inference::{Inference, InferenceConfig, LayerChoice, LayerChoices, Way};
pub use input::{InputMapper, ModuleInput};
pub use layers::heads::Heads;
pub use layers::kind::LayerKind;
pub use layers::layer::{Layer, OutputTap};
pub use module::GraphModule;
pub use network::Network;
pub use norms::BatchNormalization;
pub use outline::{OutlineKind, OutlineNode};
#[doc(hidden)]
pub use panics::attempt;
pub use plain_field::PlainField;
pub use progress::{NoProgress, Progress};
pub use replay::Replay;
pub use sources::Sources;
pub use step_replay::StepReplay;
pub use steps::{Step, StepKind, StepTensor};
pub use training::{FrozenOutput, FrozenOutputs, FrozenPart, FrozenTensor, LearningPart, TrainingGraph};
