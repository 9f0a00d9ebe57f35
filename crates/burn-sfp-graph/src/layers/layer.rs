//! [`Layer`]: a convolution, linear layer or embedding, and where its output is read.

use burn::backend::ir::{TensorId, TensorIr};

use super::kind::LayerKind;
use crate::channels::ids::ChannelId;

/// Where a layer's output is read: after the normalisation, activation and pooling that follow directly (the layer's output A in
/// docs/method.md, section 1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputTap {
    /// Operations passed between the layer and the tap.
    pub through: Vec<String>,
    /// Shape of the tapped tensor, samples first.
    pub shape: Vec<usize>,
    /// The axis of the filters.
    pub filter_axis: usize,
    /// S: positions of one filter's output, 1 for a linear layer on vectors.
    pub positions: usize,
    /// Id of the tensor in the captured graph.
    pub tensor: TensorId,
}

impl OutputTap {
    /// The input of a layer's first call as a tap.
    pub fn of_input(layer: &Layer) -> Self {
        let shape = layer.input_shape.clone();
        let filter_axis = layer.kind.channel_axis(shape.len());
        Self::bare(layer.input, shape, filter_axis)
    }

    /// A tensor with samples first, nothing passed on the way.
    pub(crate) fn bare(tensor: TensorId, shape: Vec<usize>, filter_axis: usize) -> Self {
        let others = shape.iter().enumerate().filter(|(axis, _)| *axis != 0 && *axis != filter_axis);
        let positions = others.map(|(_, length)| length).product();
        Self { through: vec![], shape, filter_axis, positions, tensor }
    }
}

/// A layer of the captured network: a convolution, a linear layer or an embedding whose weight is a parameter, perhaps masked or reshaped, or
/// computed from parameters alone: a product of two thin matrices, a direction times a length, a sum.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Layer {
    /// Module path, for example `convs.3`. Where the weight is computed from several parameters, it names all of them, `lora.{base,a,b}`, and
    /// another weight computed from the same ones is `lora.{base,a,b}#2`.
    pub path: String,
    /// How it applies its weight.
    pub kind: LayerKind,
    /// F: number of filters (output channels, nodes).
    pub filters: usize,
    /// Number of input channels or features, all groups together.
    pub inputs: usize,
    /// Groups of a convolution, 1 otherwise.
    pub groups: usize,
    /// Where its output is read.
    pub tap: OutputTap,
    /// Whether the tapped tensor, perhaps flattened, is the input of the classifier.
    pub feeds_classifier: bool,
    /// Whether this layer's output is the network's output.
    pub is_classifier: bool,
    /// Multiply-adds for one sample, all calls together.
    pub macs: u64,
    /// Elements of its weight and bias.
    pub parameters: u64,
    /// Number of times that the main forward pass calls it; 0 where only other passes do.
    pub calls: usize,
    /// The reason why none of its filters can be removed, `None` where some can.
    pub not_prunable: Option<String>,
    /// Zero padding of a convolution, `(before, after)` for each position axis.
    pub padding: Vec<(usize, usize)>,
    pub(crate) kernel: Vec<usize>,
    pub(crate) stride: Vec<usize>,
    pub(crate) dilation: Vec<usize>,
    /// Index in [`Network::parameters`](crate::Network::parameters) of the running mean of a batch normalisation that follows directly.
    pub running_mean: Option<usize>,
    pub(crate) weight: usize,
    pub(crate) bias: Option<usize>,
    /// The weight as the first call applies it.
    pub(crate) applied: TensorIr,
    /// The parameters that it is computed from.
    pub(crate) made_of: Vec<usize>,
    /// The parameters that its bias is computed from.
    pub(crate) bias_made_of: Vec<usize>,
    pub(crate) form: Form,
    pub(crate) input: TensorId,
    /// The inputs of all calls, in all captured forward passes.
    pub(crate) inputs_of_calls: Vec<TensorId>,
    /// The operations of all calls, in all captured forward passes.
    pub(crate) operations: Vec<usize>,
    pub(crate) input_shape: Vec<usize>,
    pub(crate) output_channels: Vec<ChannelId>,
    pub(crate) input_channels: Vec<Option<ChannelId>>,
}

/// What a weight has to do with the parameter that it is computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Form {
    /// It has the parameter's elements as they are, perhaps masked.
    Stored,
    /// It has the parameter's elements in another order or shape.
    Moved,
    /// Its elements are computed.
    Computed,
}

impl Layer {
    /// Whether its weight is computed, and not the elements of one parameter. Its connections cannot be masked then.
    pub fn is_computed(&self) -> bool {
        self.form == Form::Computed
    }

    /// Whether its weight is stored as it is applied: the axes of the parameter are those of its [`kind`](Layer::kind).
    pub fn is_stored(&self) -> bool {
        self.form == Form::Stored
    }

    /// Indices in [`Network::parameters`](crate::Network::parameters) of all parameters that its weight is computed from, in the order in which
    /// they are read.
    pub fn weight_parameters(&self) -> &[usize] {
        &self.made_of
    }

    /// Number of elements of one kernel, 1 for a linear layer.
    pub fn kernel_elements(&self) -> usize {
        self.kernel.iter().product()
    }

    /// Index of its weight, or of the first parameter that it is computed from, in [`Network::parameters`](crate::Network::parameters).
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Index of its bias in [`Network::parameters`](crate::Network::parameters), where it has one.
    pub fn bias(&self) -> Option<usize> {
        self.bias
    }

    /// Indices in [`Network::parameters`](crate::Network::parameters) of all parameters that its weight and its bias are computed from, each once.
    pub fn parameters_of_all(&self) -> impl Iterator<Item = usize> + '_ {
        let bias = self.bias_made_of.iter().filter(|parameter| !self.made_of.contains(parameter));
        self.made_of.iter().chain(bias).copied()
    }

    /// Whether more than one call is captured, in whichever forward pass.
    pub(crate) fn is_shared(&self) -> bool {
        self.operations.len() > 1
    }

    /// The channel of each filter.
    pub fn output_channels(&self) -> &[ChannelId] {
        &self.output_channels
    }

    /// The channel that each input index carries, `None` for an input of the network.
    pub fn input_channels(&self) -> &[Option<ChannelId>] {
        &self.input_channels
    }

    /// Shape of the input tensor, samples first.
    pub fn input_shape(&self) -> &[usize] {
        &self.input_shape
    }

    /// Kernel size for each position axis; empty for a linear layer.
    pub fn kernel(&self) -> &[usize] {
        &self.kernel
    }

    /// Stride for each position axis; empty for a linear layer.
    pub fn stride(&self) -> &[usize] {
        &self.stride
    }

    /// Dilation for each position axis; empty for a linear layer.
    pub fn dilation(&self) -> &[usize] {
        &self.dilation
    }
}
