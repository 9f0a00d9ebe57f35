//! The description of an operation: what each family implements and every other module reads.

use std::collections::{HashMap, HashSet};

use burn::backend::ir::{OperationIr, TensorId, TensorIr};

use crate::channels::context::Context;
use crate::channels::ids::{Axes, ChannelId};
use crate::channels::left::Left;
use crate::layers::kind::LayerKind;

/// Everything that this crate knows of one operation.
///
/// Each family of operations (`op/<family>.rs`) implements it for its operations, and nothing else in the crate lists operations to follow
/// channels, to find constants, to count or to find layers.
pub(crate) trait Describe<'a> {
    /// Unites the channel ids that the operation ties together, pins those that it cannot let go, and sets the ids of its outputs.
    fn flow(&self, context: &mut Context);

    /// Whether an index of the result along `axis` is zero once its channel is removed, that is, once every parameter is zero where it carries
    /// the channel. `false` is always safe.
    fn zero_along(&self, _axis: usize, _context: &Context) -> bool {
        false
    }

    /// Whether no element of the result can be negative. `false` is always safe.
    fn non_negative(&self, _context: &Context) -> bool {
        false
    }

    /// The channels of the result that are constant, given the constant channels of the inputs. None is always safe.
    fn constant(&self, _known: &Constants<'_>) -> HashSet<ChannelId> {
        HashSet::new()
    }

    /// Multiply-adds for the whole batch, from the shapes that `shape` gives; [`FREE`] where they count as none by convention, `None` where
    /// they are not known. It has no default: each operation says what it costs.
    fn macs(&self, shape: &ShapeOf<'_>) -> Option<u64>;

    /// How the operation applies a weight, where it is a layer if that weight is a parameter.
    fn layer(&self) -> Option<WeightedCall<'a>> {
        None
    }

    /// What the operation is to the layer before it.
    fn role(&self) -> Role {
        Role::Other
    }

    /// Operands and result, where an element of the result depends on the same elements of the (broadcast) operands only.
    fn elementwise(&self) -> Option<(&[&'a TensorIr], &'a TensorIr)> {
        None
    }

    /// The input that the result is a linear function of, where everything else that the operation reads is a weight or a scalar.
    fn linear_in(&self) -> Option<&'a TensorIr> {
        None
    }

    /// The factor on [`linear_in`](Describe::linear_in) that undoes a change of the operation's scalar from `before` to `after`.
    fn undo(&self, _before: f64, _after: f64) -> Option<f64> {
        None
    }

    /// Where the mean of the result along `axis` is zero: the operands, each with its axis, along which the mean has to be zero for that,
    /// whatever else the operation reads. Empty where there are none that guarantee it.
    fn mean_free(&self, _axis: usize) -> Vec<(&'a TensorIr, usize)> {
        Vec::new()
    }

    /// The weighted mean of values that the operation computes, where it may be an attention's.
    fn mixture(&self) -> Option<Mixture<'a>> {
        None
    }

    /// How a factor of the operands is one of the result: `exponents` has the exponent of each input's factor, of inputs without one 0. `None`
    /// where the result has no factor then.
    fn exponent(&self, _exponents: &[i32]) -> Option<i32> {
        None
    }

    /// What `smaller`, the same operation of a smaller network, has other than it should once the channels that `left` leaves out are gone.
    /// Shapes, scalars and options that no shape changes are compared elsewhere.
    fn mismatch(&self, _smaller: &OperationIr, _left: Left<'_>) -> Option<String> {
        None
    }
}

/// A described operation.
pub(crate) type Described<'a> = Box<dyn Describe<'a> + 'a>;

/// Shape of a tensor in the network that is counted, which may lack channels.
pub(crate) type ShapeOf<'s> = dyn Fn(&TensorIr) -> Vec<usize> + 's;

/// Operations that move, compare, normalise or pool elements count no multiply-adds, as is usual.
pub(crate) const FREE: Option<u64> = Some(0);

/// A family of operations.
pub(crate) struct Family {
    /// Describes an operation of the family, `None` for any other.
    pub read: for<'a> fn(&'a OperationIr) -> Option<Described<'a>>,
    /// The kinds of layers in it.
    pub kinds: &'static [LayerKind],
}

/// What an operation is to the layer before it: the tap of a layer lies behind the first of each that follows directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Normalization,
    Activation,
    Pooling,
    Other,
}

/// An operation that applies a weight.
#[derive(Clone)]
pub(crate) struct WeightedCall<'a> {
    pub kind: LayerKind,
    pub x: &'a TensorIr,
    pub weight: &'a TensorIr,
    pub bias: Option<&'a TensorIr>,
    pub out: &'a TensorIr,
    /// Number of filters or nodes.
    pub filters: usize,
    /// Number of input channels or features, all groups together.
    pub inputs: usize,
    pub groups: usize,
    /// Kernel size, zero padding (before, after), stride and dilation for each position axis.
    pub kernel: Vec<usize>,
    pub padding: Vec<(usize, usize)>,
    pub stride: Vec<usize>,
    pub dilation: Vec<usize>,
}

/// A product of weights of positions with values, as attention computes it.
pub(crate) struct Mixture<'a> {
    /// What it is computed from.
    pub from: Vec<&'a TensorIr>,
    /// Weights and values, where the operation itself does not compute the weights: it is an attention only if these come from a softmax.
    pub given: Option<(&'a TensorIr, &'a TensorIr)>,
    pub out: &'a TensorIr,
}

/// The constant channels found so far, for the description of the next operation.
pub(crate) struct Constants<'k> {
    pub tensors: &'k HashMap<TensorId, Axes>,
    /// Tensors computed from parameters alone: the same for every input.
    pub fixed: &'k HashSet<TensorId>,
    /// The constant channels of each tensor.
    pub found: &'k HashMap<TensorId, HashSet<ChannelId>>,
    /// The channels of the result that are asked for.
    pub carried: &'k HashSet<ChannelId>,
}

impl Constants<'_> {
    /// The channels of an input that are constant.
    pub fn of(&self, tensor: &TensorIr) -> HashSet<ChannelId> {
        self.found.get(&tensor.id).map(|ids| ids & self.carried).unwrap_or_default()
    }

    /// The channels that are constant in all operands; a tensor that is fixed and has one value for each channel is constant everywhere.
    pub fn of_all(&self, operands: &[&TensorIr]) -> HashSet<ChannelId> {
        let of = |tensor: &&TensorIr| if self.is_per_channel(tensor) { self.carried.clone() } else { self.of(tensor) };
        operands.iter().map(of).reduce(|a, b| &a & &b).unwrap_or_default()
    }

    /// The channel ids along an axis of a tensor.
    pub fn along(&self, tensor: &TensorIr, axis: usize) -> &[ChannelId] {
        let axes = self.tensors.get(&tensor.id);
        axes.and_then(|axes| axes.get(axis)?.as_deref()).unwrap_or_default()
    }

    /// Whether a tensor is computed from parameters alone and has one value for each channel.
    fn is_per_channel(&self, tensor: &TensorIr) -> bool {
        let wide = tensor.shape.iter().filter(|&&length| length > 1).count();
        let followed = self.tensors.get(&tensor.id).is_some_and(|axes| {
            axes.iter().zip(tensor.shape.iter()).all(|(ids, &length)| length == 1 || ids.is_some())
        });
        self.fixed.contains(&tensor.id) && (wide == 0 || (wide == 1 && followed))
    }
}

/// The axis of an operand that runs along an axis of the (broadcast) result, `None` where it has none of that length.
pub(crate) fn runs_along(operand: &TensorIr, out: &TensorIr, axis: usize) -> Option<usize> {
    let own = (axis + operand.shape.num_dims()).checked_sub(out.shape.num_dims())?;
    (operand.shape[own] == out.shape[axis]).then_some(own)
}

/// Whether an operand of an element-wise operation is zero along an axis of the result once a channel there is removed.
pub(crate) fn is_zero_along(operand: &TensorIr, out: &TensorIr, axis: usize, context: &Context) -> bool {
    runs_along(operand, out, axis).is_some_and(|own| context.is_zero(operand, own))
}

/// The exponent of the only operand's factor.
pub(crate) fn same_exponent(exponents: &[i32]) -> Option<i32> {
    let (first, rest) = exponents.split_first()?;
    rest.iter().all(|other| other == first).then_some(*first)
}

/// Lengths of a tensor's axes.
pub(crate) fn dims(tensor: &TensorIr) -> Vec<usize> {
    tensor.shape.iter().copied().collect()
}

/// Number of elements of a shape.
pub(crate) fn count(shape: &[usize]) -> u64 {
    shape.iter().map(|&length| length as u64).product()
}
