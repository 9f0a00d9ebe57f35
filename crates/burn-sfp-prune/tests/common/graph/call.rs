//! What a program is made of: calls with all that is not read off the tensors.

use super::value::Layout;

/// A call, what it is called on, and the layout of the first of these.
#[derive(Clone, Debug)]
pub struct Node {
    pub call: Call,
    pub from: Vec<usize>,
    pub layout: Layout,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Activation {
    Relu,
    Gelu,
    Sigmoid,
    Tanh,
    Silu,
    LeakyRelu,
    HardSigmoid,
    LogSigmoid,
    Softplus,
    Abs,
    Square,
    Clamp,
    Sine,
    Root,
    Affine,
    Minus,
    MaskFill,
    Compare,
    Elu,
    Cast,
}

impl Activation {
    pub const ALL: [Self; 20] = [
        Self::Relu,
        Self::Gelu,
        Self::Sigmoid,
        Self::Tanh,
        Self::Silu,
        Self::LeakyRelu,
        Self::HardSigmoid,
        Self::LogSigmoid,
        Self::Softplus,
        Self::Abs,
        Self::Square,
        Self::Clamp,
        Self::Sine,
        Self::Root,
        Self::Affine,
        Self::Minus,
        Self::MaskFill,
        Self::Compare,
        Self::Elu,
        Self::Cast,
    ];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Max,
    MaskWhere,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reduce {
    Mean,
    Sum,
    Max,
    Min,
}

/// Axes are those of the tensor; an index names the layer of the call's kind.
#[derive(Clone, Debug)]
pub enum Call {
    Activation(Activation),
    Times(f32),
    Prelu(usize),
    Softmax(usize),
    Conv(usize),
    Transposed(usize),
    Deform(usize),
    Linear(usize),
    Matrix(usize),
    MatrixLeft(usize),
    /// `a b^T` over tokens.
    Scores,
    /// `a^T b` over tokens.
    Gram,
    Attention(usize),
    Joint(usize),
    BatchNorm(usize),
    LayerNorm(usize),
    GroupNorm(usize),
    InstanceNorm(usize),
    RmsNorm(usize),
    MaxPool {
        kernel: usize,
        stride: usize,
        padding: usize,
    },
    AvgPool {
        kernel: usize,
        stride: usize,
        padding: usize,
    },
    Adaptive(usize),
    Interpolate(usize, bool),
    Scale(usize),
    Shift(usize),
    Wide(usize, bool),
    Constant(Vec<usize>),
    Binary(Binary),
    Reduce(Reduce, Vec<usize>),
    Cat(usize),
    /// Stacked after the samples or after the next axis, then summed or joined with the next.
    Stack {
        after: usize,
        sum: bool,
    },
    Chunk {
        axis: usize,
        parts: usize,
        which: usize,
    },
    /// From and to, in parts of the whole.
    Slice {
        axis: usize,
        from: usize,
        to: usize,
        of: usize,
    },
    /// As long as the second operand, from the start or the end.
    LikeOf {
        axis: usize,
        end: bool,
    },
    Select(usize, Vec<i64>),
    Gather(usize),
    Sort(usize),
    Flip(usize),
    Pad {
        axis: usize,
        before: usize,
        after: usize,
    },
    Step(usize),
    Shuffle(usize),
    PixelShuffle(usize),
    PixelUnshuffle(usize),
    Maxout(usize),
    ExpandLike,
    Repeat(usize, usize),
    CumSum(usize),
    Unfold(usize, usize),
    Unflatten(usize, usize),
    Swap(usize, usize),
    Ones,
    Roll(usize),
    /// The second half of the first operand becomes the second operand's first half.
    Assign(usize),
    To(Layout, usize),
    Embed(usize),
    /// Unit vectors along an axis.
    Unit(usize),
    /// A layer whose weight is the product of two thin matrices.
    Thin(usize),
}

impl Node {
    /// The call's name, with what it works on where that matters.
    pub fn name(&self) -> String {
        let whole = format!("{:?}", self.call);
        let short = whole.split([' ', '(', '{']).next().unwrap_or_default().to_string();
        let channels = |axis: usize| if axis == self.layout.channels() { "channels" } else { "positions" };
        match &self.call {
            Call::Activation(kind) => format!("{kind:?}"),
            Call::Binary(kind) => format!("{kind:?}"),
            Call::Reduce(kind, axes) => format!("{kind:?} over {}", channels(axes[0])),
            Call::To(layout, _) => format!("{:?} to {layout:?}", self.layout),
            Call::Conv(_) | Call::Transposed(_) => format!("{short} of {:?}", self.layout),
            Call::Softmax(axis)
            | Call::Unit(axis)
            | Call::Cat(axis)
            | Call::Chunk { axis, .. }
            | Call::Slice { axis, .. }
            | Call::Flip(axis)
            | Call::Repeat(axis, _)
            | Call::Assign(axis) => format!("{short} of {}", channels(*axis)),
            _ => short,
        }
    }
}
