//! A forward pass in training mode, recorded: with the statistics of the batch in batch normalisations, with dropout, and with the running
//! statistics that it leaves behind.
//!
//! Layers of Burn train where their input has autodiff and their flag is set. Burn moves no tensor with autodiff to a capture device, but a
//! captured tensor can be lifted there, one by one. Running statistics stay as they are, so that a layer may move them to its input's
//! device. Lifted tensors are not tracked, and each operation records the forward pass that it stands for.

use std::cell::RefCell;

use burn::backend::ir::TensorId;
use burn::backend::{Autodiff, AutodiffBackend};
use burn::module::{Flag, Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use burn_capture::CaptureBackend;
use burn_sfp_nn::sparse::{RecordedCall, SparseCall, recorded_calls};
use burn_sfp_nn::walk::{ParamMapper, ParamPath, ParamVisitor, map_params, visit_params};

use super::pass::{Boundary, Pass, id_of};
use super::record::record;
use crate::graph::{Graph, is_statistic};
use crate::{GraphError, GraphModule, ModuleInput};

/// A recorded forward pass in training mode. The first output of the graph is that of the forward pass.
pub(crate) struct TrainingPass {
    pub graph: Graph,
    pub input_shapes: Vec<Vec<usize>>,
    /// Path of each running statistic, and its value after the pass.
    pub statistics: Vec<(String, TensorId)>,
    pub sparse: Vec<SparseAt>,
}

/// The tensors of a sparse convolution.
#[derive(Clone, Debug)]
pub(crate) struct SparseAt {
    pub x: TensorId,
    pub values: TensorId,
    pub out: TensorId,
    pub call: SparseCall,
}

impl TrainingPass {
    /// Records `forward` on a module in training mode. The input's values are not used, only its shapes.
    pub fn record<M: GraphModule, I: ModuleInput>(
        model: &M,
        input: &I,
        forward: impl Fn(&M, I) -> Tensor<2>,
    ) -> Result<Self, GraphError> {
        let mut flags = Flags(Vec::new());
        model.visit(&mut flags);
        let pass = Lifted { input, forward, flags: flags.0, seen: RefCell::default() };
        let recording = record(model, &[&pass])?;
        if let Some(message) = recording.panicked {
            let after = super::last_layer(&recording.graph);
            return Err(GraphError::NotInTraining { after, message });
        }
        let Seen { statistics, sparse } = pass.seen.into_inner();
        Ok(Self { graph: recording.graph, input_shapes: recording.input_shapes, statistics, sparse })
    }
}

#[derive(Default)]
struct Seen {
    statistics: Vec<(String, TensorId)>,
    sparse: Vec<SparseAt>,
}

struct Lifted<'a, I, F> {
    input: &'a I,
    forward: F,
    /// The flags of the module in training mode, in its order.
    flags: Vec<bool>,
    seen: RefCell<Seen>,
}

impl<M: Module, I: ModuleInput, F: Fn(&M, I) -> Tensor<2>> Pass<M> for Lifted<'_, I, F> {
    fn input_shapes(&self) -> Vec<Vec<usize>> {
        self.input.shapes()
    }

    fn samples(&self) -> usize {
        self.input.samples()
    }

    fn run(&self, model: &M, device: &Device, boundary: &mut Boundary) {
        let input = boundary.put(self.input, device);
        // Copies share running statistics, and this one gets other ones.
        let model = model.valid().map(&mut Lift { path: Vec::new(), flags: self.flags.clone().into_iter() });
        let (logits, calls) = recorded_calls(|| (self.forward)(&model, input));
        boundary.output_shapes.push(logits.dims().to_vec());
        boundary.outputs.extend(id_of_lifted(&logits));
        let mut seen = self.seen.borrow_mut();
        seen.sparse = calls.into_iter().filter_map(SparseAt::of).collect();
        // Statistics are settled by `train`, which takes tensors with autodiff only.
        let mut settled = Statistics(Vec::new());
        visit_params(&map_params(model, &mut LiftRest).train(), &mut settled);
        boundary.outputs.extend(settled.0.iter().map(|(_, id)| *id));
        seen.statistics = settled.0;
    }
}

impl SparseAt {
    pub fn of(recorded: RecordedCall) -> Option<Self> {
        let RecordedCall { x, values, out, call } = recorded;
        Some(Self { x: id_of_lifted(&x)?, values: id_of_lifted(&values)?, out: id_of_lifted(&out)?, call })
    }
}

/// Gives a captured tensor autodiff; any other tensor stays as it is.
fn lift<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    match tensor.clone().try_into_primitive::<CaptureBackend>() {
        Ok(primitive) => {
            Tensor::from_primitive::<Autodiff<CaptureBackend>>(Autodiff::<CaptureBackend>::from_inner(primitive))
        }
        Err(_) => tensor,
    }
}

fn id_of_lifted<const D: usize>(tensor: &Tensor<D>) -> Option<TensorId> {
    let lifted = || tensor.clone().try_into_primitive::<Autodiff<CaptureBackend>>().ok();
    id_of(tensor).or_else(|| Some(lifted()?.primitive().id()))
}

struct Flags(Vec<bool>);

impl ModuleVisitor for Flags {
    fn visit_flag(&mut self, flag: &Param<Flag>) {
        self.0.push(flag.is_enabled());
    }
}

/// Lifts the parameters and sets the flags.
struct Lift {
    path: Vec<String>,
    flags: std::vec::IntoIter<bool>,
}

impl ModuleMapper for Lift {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_string());
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.path.last().is_some_and(|name| is_statistic(name)) { param } else { param.map(lift) }
    }
    fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        match self.flags.next() {
            Some(is_set) => flag.with_value(is_set),
            None => flag,
        }
    }
}

/// Lifts what has no autodiff yet.
struct LiftRest;

impl ParamMapper for LiftRest {
    fn float<const D: usize>(&mut self, _path: ParamPath<'_>, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(lift)
    }
}

/// The running statistics, by path.
struct Statistics(Vec<(String, TensorId)>);

impl ParamVisitor for Statistics {
    fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D>>) {
        let path = path.join();
        if is_statistic(&path)
            && let Some(id) = id_of_lifted(&param.base())
        {
            self.0.push((path, id));
        }
    }
}
