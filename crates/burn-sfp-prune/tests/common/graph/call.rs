//! What a program is made of: calls with all that is not read off the tensors, and how each runs.

use burn::nn::interpolate::{Interpolate1dConfig, Interpolate2dConfig, InterpolateMode};
use burn::nn::pool::{
    AdaptiveAvgPool1dConfig, AdaptiveAvgPool2dConfig, AdaptiveAvgPool3dConfig, AvgPool1dConfig, AvgPool2dConfig,
    MaxPool1dConfig, MaxPool2dConfig,
};
use burn::nn::{PaddingConfig1d, PaddingConfig2d};
use burn::tensor::activation as act;
use burn::tensor::ops::PadMode;
use burn::tensor::{Int, Tensor, TensorData};

use super::layers::Layers;
use super::reshaping;
use super::value::{Layout, Value, both, each};

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

impl Layers {
    pub fn run(&self, node: &Node, from: Vec<Value>, words: &Tensor<2, Int>) -> Value {
        let layout = node.layout;
        let mut from = from.into_iter();
        let x = match node.call {
            Call::Embed(at) => return Value::Three(self.embedding[at].forward(words.clone())),
            _ => from.next().expect("a call has an operand"),
        };
        let mut other = || from.next().expect("the call has a second operand");
        match &node.call {
            Call::Activation(kind) => activate(*kind, x),
            Call::Times(factor) => each!(x, x => x * *factor),
            Call::Prelu(at) => each!(x, x => self.prelu[*at].forward(x)),
            Call::Softmax(axis) => each!(x, x => act::softmax(x, *axis)),
            Call::Conv(at) => match x {
                Value::Three(x) => Value::Three(self.conv1[*at].forward(x)),
                Value::Four(x) => Value::Four(self.conv2[*at].forward(x)),
                x => Value::Five(self.conv3[*at].forward(x.five())),
            },
            Call::Transposed(at) => match x {
                Value::Three(x) => Value::Three(self.up1[*at].forward(x)),
                Value::Four(x) => Value::Four(self.up2[*at].forward(x)),
                x => Value::Five(self.up3[*at].forward(x.five())),
            },
            Call::Deform(at) => Value::Four(self.deform[*at].forward(x.four(), other().four(), None)),
            Call::Linear(at) => each!(x, x => self.linear[*at].forward(x)),
            Call::Matrix(at) => {
                let matrix = self.matrix[*at].val();
                each!(x, x => x.matmul(matrix.unsqueeze()))
            }
            Call::MatrixLeft(at) => {
                let matrix = self.matrix[*at].val();
                each!(x, x => matrix.unsqueeze().matmul(x))
            }
            Call::Scores => Value::Three(x.three().matmul(other().three().swap_dims(1, 2))),
            Call::Gram => Value::Three(x.three().swap_dims(1, 2).matmul(other().three())),
            Call::Attention(at) => Value::Three(self.attention[*at].forward(x.three(), other().three())),
            Call::BatchNorm(at) => each!(x, x => self.batch[*at].forward(x)),
            Call::LayerNorm(at) => each!(x, x => self.layer[*at].forward(x)),
            Call::GroupNorm(at) => each!(x, x => self.group[*at].forward(x)),
            Call::InstanceNorm(at) => each!(x, x => self.instance[*at].forward(x)),
            Call::RmsNorm(at) => each!(x, x => self.rms[*at].forward(x)),
            Call::MaxPool { kernel, stride, padding } => max_pool(x, *kernel, *stride, *padding),
            Call::AvgPool { kernel, stride, padding } => avg_pool(x, *kernel, *stride, *padding),
            Call::Adaptive(side) => match x {
                Value::Three(x) => Value::Three(AdaptiveAvgPool1dConfig::new(*side).init().forward(x)),
                Value::Four(x) => Value::Four(AdaptiveAvgPool2dConfig::new([*side; 2]).init().forward(x)),
                x => Value::Five(AdaptiveAvgPool3dConfig::new([*side; 3]).init().forward(x.five())),
            },
            Call::Interpolate(side, linear) => {
                let mode = if *linear { InterpolateMode::Linear } else { InterpolateMode::Nearest };
                match x {
                    Value::Three(x) => {
                        let config = Interpolate1dConfig::new().with_output_size(Some(*side)).with_mode(mode);
                        Value::Three(config.init().forward(x))
                    }
                    x => {
                        let config = Interpolate2dConfig::new().with_output_size(Some([*side; 2])).with_mode(mode);
                        Value::Four(config.init().forward(x.four()))
                    }
                }
            }
            Call::Scale(at) => {
                let own = self.bare[*at].val();
                each!(x, x => x * along(own, layout.channels()))
            }
            Call::Shift(at) => {
                let own = self.bare[*at].val();
                each!(x, x => x + along(own, layout.channels()))
            }
            Call::Wide(at, times) => {
                let (x, own) = (x.four(), self.wide[*at].val());
                Value::Four(if *times { x * own } else { own - x })
            }
            Call::Constant(axes) => each!(x, x => x.clone() + constant(&x, axes)),
            Call::Binary(kind) => combine(*kind, x, other()),
            Call::Reduce(kind, axes) => axes.iter().fold(x, |x, &axis| match kind {
                Reduce::Mean => each!(x, x => x.mean_dim(axis)),
                Reduce::Sum => each!(x, x => x.sum_dim(axis)),
                Reduce::Max => each!(x, x => x.max_dim(axis)),
                Reduce::Min => each!(x, x => x.min_dim(axis)),
            }),
            Call::Cat(axis) => both!(x, other(), x, y => Tensor::cat(vec![x, y], *axis)),
            Call::Stack { after, sum } => reshaping::stack(x, other(), *after, *sum),
            Call::Chunk { axis, parts, which } => {
                each!(x, x => x.chunk(*parts, *axis).into_iter().nth(*which).expect("the chunk is there"))
            }
            Call::Slice { axis, from, to, of } => each!(x, x => {
                let length = x.dims()[*axis];
                x.slice_dim(*axis, from * length / of..to * length / of)
            }),
            Call::LikeOf { axis, end } => {
                let length = other().dims()[*axis];
                each!(x, x => {
                    let start = if *end { x.dims()[*axis] - length } else { 0 };
                    x.narrow(*axis, start, length)
                })
            }
            Call::Select(axis, indices) => each!(x, x => {
                let data = TensorData::new(indices.clone(), [indices.len()]);
                let indices = Tensor::<1, Int>::from_data(data, &x.device());
                x.select(*axis, indices)
            }),
            Call::Gather(axis) => each!(x, x => {
                let order = x.clone().argsort(*axis);
                x.gather(*axis, order)
            }),
            Call::Sort(axis) => each!(x, x => x.sort(*axis)),
            Call::Flip(axis) => each!(x, x => x.flip([*axis as isize])),
            Call::Pad { axis, before, after } => each!(x, x => pad(x, *axis, *before, *after)),
            Call::Step(axis) => each!(x, x => x.slice_dim(*axis, burn::tensor::s![0..;2])),
            Call::Shuffle(at) => self.shuffle[*at].forward(x, layout),
            Call::PixelShuffle(by) => reshaping::pixel_shuffle(x.four(), *by),
            Call::PixelUnshuffle(by) => reshaping::pixel_unshuffle(x.four(), *by),
            Call::Maxout(of) => reshaping::maxout(x, layout, *of),
            Call::ExpandLike => both!(x, other(), x, y => x.expand(y.dims())),
            Call::Repeat(axis, times) => each!(x, x => x.repeat_dim(*axis, *times)),
            Call::CumSum(axis) => each!(x, x => x.cumsum(*axis)),
            Call::Unfold(kernel, stride) => {
                let config = burn::nn::Unfold4dConfig::new([*kernel; 2]).with_stride([*stride; 2]);
                Value::Three(config.init().forward(x.four()))
            }
            Call::Unflatten(height, width) => reshaping::unflatten(x.two(), *height, *width),
            Call::Swap(a, b) => each!(x, x => x.swap_dims(*a, *b)),
            Call::Ones => each!(x, x => x.clone() + Tensor::ones(x.dims(), &x.device())),
            Call::Roll(axis) => each!(x, x => x.roll_dim(1, *axis)),
            Call::Assign(axis) => both!(x, other(), x, y => assign(x, y, *axis)),
            Call::To(to, how) => reshaping::convert(x, layout, *to, *how),
            Call::Embed(_) => unreachable!("done above"),
        }
    }
}

fn activate(kind: Activation, x: Value) -> Value {
    use Activation::*;
    match kind {
        Relu => each!(x, x => act::relu(x)),
        Gelu => each!(x, x => act::gelu(x)),
        Sigmoid => each!(x, x => act::sigmoid(x)),
        Tanh => each!(x, x => x.tanh()),
        Silu => each!(x, x => act::silu(x)),
        LeakyRelu => each!(x, x => act::leaky_relu(x, 0.1)),
        HardSigmoid => each!(x, x => act::hard_sigmoid(x, 0.2, 0.5)),
        LogSigmoid => each!(x, x => act::log_sigmoid(x)),
        Softplus => each!(x, x => act::softplus(x, 1.0)),
        Abs => each!(x, x => x.abs()),
        Square => each!(x, x => x.square()),
        Clamp => each!(x, x => x.clamp(-0.8, 1.2)),
        Sine => each!(x, x => x.sin()),
        Root => each!(x, x => (x.powi_scalar(2) + 1.0).sqrt()),
        Affine => each!(x, x => x * 0.8 + 0.3),
        Minus => each!(x, x => -x),
        MaskFill => each!(x, x => x.clone().mask_fill(x.lower_elem(-0.2), -0.2)),
        Compare => each!(x, x => x.clone().greater_elem(0.0).int().float() * x),
        Elu => each!(x, x => act::elu(x, 1.0)),
        Cast => each!(x, x => x.clone().cast(x.dtype())),
    }
}

fn combine(kind: Binary, x: Value, y: Value) -> Value {
    match kind {
        Binary::Add => both!(x, y, x, y => x + y),
        Binary::Sub => both!(x, y, x, y => x - y),
        Binary::Mul => both!(x, y, x, y => x * y),
        Binary::Max => both!(x, y, x, y => x.max_pair(y)),
        Binary::MaskWhere => both!(x, y, x, y => x.clone().mask_where(x.greater(y.clone()), y)),
    }
}

fn max_pool(x: Value, kernel: usize, stride: usize, padding: usize) -> Value {
    match x {
        Value::Three(x) => {
            let config = MaxPool1dConfig::new(kernel).with_stride(stride);
            Value::Three(config.with_padding(PaddingConfig1d::Explicit(padding, padding)).init().forward(x))
        }
        x => {
            let config = MaxPool2dConfig::new([kernel; 2]).with_strides([stride; 2]);
            let padding = PaddingConfig2d::Explicit(padding, padding, padding, padding);
            Value::Four(config.with_padding(padding).init().forward(x.four()))
        }
    }
}

fn avg_pool(x: Value, kernel: usize, stride: usize, padding: usize) -> Value {
    match x {
        Value::Three(x) => {
            let config = AvgPool1dConfig::new(kernel).with_stride(stride);
            Value::Three(config.with_padding(PaddingConfig1d::Explicit(padding, padding)).init().forward(x))
        }
        x => {
            let config = AvgPool2dConfig::new([kernel; 2]).with_strides([stride; 2]);
            let padding = PaddingConfig2d::Explicit(padding, padding, padding, padding);
            Value::Four(config.with_padding(padding).init().forward(x.four()))
        }
    }
}

/// A vector along one axis, all others of length 1.
fn along<const D: usize>(own: Tensor<1>, axis: usize) -> Tensor<D> {
    let mut shape = [1; D];
    shape[axis] = own.dims()[0];
    own.reshape(shape)
}

/// Numbers that are no parameter, over some axes.
fn constant<const D: usize>(like: &Tensor<D>, axes: &[usize]) -> Tensor<D> {
    let mut shape = [1; D];
    axes.iter().for_each(|&axis| shape[axis] = like.dims()[axis]);
    let values: Vec<f32> = (0..shape.iter().product::<usize>()).map(|k| (k as f32 * 1.7 + 0.3).sin()).collect();
    Tensor::from_data(TensorData::new(values, shape), &like.device())
}

fn pad<const D: usize>(x: Tensor<D>, axis: usize, before: usize, after: usize) -> Tensor<D> {
    let mut padding = [(0, 0); D];
    padding[axis] = (before, after);
    x.pad(padding, PadMode::Constant(0.4))
}

fn assign<const D: usize>(x: Tensor<D>, y: Tensor<D>, axis: usize) -> Tensor<D> {
    let dims = x.dims();
    let half = dims[axis] / 2;
    let ranges: [_; D] = std::array::from_fn(|k| if k == axis { dims[k] - half..dims[k] } else { 0..dims[k] });
    x.slice_assign(ranges, y.slice_dim(axis, 0..half))
}
