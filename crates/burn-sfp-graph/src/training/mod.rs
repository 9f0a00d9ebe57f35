//! A forward pass in training mode, cut where learning begins: [`TrainingGraph`].
//!
//! | what | where |
//! | --- | --- |
//! | the operations, with sparse layers and batch normalisations as one each | `node` |
//! | what is fixed, what is frozen, what learns, and the tensors between | `cut` |
//! | operations with gradients, by Burn's own backends | `differentiable`, `modules` |
//! | running them one after another | `execute` |
//! | the frozen part on a device | [`FrozenPart`] |
//! | the part that learns, with the parameters of a module | [`LearningPart`] |
//! | the tensors between them | [`FrozenOutputs`] |

mod cut;
mod differentiable;
mod execute;
mod modules;
mod node;
mod outputs;
mod parts;
mod recorded;

pub use outputs::{FrozenOutput, FrozenOutputs, FrozenTensor};
pub use parts::{FrozenPart, LearningPart};

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::fmt::Write;
use std::sync::Arc;

use burn::backend::ir::{IrVisitorMut, TensorId, TensorIr, TensorStatus};
use burn::tensor::{Device, Tensor};

use crate::capture::TrainingPass;
use crate::op::description::dims;
use crate::{GraphError, GraphModule, ModuleInput};
use cut::Cut;
use node::nodes_of;
use recorded::Recorded;

/// A forward pass of a module in training mode, recorded for one batch size and cut in two: what depends on nothing that learns, and the rest.
///
/// The frozen part can run once, and what it hands over be stored; the part that learns then runs as often as there are epochs, with
/// gradients for the module's own parameters. Batch normalisations that learn use the statistics of the batch and leave their running
/// statistics in the module, dropout draws anew each time, and sparse layers run on sparse kernels, all as in the module's own forward
/// pass. The cut is the latest one: each tensor between the parts is one that an operation behind a learning parameter reads.
///
/// ```
/// # use std::collections::BTreeSet;
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::{GraphModule, TrainingGraph};
/// # #[derive(Module, Debug)]
/// # struct Mlp { a: Linear, b: Linear }
/// # impl GraphModule for Mlp {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<2>) -> Tensor<2> {
/// #         self.b.forward(burn::tensor::activation::relu(self.a.forward(x)))
/// #     }
/// # }
/// let device = Device::flex();
/// let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 3).init(&device) };
/// let x = Tensor::ones([2, 4], &device);
/// let learning = BTreeSet::from(["b.weight".to_string(), "b.bias".to_string()]);
///
/// let model = mlp.clone().train();
/// let graph = TrainingGraph::capture(&model, &x, Mlp::run, &learning)?;
/// assert_eq!(graph.outputs()[0].shape, [8]);
/// let stored = graph.frozen_part(&device)?.run(x.clone())?;
/// let logits = graph.learning_part(&device)?.run(&model, stored)?;
/// assert!((logits.without_autodiff() - mlp.run(x)).abs().max().into_scalar::<f32>() < 1e-6);
/// # Ok::<(), burn_sfp_graph::GraphError>(())
/// ```
pub struct TrainingGraph {
    recorded: Arc<Recorded>,
    outputs: Vec<FrozenOutput>,
}

impl fmt::Debug for TrainingGraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (operations, outputs) = (self.recorded.nodes.len(), &self.outputs);
        let mut shown = f.debug_struct("TrainingGraph");
        shown.field("operations", &operations).field("outputs", outputs).finish_non_exhaustive()
    }
}

impl TrainingGraph {
    /// Records `forward` on a module in training mode, and cuts it before the first operations that read one of the parameters `learning`,
    /// given by their paths. The input's values are not used, only its shapes.
    ///
    /// # Errors
    /// [`GraphError::NotInTraining`] where the forward pass in training mode cannot be recorded, [`GraphError::NotBySample`] where a
    /// tensor between the parts does not hold one entry for each sample, and the errors of [`Network::capture`](crate::Network::capture).
    pub fn capture<M: GraphModule, I: ModuleInput>(
        model: &M,
        input: &I,
        forward: impl Fn(&M, I) -> Tensor<2>,
        learning: &BTreeSet<String>,
    ) -> Result<Self, GraphError> {
        let TrainingPass { graph, input_shapes, mut statistics, sparse } = TrainingPass::record(model, input, forward)?;
        let Some(&logits) = graph.outputs.first() else {
            return Err(GraphError::Capture("the forward pass returns no tensor".into()));
        };
        let before: HashMap<&str, TensorId> =
            graph.parameters.iter().map(|parameter| (parameter.path.as_str(), parameter.tensor)).collect();
        statistics.retain(|(path, after)| before.get(path.as_str()).is_some_and(|before| before != after));
        let nodes = nodes_of(&graph, &sparse);
        let learns = |path: &str| learning.contains(path) || statistics.iter().any(|(changed, _)| changed == path);
        let wanted: Vec<TensorId> = std::iter::once(logits).chain(statistics.iter().map(|(_, after)| *after)).collect();
        let cut = Cut::of(&graph, &nodes, &learns, &wanted)?;
        let outputs = cut.between.iter().map(FrozenOutput::of).collect();
        Ok(Self { recorded: Arc::new(Recorded { graph, nodes, cut, logits, input_shapes, statistics }), outputs })
    }

    /// What the frozen part hands over for each sample.
    pub fn outputs(&self) -> &[FrozenOutput] {
        &self.outputs
    }

    /// Samples in the recorded batch.
    pub fn batch(&self) -> usize {
        self.recorded.graph.batch
    }

    /// Whether the part that learns draws random numbers, as dropout does.
    pub fn is_random(&self) -> bool {
        let Recorded { graph, nodes, cut, .. } = &*self.recorded;
        cut.learning.iter().any(|&index| nodes[index].is_random(graph))
    }

    /// Whether the logits depend on something that learns.
    pub fn learns(&self) -> bool {
        let Recorded { nodes, cut, logits, .. } = &*self.recorded;
        cut.learning.iter().any(|&index| nodes[index].outputs().iter().any(|out| out.id == *logits))
    }

    /// Puts the frozen part on a device, without autodiff.
    ///
    /// # Errors
    /// [`GraphError::UnsupportedDevice`] where this build has no interpreter for the device, [`GraphError::Replay`] where the device
    /// does not take a value.
    pub fn frozen_part(&self, device: &Device) -> Result<FrozenPart, GraphError> {
        FrozenPart::new(&self.recorded, device)
    }

    /// Puts the part that learns on a device, all but the parameters, which are read from the module at each run.
    ///
    /// # Errors
    /// As [`frozen_part`](TrainingGraph::frozen_part).
    pub fn learning_part(&self, device: &Device) -> Result<LearningPart, GraphError> {
        LearningPart::new(&self.recorded, device)
    }

    /// What the frozen part computes and with which values, as a short text: the same for the same model in every process, and another one
    /// for another model.
    pub fn fingerprint(&self) -> String {
        let Recorded { graph, cut, .. } = &*self.recorded;
        let (mut text, mut sums) = (String::new(), crc32fast::Hasher::new());
        let mut renumber = Renumber(HashMap::new());
        let mut added = HashSet::new();
        for &index in &cut.steady {
            let operation = &graph.operations[index];
            for input in operation.inputs().filter(|input| added.insert(input.id)) {
                if let Some(value) = graph.values.get(&input.id) {
                    sums.update(value.as_bytes());
                }
            }
            let mut operation = operation.clone();
            operation.visit_mut(&mut renumber);
            // Writing to a string does not fail.
            let _ = write!(text, "{operation:?}");
        }
        format!("{:08x}{:08x}", crc32fast::hash(text.as_bytes()), sums.finalize())
    }
}

/// Numbers tensors in the order in which they are met, in a batch of any size.
struct Renumber(HashMap<TensorId, u64>);

impl IrVisitorMut for Renumber {
    fn visit_tensor_mut(&mut self, tensor: &mut TensorIr) {
        let next = self.0.len() as u64;
        tensor.id = TensorId::new(*self.0.entry(tensor.id).or_insert(next));
        tensor.status = TensorStatus::ReadOnly;
        tensor.shape = dims(tensor).into_iter().skip(1).collect::<Vec<_>>().into();
    }
}
