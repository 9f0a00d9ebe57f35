//! [`Scan`]: a part of the module, followed through the operations from its parameters to the streams that it adds to.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use burn::backend::ir::{ActivationOperationIr as A, NumericOperationIr as N, OperationIr, TensorId, TensorIr};

use super::find::Block;
use super::silence::Silence;
use crate::network::Network;
use crate::op::description::dims;
use crate::op::name::name;

/// What depends on the parameters of a block so far.
pub(super) struct Scan<'a> {
    network: &'a Network,
    block: &'a mut Block,
    /// Tensors computed from parameters alone, each with these parameters.
    made_of: &'a HashMap<TensorId, Rc<[usize]>>,
    /// Tensors that depend on the block, other than as the stream behind it.
    dependent: HashSet<TensorId>,
    silence: Silence,
    /// What keeps the first sum from being one with a stream.
    obstacle: Option<String>,
}

impl<'a> Scan<'a> {
    /// Fills in what goes with the block. Returns why it cannot be left out, if so.
    pub fn run(
        network: &'a Network,
        made_of: &'a HashMap<TensorId, Rc<[usize]>>,
        block: &'a mut Block,
    ) -> Result<(), String> {
        let silence = Silence::new(network, &block.parameters);
        let own = block.parameters.iter().map(|&index| network.graph.parameters[index].tensor);
        let dependent: HashSet<TensorId> = own.collect();
        let mut scan = Self { network, block, made_of, dependent, silence, obstacle: None };
        for (index, op) in network.graph.operations.iter().enumerate() {
            scan.step(index, op);
        }
        scan.finish()
    }

    fn step(&mut self, index: usize, op: &OperationIr) {
        if !op.inputs().any(|input| self.dependent.contains(&input.id)) {
            self.pass_idle(index, op);
            return;
        }
        if let Some((stream, branch, out)) = self.sum(op) {
            match self.not_silent(stream, branch) {
                None => {
                    let before = self.before(stream.id);
                    self.block.stream = Some((self.block.stream.map_or(stream.id, |(first, _)| first), out.id));
                    self.block.stands_for.insert(out.id, before);
                    self.block.branches.push(branch.id);
                    self.block.operations.insert(index);
                    return;
                }
                Some(obstacle) => drop(self.obstacle.get_or_insert(obstacle)),
            }
        }
        self.silence.follow(index, op);
        self.block.operations.insert(index);
        self.dependent.extend(op.outputs().map(|output| output.id));
    }

    /// The sides of a sum of a stream and what depends on the block, and the result.
    fn sum<'o>(&self, op: &'o OperationIr) -> Option<(&'o TensorIr, &'o TensorIr, &'o TensorIr)> {
        let OperationIr::NumericFloat(_, N::Add(op)) = op else { return None };
        let (stream, branch) = match [&op.lhs, &op.rhs].map(|side| self.dependent.contains(&side.id)) {
            [false, true] => (&op.lhs, &op.rhs),
            [true, false] => (&op.rhs, &op.lhs),
            _ => return None,
        };
        let follows = self.network.following_inputs().contains(&stream.id);
        (follows && dims(stream) == dims(&op.out)).then_some((stream, branch, &op.out))
    }

    fn not_silent(&self, stream: &TensorIr, branch: &TensorIr) -> Option<String> {
        let way = self.way(branch.id, stream.id);
        if way.is_empty() {
            return Some("what it adds is not computed from the stream that it is added to".into());
        }
        if let Some(other) = way.into_iter().find_map(|operation| self.foreign(operation)) {
            return Some(format!("what it adds is computed with `{other}` too, which is not part of it"));
        }
        self.silence.loud(branch.id).map(|operation| {
            let name = operation.map_or_else(String::new, |at| {
                format!(" (operation {at}, {})", name(&self.network.graph.operations[at]))
            });
            format!("what it adds to the stream is not known to be zero when its parameters are{name}")
        })
    }

    /// The operations on the ways from a stream to a branch that is computed from it; none where it is not.
    fn way(&self, branch: TensorId, stream: TensorId) -> Vec<usize> {
        let graph = &self.network.graph;
        let (mut open, mut behind) = (vec![branch], HashSet::new());
        while let Some(tensor) = open.pop() {
            let producer = graph.producer(tensor).filter(|_| tensor != stream);
            if let Some(producer) = producer.filter(|producer| !behind.contains(producer)) {
                behind.insert(producer);
                open.extend(graph.operations[producer].inputs().map(|input| input.id));
            }
        }
        let mut behind: Vec<usize> = behind.into_iter().collect();
        behind.sort_unstable();
        let mut following = HashSet::from([stream]);
        behind.retain(|&operation| {
            let op = &graph.operations[operation];
            let follows = op.inputs().any(|input| following.contains(&input.id));
            if follows {
                following.extend(op.outputs().map(|output| output.id));
            }
            follows
        });
        behind
    }

    /// A parameter that an operation reads and that is not the block's.
    fn foreign(&self, operation: usize) -> Option<&'a str> {
        let graph = &self.network.graph;
        let read = graph.operations[operation].inputs().filter_map(|input| self.made_of.get(&input.id));
        let other = read.flat_map(|parameters| parameters.iter()).find(|index| !self.block.parameters.contains(index));
        other.map(|&index| graph.parameters[index].path.as_str())
    }

    /// The stream in front of the block that a tensor stands for.
    fn before(&self, tensor: TensorId) -> TensorId {
        self.block.stands_for.get(&tensor).copied().unwrap_or(tensor)
    }

    /// A rectifier that alone reads the sum does nothing to the stream where this has no negative element: it is part of the block.
    fn pass_idle(&mut self, index: usize, op: &OperationIr) {
        let OperationIr::Activation(A::Relu(op)) = op else { return };
        let graph = &self.network.graph;
        let Some(&before) = self.block.stands_for.get(&op.input.id) else { return };
        let alone = graph.consumers(op.input.id) == [index] && !graph.outputs.contains(&op.input.id);
        if alone && self.network.flow.non_negative.contains(&before) {
            self.block.stands_for.insert(op.out.id, before);
            self.block.operations.insert(index);
            if let Some((_, after)) = &mut self.block.stream {
                *after = op.out.id;
            }
        }
    }

    fn finish(mut self) -> Result<(), String> {
        let graph = &self.network.graph;
        if graph.outputs.iter().any(|output| self.dependent.contains(output)) {
            let nothing = "what it computes is not added to the stream that it reads".to_string();
            return Err(self.obstacle.unwrap_or(nothing));
        }
        if self.block.branches.is_empty() {
            return Err("nothing of it reaches the output of the network".into());
        }
        self.take_what_only_it_reads();
        Ok(())
    }

    /// Adds the operations whose results nothing but the block reads: of the stream (a rectifier in front of the first layer) and of constants.
    fn take_what_only_it_reads(&mut self) {
        let graph = &self.network.graph;
        let mut of_stream: HashSet<TensorId> = self.block.stands_for.values().copied().collect();
        of_stream.extend(self.block.stands_for.keys());
        for op in &graph.operations {
            if op.inputs().any(|input| of_stream.contains(&input.id)) {
                of_stream.extend(op.outputs().map(|output| output.id));
            }
        }
        let fixed = graph.fixed();
        for (index, op) in graph.operations.iter().enumerate().rev() {
            let known = op.inputs().any(|input| of_stream.contains(&input.id))
                || op.inputs().all(|input| fixed.contains(&input.id));
            let alone = |output: &TensorIr| {
                let readers = graph.consumers(output.id);
                let inside = readers.iter().all(|reader| self.block.operations.contains(reader));
                !readers.is_empty() && inside && !graph.outputs.contains(&output.id)
            };
            if known && op.outputs().all(alone) {
                self.block.operations.insert(index);
            }
        }
    }
}
