//! Convolutions, plain, grouped, transposed and deformable: input channels meet one axis of the kernel, filters the other.
//!
//! A convolution of `n` samples with a kernel `[out, in / groups, k..]` costs `n * out * positions * (in / groups) * k..` multiply-adds,
//! positions of its output; a transposed one the same with the positions of its input. Products with padding count, as is usual.

use burn::backend::ir::{
    Conv2dOptionsIr, DeformConv2dOpIr, ModuleOperationIr as M, OperationIr, TensorIr, Unfold4dOpIr,
};
use burn_sfp_ndarray::ConvGeometry;

use super::description::{Describe, Described, FREE, Family, ShapeOf, WeightedCall, count, dims, same_exponent};
use crate::channels::context::{Context, CountedField};
use crate::channels::ids::{Axes, ChannelId};
use crate::channels::left::Left;
use crate::layers::kind::LayerKind;

const INPUT: &str = "it is an input of the network or a constant";
const POSITIONS: &str = "a window slides along it";
const KERNEL: &str = "it is a position of a convolution's kernel";

#[allow(non_upper_case_globals)]
impl LayerKind {
    /// A 1d convolution, kernel `[out, in / groups, k]`.
    pub const Conv1d: Self = Self::convolution("conv1d", 1, false);
    /// A 2d convolution, kernel `[out, in / groups, k, k]`.
    pub const Conv2d: Self = Self::convolution("conv2d", 2, false);
    /// A 3d convolution, kernel `[out, in / groups, k, k, k]`.
    pub const Conv3d: Self = Self::convolution("conv3d", 3, false);
    /// A transposed 1d convolution, kernel `[in, out / groups, k]`.
    pub const ConvTranspose1d: Self = Self::convolution("conv_transpose1d", 1, true);
    /// A transposed 2d convolution, kernel `[in, out / groups, k, k]`.
    pub const ConvTranspose2d: Self = Self::convolution("conv_transpose2d", 2, true);
    /// A transposed 3d convolution, kernel `[in, out / groups, k, k, k]`.
    pub const ConvTranspose3d: Self = Self::convolution("conv_transpose3d", 3, true);
}

pub(super) const FAMILY: Family = Family {
    read,
    kinds: &[
        LayerKind::Conv1d,
        LayerKind::Conv2d,
        LayerKind::Conv3d,
        LayerKind::ConvTranspose1d,
        LayerKind::ConvTranspose2d,
        LayerKind::ConvTranspose3d,
    ],
};

/// The geometry of a 2d convolution as the kernels of the CPU take it.
pub(crate) fn geometry(options: &Conv2dOptionsIr) -> ConvGeometry {
    let padding = options.padding.map(|(before, after)| [before, after]);
    ConvGeometry { stride: options.stride, padding, dilation: options.dilation, groups: options.groups }
}

fn read(op: &OperationIr) -> Option<Described<'_>> {
    if let Some(conv) = convolution(op) {
        return Some(Box::new(conv));
    }
    match op {
        OperationIr::Module(M::DeformableConv2d(op)) => Some(Box::new(Deformable(op))),
        OperationIr::Module(M::Unfold4d(op)) => Some(Box::new(Windows(op))),
        _ => None,
    }
}

/// A convolution, whatever its rank and direction.
struct Convolution<'a> {
    kind: LayerKind,
    x: &'a TensorIr,
    weight: &'a TensorIr,
    bias: Option<&'a TensorIr>,
    out: &'a TensorIr,
    groups: usize,
    /// The plain field that counts the groups.
    field: &'static str,
    /// Zero padding before and after, for each position axis.
    padding: Vec<(usize, usize)>,
    stride: Vec<usize>,
    dilation: Vec<usize>,
}

macro_rules! read {
    ($op:expr, $kind:expr, $padding:expr) => {
        read!($op, $kind, $padding, groups)
    };
    ($op:expr, $kind:expr, $padding:expr, $groups:ident) => {
        Convolution {
            kind: $kind,
            x: &$op.x,
            weight: &$op.weight,
            bias: $op.bias.as_ref(),
            out: &$op.out,
            groups: $op.options.$groups,
            field: stringify!($groups),
            padding: $padding,
            stride: $op.options.stride.to_vec(),
            dilation: $op.options.dilation.to_vec(),
        }
    };
}

fn convolution(op: &OperationIr) -> Option<Convolution<'_>> {
    let OperationIr::Module(op) = op else { return None };
    let both = |padding: &[usize]| padding.iter().map(|&p| (p, p)).collect();
    Some(match op {
        M::Conv1d(op) => read!(op, LayerKind::Conv1d, op.options.padding.to_vec()),
        M::Conv2d(op) => read!(op, LayerKind::Conv2d, op.options.padding.to_vec()),
        M::Conv3d(op) => read!(op, LayerKind::Conv3d, both(&op.options.padding)),
        M::ConvTranspose1d(op) => read!(op, LayerKind::ConvTranspose1d, both(&op.options.padding)),
        M::ConvTranspose2d(op) => read!(op, LayerKind::ConvTranspose2d, both(&op.options.padding)),
        M::ConvTranspose3d(op) => read!(op, LayerKind::ConvTranspose3d, both(&op.options.padding)),
        _ => return None,
    })
}

impl<'a> Describe<'a> for Convolution<'a> {
    fn flow(&self, context: &mut Context) {
        let (input, kernel) = (context.axes(self.x), context.axes(self.weight));
        context.pin_axes(&input[2..], POSITIONS);
        // Whatever the kernel is computed from: without one of them the convolution is another one.
        context.pin_axes(&kernel[2..], KERNEL);
        let (filters, groups) = if self.groups == 1 {
            context.unify(&input[1], &kernel[self.kind.input_axis()], INPUT);
            (kernel[self.kind.output_axis()].clone(), None)
        } else {
            let groups = context.sets.fresh(self.groups);
            let (first, second) =
                (carried(self.weight, &kernel, 0, context), carried(self.weight, &kernel, 1, context));
            // Axis 0 of the kernel runs over all groups, axis 1 over the members of one.
            let inner = context.sets.fresh(first.len() / self.groups);
            let all = blocks(&groups, &inner, context);
            context.sets.union_all(&first, &all);
            let within = blocks(&groups, &second, context);
            let (read, made) = if self.kind.is_transposed() { (all, within) } else { (within, all) };
            context.unify(&input[1], &Some(read), INPUT);
            (Some(made), Some(groups))
        };
        if let Some(bias) = self.bias {
            let bias = context.axes(bias);
            context.unify(&bias[0], &filters, "its bias is computed");
        }
        if let Some(groups) = groups {
            match context.parameter(self.weight) {
                Some(parameter) => {
                    context.fields.push(CountedField { parameter, field: self.field, of: groups });
                }
                None => {
                    context.sets.pin(&groups, "its weight is computed: the layer that counts its groups is not known")
                }
            }
        }
        let mut axes = vec![None; dims(self.out).len()];
        axes[0] = input[0].clone();
        axes[1] = filters;
        context.set(self.out, axes);
    }

    fn zero_along(&self, axis: usize, context: &Context) -> bool {
        // The filters of groups are products of a group, which runs along axis 0 of the kernel, and a member.
        let groups = self.groups == 1 || context.is_zero(self.weight, 0);
        let filters = groups && context.is_zero(self.weight, self.kind.output_axis());
        axis == 1 && filters && self.bias.is_none_or(|bias| context.is_zero(bias, 0))
    }

    fn macs(&self, shape: &ShapeOf<'_>) -> Option<u64> {
        let positions = if self.kind.is_transposed() { shape(self.x) } else { shape(self.out) };
        Some(count(&positions) * count(&shape(self.weight)[1..]))
    }

    fn layer(&self) -> Option<WeightedCall<'a>> {
        let shape = dims(self.weight);
        let (filters, inputs) = if self.kind.is_transposed() {
            (shape[1] * self.groups, shape[0])
        } else {
            (shape[0], shape[1] * self.groups)
        };
        Some(WeightedCall {
            kind: self.kind,
            x: self.x,
            weight: self.weight,
            bias: self.bias,
            out: self.out,
            filters,
            inputs,
            groups: self.groups,
            kernel: shape[2..].to_vec(),
            padding: self.padding.clone(),
            stride: self.stride.clone(),
            dilation: self.dilation.clone(),
        })
    }

    fn mean_free(&self, axis: usize) -> Vec<(&'a TensorIr, usize)> {
        // Filters of other groups read other inputs.
        if self.groups > 1 || axis != 1 {
            return Vec::new();
        }
        std::iter::once((self.weight, self.kind.output_axis())).chain(self.bias.map(|bias| (bias, 0))).collect()
    }

    fn mismatch(&self, smaller: &OperationIr, left: Left<'_>) -> Option<String> {
        self.other_groups(convolution(smaller)?.groups, left)
    }
}

impl Convolution<'_> {
    /// What is wrong with this number of groups.
    fn other_groups(&self, found: usize, left: Left<'_>) -> Option<String> {
        let whole = if self.kind.is_transposed() { self.out } else { self.x };
        let expected = left.shape(whole)[1] / left.shape(self.weight)[1].max(1);
        (found != expected).then(|| format!("it has {found} groups, the plan's are {expected}"))
    }
}

/// A deformable convolution: a convolution whose windows are moved by offsets.
struct Deformable<'a>(&'a DeformConv2dOpIr);

impl<'a> Describe<'a> for Deformable<'a> {
    fn flow(&self, context: &mut Context) {
        let op = self.0;
        for positions in std::iter::once(&op.offset).chain(op.mask.as_ref()) {
            context.pin(positions, "it moves the samples of a deformable convolution");
        }
        if op.options.offset_groups > 1 {
            context.pin(&op.x, "groups of offsets move it");
        }
        read!(op, LayerKind::Conv2d, vec![], weight_groups).flow(context);
    }

    fn zero_along(&self, axis: usize, context: &Context) -> bool {
        let op = self.0;
        read!(op, LayerKind::Conv2d, vec![], weight_groups).zero_along(axis, context)
    }

    fn mismatch(&self, smaller: &OperationIr, left: Left<'_>) -> Option<String> {
        let (op, OperationIr::Module(M::DeformableConv2d(smaller))) = (self.0, smaller) else { return None };
        read!(op, LayerKind::Conv2d, vec![], weight_groups).other_groups(smaller.options.weight_groups, left)
    }

    fn macs(&self, shape: &ShapeOf<'_>) -> Option<u64> {
        Some(count(&shape(&self.0.out)) * count(&shape(&self.0.weight)[1..]))
    }
}

/// The windows that a convolution slides along, side by side: every channel becomes a run of kernel elements.
struct Windows<'a>(&'a Unfold4dOpIr);

impl<'a> Describe<'a> for Windows<'a> {
    fn flow(&self, context: &mut Context) {
        let op = self.0;
        let (axes, run) = (context.axes(&op.x), op.kernel_size[0] * op.kernel_size[1]);
        context.pin_axes(&axes[2..], POSITIONS);
        let ids = axes[1].as_ref().map(|ids| ids.iter().flat_map(|&id| std::iter::repeat_n(id, run)).collect());
        context.set(&op.out, vec![axes[0].clone(), ids, None]);
    }

    fn zero_along(&self, axis: usize, context: &Context) -> bool {
        axis < 2 && context.is_zero(&self.0.x, axis)
    }

    fn non_negative(&self, context: &Context) -> bool {
        context.non_negative.contains(&self.0.x.id)
    }

    fn exponent(&self, exponents: &[i32]) -> Option<i32> {
        same_exponent(exponents)
    }

    fn macs(&self, _shape: &ShapeOf<'_>) -> Option<u64> {
        FREE
    }
}

/// The channels along an axis of a kernel; where it carries none, ids that stay.
fn carried(weight: &TensorIr, kernel: &Axes, axis: usize, context: &mut Context) -> Vec<ChannelId> {
    kernel[axis].clone().unwrap_or_else(|| {
        let ids = context.sets.fresh(weight.shape[axis]);
        context.sets.pin(&ids, INPUT);
        ids
    })
}

/// Channel ids of an axis of groups with the same number of members each. A lone member adds no coordinate.
fn blocks(groups: &[ChannelId], inner: &[ChannelId], context: &mut Context) -> Vec<ChannelId> {
    if let [only] = inner {
        context.sets.pin(&[*only], "it is the only one of its group");
        return groups.to_vec();
    }
    groups.iter().flat_map(|&g| inner.iter().map(move |&i| (g, i))).map(|(g, i)| context.sets.product(g, i)).collect()
}
