//! Channels that are constant whatever the input: what silenced filters leave behind.
//!
//! A filter whose weights and bias are zero makes a channel of zeros; a normalisation and an activation turn it into another
//! constant. Which channels stay constant up to the layers that read them follows from the descriptions of the operations; their values
//! from one run of the graph.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use burn::backend::ir::{BaseOperationIr as B, OperationIr, TensorId, TensorIr};
use burn::tensor::TensorData;

use crate::GraphError;
use crate::blocks::Omitted;
use crate::channels::ids::ChannelId;
use crate::layers::layer::{Layer, OutputTap};
use crate::network::Network;
use crate::op::describe;
use crate::op::description::Constants;
use crate::replay::Replay;

/// The constant channels of each tensor.
type Constant = HashMap<TensorId, HashSet<ChannelId>>;

impl Network {
    /// For each layer, by index, those of its inputs whose constant values a bias can take over exactly once the filters that produce the
    /// `removed` channels (closed) are silenced and some blocks are left out: pairs of input and value. Inputs that are constantly zero are left out, and all inputs of a
    /// convolution with zero padding, which cuts the kernel off at the border.
    ///
    /// # Errors
    /// [`GraphError::UnsupportedDevice`] and [`GraphError::Replay`] where the graph does not run on the model's device.
    pub fn constants(
        &self,
        removed: &BTreeSet<ChannelId>,
        omitted: &Omitted,
    ) -> Result<BTreeMap<usize, Vec<(usize, f32)>>, GraphError> {
        let wanted = self.constant_inputs(removed, omitted);
        let mut found = BTreeMap::new();
        if wanted.is_empty() {
            return Ok(found);
        }
        let taps: Vec<OutputTap> = wanted.iter().map(|(index, _)| OutputTap::of_input(&self.layers[*index])).collect();
        // A tensor is handed out once, however many layers read it.
        let mut distinct: Vec<&OutputTap> = Vec::new();
        let mut readers: Vec<Vec<usize>> = Vec::new();
        let mut place: HashMap<TensorId, usize> = HashMap::new();
        for (reader, tap) in taps.iter().enumerate() {
            let at = *place.entry(tap.tensor).or_insert_with(|| {
                distinct.push(tap);
                readers.push(Vec::new());
                distinct.len() - 1
            });
            readers[at].push(reader);
        }
        let mut replay = Replay::new(&self.silenced(removed, omitted), &self.device, &distinct)?;
        replay.run_zeros(self, |k, tensor| {
            let [_, channels, positions] = tensor.dims();
            let first = tensor.slice_dim(0, 0..1).into_data().convert::<f32>().try_into_vec::<f32>();
            let values = first.map_err(|error| GraphError::Capture(format!("{error:?}")))?;
            for (index, inputs) in readers[k].iter().map(|&reader| &wanted[reader]) {
                let layer = &self.layers[*index];
                let padded = layer.padding.iter().any(|padding| *padding != (0, 0));
                let exact = inputs
                    .iter()
                    .filter(|&&input| input < channels)
                    .map(|&input| (input, values[input * positions]))
                    .filter(|(_, value)| value.is_finite() && *value != 0.0 && !padded);
                let exact: Vec<(usize, f32)> = exact.collect();
                if !exact.is_empty() {
                    found.insert(*index, exact);
                }
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// For each layer that can take constants over, its constant inputs.
    fn constant_inputs(&self, removed: &BTreeSet<ChannelId>, omitted: &Omitted) -> Vec<(usize, Vec<usize>)> {
        let constant = self.constant_channels(removed, omitted);
        let of = |(index, layer): (usize, &Layer)| {
            let known = constant.get(&layer.input)?;
            let is_known = |input: &usize| {
                layer.input_channels.get(*input).copied().flatten().is_some_and(|id| known.contains(&id))
            };
            let inputs: Vec<usize> = (0..layer.inputs).filter(is_known).collect();
            (!inputs.is_empty() && layer.takes_constants() && !omitted.has_layer(index)).then_some((index, inputs))
        };
        self.layers.iter().enumerate().filter_map(of).collect()
    }

    /// The network with the weights and biases of removed filters at zero, and all parameters of blocks that are left out.
    fn silenced(&self, removed: &BTreeSet<ChannelId>, omitted: &Omitted) -> Network {
        let mut network = self.clone();
        for layer in &self.layers {
            for (parameter, axis) in [(Some(layer.weight), layer.kind.output_axis()), (layer.bias, 0)] {
                let Some(parameter) = parameter else { continue };
                let Some(along) = self.flow.parameter(parameter).iter().find(|along| along.axis == axis) else {
                    continue;
                };
                let gone: Vec<usize> =
                    (0..along.channels.len()).filter(|&k| removed.contains(&along.channels[k])).collect();
                let parameter = &self.graph.parameters[parameter];
                if gone.is_empty() {
                    continue;
                }
                if let Some(data) = Arc::make_mut(&mut network.graph.values).get_mut(&parameter.tensor) {
                    zero(data, &parameter.shape, axis, &gone);
                }
            }
        }
        for &index in omitted.parameters() {
            let parameter = &self.graph.parameters[index];
            let data = Arc::make_mut(&mut network.graph.values).get_mut(&parameter.tensor);
            if let (Some(data), true, false) = (data, parameter.is_trained(), self.flow.keeps_values(index)) {
                *data = TensorData::zeros::<f32, _>(parameter.shape.clone()).convert_dtype(data.dtype());
            }
        }
        network
    }

    fn constant_channels(&self, removed: &BTreeSet<ChannelId>, omitted: &Omitted) -> Constant {
        let mut constant = Constant::new();
        let operations = |(layer, found): (usize, &Layer)| {
            found.operations.iter().map(|&operation| (operation, layer)).collect::<Vec<_>>()
        };
        let of_layer: HashMap<usize, usize> = self.layers.iter().enumerate().flat_map(operations).collect();
        let fixed = self.graph.fixed();
        for (index, op) in self.graph.operations.iter().enumerate() {
            let Some(out) = op.outputs().next() else { continue };
            let carried = self.carried(out, removed);
            if carried.is_empty() {
                continue;
            }
            let known = match of_layer.get(&index) {
                // It is zero.
                _ if omitted.is_branch(out.id) => carried,
                Some(&layer) if self.stores_weight(index, layer) => carried,
                _ => {
                    let known =
                        Constants { tensors: &self.flow.tensors, fixed: &fixed, found: &constant, carried: &carried };
                    describe(op).map(|described| described.constant(&known)).unwrap_or_default()
                }
            };
            if !known.is_empty() {
                constant.insert(out.id, known);
            }
        }
        constant
    }

    /// The removed channels that a tensor carries along exactly one axis.
    fn carried(&self, tensor: &TensorIr, removed: &BTreeSet<ChannelId>) -> HashSet<ChannelId> {
        let Some(axes) = self.flow.tensors.get(&tensor.id) else { return HashSet::new() };
        let of = |ids: &Vec<ChannelId>| ids.iter().copied().filter(|id| removed.contains(id)).collect::<HashSet<_>>();
        let mut carrying = axes.iter().flatten().map(of).filter(|ids| !ids.is_empty());
        match (carrying.next(), carrying.next()) {
            (Some(ids), None) => ids,
            _ => HashSet::new(),
        }
    }

    /// Whether an operation uses its layer's weight as it is stored (perhaps with axes of length 1 added), so that silencing the
    /// stored filter silences the output.
    fn stores_weight(&self, operation: usize, layer: usize) -> bool {
        let (op, layer) = (&self.graph.operations[operation], &self.layers[layer]);
        // Of a transposed convolution in groups a filter is not an index of the weight.
        if layer.kind.is_transposed() && layer.groups > 1 {
            return false;
        }
        let stored = self.graph.parameters[layer.weight].tensor;
        op.inputs().any(|input| {
            let mut at = input.id;
            while at != stored {
                match self.graph.made_by(at) {
                    Some(OperationIr::BaseFloat(B::Reshape(op))) if plain(&op.input) == plain(&op.out) => {
                        at = op.input.id
                    }
                    _ => return false,
                }
            }
            true
        })
    }
}

impl Layer {
    /// Whether a constant input is a constant of its output that a bias or a running mean can take over.
    fn takes_constants(&self) -> bool {
        let readable = !self.kind.reads_indices() && !self.kind.is_transposed();
        readable && self.groups == 1 && !self.is_shared() && (self.bias.is_some() || self.running_mean.is_some())
    }
}

/// A shape without axes of length 1.
fn plain(tensor: &TensorIr) -> Vec<usize> {
    tensor.shape.iter().copied().filter(|&length| length > 1).collect()
}

/// Writes zeros at some indices of an axis.
fn zero(data: &mut TensorData, shape: &[usize], axis: usize, indices: &[usize]) {
    let dtype = data.dtype();
    let Ok(mut values) = data.clone().convert::<f32>().try_into_vec::<f32>() else { return };
    let inner: usize = shape[axis + 1..].iter().product();
    let outer: usize = shape[..axis].iter().product();
    for o in 0..outer {
        for &k in indices {
            let at = (o * shape[axis] + k) * inner;
            values[at..at + inner].fill(0.0);
        }
    }
    *data = TensorData::new(values, shape.to_vec()).convert_dtype(dtype);
}
