//! What silenced filters leave behind: channels that are constant whatever the input.
//!
//! A filter whose weights and bias are zero makes a channel of zeros; a normalisation and an activation turn it into another
//! constant. Which channels stay constant up to the layers that read them follows from the graph; their values from one run
//! of it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use burn::backend::ir::{
    BaseOperationIr as B, ModuleOperationIr as M, NumericOperationIr as N, OperationIr, TensorId, TensorIr,
};
use burn::tensor::TensorData;

use super::op::{convolution, elementwise_operands, pooling_keeps_constants};
use super::{ChannelId, Layer, Network, Replay, Tap};
use crate::SfpError;

/// Channels of tensors that are constant: one number for each index that carries the channel.
type Constant = HashMap<TensorId, HashSet<ChannelId>>;

impl Network {
    /// For each layer, by index, the inputs among the `removed` channels (closed) that are constant once the filters that make
    /// them are silenced, and what a bias can take over from them exactly: none where zero padding cuts the kernel off at the
    /// border, unless the constant is zero.
    ///
    /// # Errors
    /// [`SfpError::UnsupportedDevice`] and [`SfpError::Replay`] where the graph does not run on the model's device.
    pub fn constants(&self, removed: &BTreeSet<ChannelId>) -> Result<BTreeMap<usize, Vec<(usize, f32)>>, SfpError> {
        let constant = self.constant_channels(removed);
        let mut wanted: Vec<(usize, Vec<usize>)> = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            let Some(known) = constant.get(&layer.input) else { continue };
            let inputs: Vec<usize> = (0..layer.inputs)
                .filter(|&input| {
                    layer.input_channels.get(input).copied().flatten().is_some_and(|id| known.contains(&id))
                })
                .collect();
            if !inputs.is_empty() && layer.takes_constants() {
                wanted.push((index, inputs));
            }
        }
        let mut found = BTreeMap::new();
        if wanted.is_empty() {
            return Ok(found);
        }
        let taps: Vec<Tap> = wanted.iter().map(|(index, _)| Tap::of_input(&self.layers[*index])).collect();
        // A tensor is handed out once, however many layers read it.
        let mut distinct: Vec<&Tap> = Vec::new();
        for tap in &taps {
            if !distinct.iter().any(|other| other.tensor == tap.tensor) {
                distinct.push(tap);
            }
        }
        let mut replay = Replay::new(&self.silenced(removed), &self.device, &distinct)?;
        replay.run_zeros(self, |k, tensor| {
            let [_, channels, positions] = tensor.dims();
            let first = tensor.slice_dim(0, 0..1).into_data().convert::<f32>().try_into_vec::<f32>();
            let values = first.map_err(|error| SfpError::Capture(format!("{error:?}")))?;
            for ((index, inputs), tap) in wanted.iter().zip(&taps) {
                if tap.tensor != distinct[k].tensor {
                    continue;
                }
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

    /// The network with the weights and biases of removed filters at zero.
    fn silenced(&self, removed: &BTreeSet<ChannelId>) -> Network {
        let mut network = self.clone();
        for layer in &self.layers {
            for (parameter, axis) in [(Some(layer.weight), layer.kind.output_axis()), (layer.bias, 0)] {
                let Some(parameter) = parameter else { continue };
                let Some(labels) = self.flow.parameter(parameter).iter().find(|labels| labels.axis == axis) else {
                    continue;
                };
                let gone: Vec<usize> =
                    (0..labels.channels.len()).filter(|&k| removed.contains(&labels.channels[k])).collect();
                let parameter = &self.parameters[parameter];
                if gone.is_empty() {
                    continue;
                }
                if let Some(data) = network.values.get_mut(&parameter.tensor) {
                    zero(data, &parameter.shape, axis, &gone);
                }
            }
        }
        network
    }

    fn constant_channels(&self, removed: &BTreeSet<ChannelId>) -> Constant {
        let mut constant = Constant::new();
        let of_layer: HashMap<usize, usize> = self
            .layers
            .iter()
            .enumerate()
            .flat_map(|(layer, found)| found.operations.iter().map(move |&operation| (operation, layer)))
            .collect();
        // Tensors computed from parameters and numbers alone: the same for every input.
        let mut fixed: HashSet<TensorId> = self.values.keys().copied().collect();
        for op in &self.operations {
            if op.inputs().all(|input| fixed.contains(&input.id)) {
                fixed.extend(op.outputs().map(|output| output.id));
            }
        }
        for (index, op) in self.operations.iter().enumerate() {
            let Some(out) = op.outputs().next() else { continue };
            let carried = self.carried(out, removed);
            if carried.is_empty() {
                continue;
            }
            let known = match of_layer.get(&index) {
                Some(&layer) if self.stores_weight(index, layer) => carried,
                _ => self.constant_after(op, &carried, &constant, &fixed),
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
        let of =
            |labels: &Vec<ChannelId>| labels.iter().copied().filter(|id| removed.contains(id)).collect::<HashSet<_>>();
        let mut carrying = axes.iter().flatten().map(of).filter(|ids| !ids.is_empty());
        match (carrying.next(), carrying.next()) {
            (Some(ids), None) => ids,
            _ => HashSet::new(),
        }
    }

    fn constant_after(
        &self,
        op: &OperationIr,
        carried: &HashSet<ChannelId>,
        constant: &Constant,
        fixed: &HashSet<TensorId>,
    ) -> HashSet<ChannelId> {
        let of = |tensor: &TensorIr| constant.get(&tensor.id).map(|ids| ids & carried).unwrap_or_default();
        if let Some(operands) = elementwise_operands(op) {
            return operands
                .0
                .into_iter()
                .map(|operand| if self.one_number_a_channel(operand, fixed) { carried.clone() } else { of(operand) })
                .reduce(|a, b| &a & &b)
                .unwrap_or_default();
        }
        match op {
            _ if pooling_keeps_constants(op) => op.inputs().next().map(of).unwrap_or_default(),
            OperationIr::Module(M::BatchNorm(op)) => of(&op.x),
            OperationIr::NumericFloat(_, N::MeanDim(op) | N::MaxDim(op) | N::MinDim(op)) => of(&op.input),
            OperationIr::BaseFloat(B::Reshape(op)) => of(&op.input),
            OperationIr::BaseFloat(B::SwapDims(op)) => of(&op.input),
            OperationIr::BaseFloat(B::Permute(op)) => of(&op.input),
            OperationIr::BaseFloat(B::Flip(op)) => of(&op.input),
            OperationIr::BaseFloat(B::Slice(op)) => of(&op.tensor),
            OperationIr::BaseFloat(B::Cat(op)) => {
                // Along the channels each part brings its own; along anything else two constants may meet.
                let along_channels = self
                    .flow
                    .tensors
                    .get(&op.out.id)
                    .and_then(|axes| axes[op.dim].as_ref())
                    .is_some_and(|labels| labels.iter().any(|id| carried.contains(id)));
                if !along_channels {
                    return HashSet::new();
                }
                let carries = |tensor: &TensorIr, id: ChannelId| {
                    let axes = self.flow.tensors.get(&tensor.id);
                    axes.and_then(|axes| axes[op.dim].as_ref()).is_some_and(|labels| labels.contains(&id))
                };
                let constant =
                    |tensor: &TensorIr, id: ChannelId| constant.get(&tensor.id).is_some_and(|ids| ids.contains(&id));
                let known = |id: &ChannelId| op.tensors.iter().all(|part| !carries(part, *id) || constant(part, *id));
                carried.iter().copied().filter(known).collect()
            }
            _ => HashSet::new(),
        }
    }

    /// Whether a tensor is computed from parameters alone and has one number for each channel.
    fn one_number_a_channel(&self, tensor: &TensorIr, fixed: &HashSet<TensorId>) -> bool {
        let wide = tensor.shape.iter().filter(|&&length| length > 1).count();
        let labelled = self.flow.tensors.get(&tensor.id).is_some_and(|axes| {
            axes.iter().zip(tensor.shape.iter()).all(|(labels, &length)| length == 1 || labels.is_some())
        });
        fixed.contains(&tensor.id) && (wide == 0 || (wide == 1 && labelled))
    }

    /// Whether an operation uses its layer's weight as it is stored (perhaps with axes of length 1 added), so that silencing the
    /// stored filter silences the output.
    fn stores_weight(&self, operation: usize, layer: usize) -> bool {
        let (op, layer) = (&self.operations[operation], &self.layers[layer]);
        if convolution(op).is_some_and(|conv| conv.transposed && conv.groups > 1) {
            return false;
        }
        let stored = self.parameters[layer.weight].tensor;
        op.inputs().any(|input| {
            let mut at = input.id;
            loop {
                if at == stored {
                    return true;
                }
                match self.index.makers.get(&at).map(|&maker| &self.operations[maker]) {
                    Some(OperationIr::BaseFloat(B::Reshape(op))) if plain(&op.input) == plain(&op.out) => {
                        at = op.input.id
                    }
                    _ => return false,
                }
            }
        })
    }
}

impl Layer {
    /// Whether a constant input is a constant of its output that a bias or a running mean can take over.
    fn takes_constants(&self) -> bool {
        let readable = matches!(
            self.kind,
            super::LayerKind::Conv1d | super::LayerKind::Conv2d | super::LayerKind::Conv3d | super::LayerKind::Linear
        );
        readable && self.groups == 1 && self.calls == 1 && (self.bias.is_some() || self.running_mean.is_some())
    }
}

/// A shape without axes of length 1.
fn plain(tensor: &TensorIr) -> Vec<usize> {
    tensor.shape.iter().copied().filter(|&length| length > 1).collect()
}

/// Writes zeros at some indices of an axis.
fn zero(data: &mut TensorData, shape: &[usize], axis: usize, indices: &[usize]) {
    let dtype = data.dtype();
    let Ok(mut numbers) = data.clone().convert::<f32>().try_into_vec::<f32>() else { return };
    let inner: usize = shape[axis + 1..].iter().product();
    let outer: usize = shape[..axis].iter().product();
    for o in 0..outer {
        for &k in indices {
            let at = (o * shape[axis] + k) * inner;
            numbers[at..at + inner].fill(0.0);
        }
    }
    *data = TensorData::new(numbers, shape.to_vec()).convert_dtype(dtype);
}
