//! Convolutions, plain, grouped, transposed and deformable: input channels meet one axis of the kernel, filters the other.

use burn::backend::ir::{ModuleOperationIr as M, OperationIr, TensorIr};

use super::super::ChannelId;
use super::super::context::{Context, CountedField};
use super::dims;

const INPUT: &str = "it is an input of the network or a constant";
const POSITIONS: &str = "a window slides along it";

/// A convolution, whatever its rank and direction.
#[derive(Clone)]
pub(in crate::network) struct Convolution<'a> {
    pub x: &'a TensorIr,
    pub weight: &'a TensorIr,
    pub bias: Option<&'a TensorIr>,
    pub out: &'a TensorIr,
    pub groups: usize,
    pub transposed: bool,
    /// Zero padding before and after, for each position axis.
    pub padding: Vec<(usize, usize)>,
    pub stride: Vec<usize>,
    pub dilation: Vec<usize>,
}

macro_rules! read {
    ($op:expr, $transposed:expr, $padding:expr) => {
        read!($op, $transposed, $padding, groups)
    };
    ($op:expr, $transposed:expr, $padding:expr, $groups:ident) => {
        Convolution {
            x: &$op.x,
            weight: &$op.weight,
            bias: $op.bias.as_ref(),
            out: &$op.out,
            groups: $op.options.$groups,
            transposed: $transposed,
            padding: $padding,
            stride: $op.options.stride.to_vec(),
            dilation: $op.options.dilation.to_vec(),
        }
    };
}

/// The convolution that an operation is.
pub(in crate::network) fn convolution(op: &OperationIr) -> Option<Convolution<'_>> {
    let OperationIr::Module(op) = op else { return None };
    let both = |padding: &[usize]| padding.iter().map(|&p| (p, p)).collect();
    Some(match op {
        M::Conv1d(op) => read!(op, false, op.options.padding.to_vec()),
        M::Conv2d(op) => read!(op, false, op.options.padding.to_vec()),
        M::Conv3d(op) => read!(op, false, both(&op.options.padding)),
        M::ConvTranspose1d(op) => read!(op, true, both(&op.options.padding)),
        M::ConvTranspose2d(op) => read!(op, true, both(&op.options.padding)),
        M::ConvTranspose3d(op) => read!(op, true, both(&op.options.padding)),
        _ => return None,
    })
}

pub(super) fn flow(op: &OperationIr, context: &mut Context) -> bool {
    if let OperationIr::Module(M::Unfold4d(op)) = op {
        // Every channel becomes a run of kernel elements.
        let (axes, run) = (context.axes(&op.x), op.kernel_size[0] * op.kernel_size[1]);
        context.pin_axes(&axes[2..], POSITIONS);
        let labels = axes[1].as_ref().map(|labels| labels.iter().flat_map(|&l| std::iter::repeat_n(l, run)).collect());
        context.set(&op.out, vec![axes[0].clone(), labels, None]);
        return true;
    }
    if let OperationIr::Module(M::DeformableConv2d(op)) = op {
        for positions in std::iter::once(&op.offset).chain(op.mask.as_ref()) {
            context.pin(positions, "it moves the samples of a deformable convolution");
        }
        if op.options.offset_groups > 1 {
            context.pin(&op.x, "groups of offsets move it");
        }
        let conv = read!(op, false, vec![], weight_groups);
        grouped(&conv, "weight_groups", context);
        return true;
    }
    let Some(conv) = convolution(op) else { return false };
    grouped(&conv, "groups", context);
    true
}

/// `field`: the name of the plain field that counts the groups.
fn grouped(conv: &Convolution<'_>, field: &'static str, context: &mut Context) {
    let (input, kernel) = (context.axes(conv.x), context.axes(conv.weight));
    context.pin_axes(&input[2..], POSITIONS);
    let (filters, members) = if conv.groups == 1 {
        let (read, made) = if conv.transposed { (0, 1) } else { (1, 0) };
        context.unify(&input[1], &kernel[read], INPUT);
        (kernel[made].clone(), None)
    } else {
        let groups = context.labels.fresh(conv.groups);
        let (first, second) = (labels(&kernel[0]), labels(&kernel[1]));
        // Axis 0 of the kernel runs over all groups, axis 1 over the members of one.
        let inner = context.labels.fresh(first.len() / conv.groups);
        let all = blocks(&groups, &inner, context);
        context.labels.union_all(first, &all);
        let within = blocks(&groups, second, context);
        let (read, made) = if conv.transposed { (all, within) } else { (within, all) };
        context.unify(&input[1], &Some(read), INPUT);
        (Some(made), Some(groups))
    };
    if let Some(bias) = conv.bias {
        let bias = context.axes(bias);
        context.unify(&bias[0], &filters, "its bias is computed");
    }
    if let Some(groups) = members {
        match context.parameter(conv.weight) {
            Some(parameter) => {
                context.fields.push(CountedField { parameter, field, of: groups });
            }
            None => {
                context.labels.pin(&groups, "its weight is computed: the layer that counts its groups is not known")
            }
        }
    }
    let mut axes = vec![None; dims(conv.out).len()];
    axes[0] = input[0].clone();
    axes[1] = filters;
    context.set(conv.out, axes);
}

fn labels(axis: &Option<Vec<ChannelId>>) -> &[ChannelId] {
    axis.as_deref().unwrap_or_default()
}

/// Labels of an axis of groups with the same number of members each. A lone member adds no coordinate.
fn blocks(groups: &[ChannelId], inner: &[ChannelId], context: &mut Context) -> Vec<ChannelId> {
    if let [only] = inner {
        context.labels.pin(&[*only], "it is the only one of its group");
        return groups.to_vec();
    }
    groups.iter().flat_map(|&g| inner.iter().map(move |&i| (g, i))).map(|(g, i)| context.labels.product(g, i)).collect()
}
