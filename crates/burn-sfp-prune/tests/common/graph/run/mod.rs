//! How each call runs.

mod elementwise;
mod indexing;
mod windows;

use burn::tensor::activation as act;
use burn::tensor::{Int, Tensor};

use super::call::{Call, Node};
use super::layers::Layers;
use super::reshaping;
use super::value::{Value, both, each};

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
            Call::Activation(kind) => elementwise::activate(*kind, x),
            Call::Times(factor) => each!(x, x => x * *factor),
            Call::Prelu(at) => each!(x, x => self.prelu[*at].forward(x)),
            Call::Softmax(axis) => each!(x, x => act::softmax(x, *axis)),
            Call::Conv(at) => self.convolved(*at, x),
            Call::Transposed(at) => self.convolved_transposed(*at, x),
            Call::Deform(at) => Value::Four(self.deform[*at].forward(x.four(), other().four(), None)),
            Call::Linear(at) => each!(x, x => self.linear[*at].forward(x)),
            Call::Matrix(at) => each!(x, x => x.matmul(self.matrix[*at].val().unsqueeze())),
            Call::MatrixLeft(at) => each!(x, x => self.matrix[*at].val().unsqueeze().matmul(x)),
            Call::Scores => Value::Three(x.three().matmul(other().three().swap_dims(1, 2))),
            Call::Gram => Value::Three(x.three().swap_dims(1, 2).matmul(other().three())),
            Call::Attention(at) => Value::Three(self.attention[*at].forward(x.three(), other().three())),
            Call::Joint(at) => Value::Three(self.joint[*at].forward(x.three())),
            Call::BatchNorm(at) => each!(x, x => self.batch[*at].forward(x)),
            Call::LayerNorm(at) => each!(x, x => self.layer[*at].forward(x)),
            Call::GroupNorm(at) => each!(x, x => self.group[*at].forward(x)),
            Call::InstanceNorm(at) => each!(x, x => self.instance[*at].forward(x)),
            Call::RmsNorm(at) => each!(x, x => self.rms[*at].forward(x)),
            Call::MaxPool { kernel, stride, padding } => windows::max_pool(x, *kernel, *stride, *padding),
            Call::AvgPool { kernel, stride, padding } => windows::avg_pool(x, *kernel, *stride, *padding),
            Call::Adaptive(side) => windows::adaptive(x, *side),
            Call::Interpolate(side, linear) => windows::interpolate(x, *side, *linear),
            Call::Unfold(kernel, stride) => windows::unfold(x, *kernel, *stride),
            Call::Scale(at) => elementwise::scale(x, self.bare[*at].val(), layout),
            Call::Shift(at) => elementwise::shift(x, self.bare[*at].val(), layout),
            Call::Wide(at, times) => elementwise::wide(x, self.wide[*at].val(), *times),
            Call::Constant(axes) => each!(x, x => x.clone() + elementwise::constant(&x, axes)),
            Call::Ones => each!(x, x => x.clone() + Tensor::ones(x.dims(), &x.device())),
            Call::Binary(kind) => elementwise::combine(*kind, x, other()),
            Call::Reduce(kind, axes) => axes.iter().fold(x, |x, &axis| windows::reduce(x, *kind, axis)),
            Call::Cat(axis) => both!(x, other(), x, y => Tensor::cat(vec![x, y], *axis)),
            Call::Stack { after, sum } => reshaping::stack(x, other(), *after, *sum),
            Call::Chunk { axis, parts, which } => indexing::chunk(x, *axis, *parts, *which),
            Call::Slice { axis, from, to, of } => indexing::slice(x, *axis, [*from, *to], *of),
            Call::LikeOf { axis, end } => indexing::like_of(x, other(), *axis, *end),
            Call::Select(axis, indices) => indexing::select(x, *axis, indices),
            Call::Gather(axis) => indexing::gather(x, *axis),
            Call::Sort(axis) => each!(x, x => x.sort(*axis)),
            Call::Flip(axis) => each!(x, x => x.flip([*axis as isize])),
            Call::Pad { axis, before, after } => indexing::pad(x, *axis, *before, *after),
            Call::Step(axis) => each!(x, x => x.slice_dim(*axis, burn::tensor::s![0..;2])),
            Call::Shuffle(at) => self.shuffle[*at].forward(x, layout),
            Call::PixelShuffle(by) => reshaping::pixel_shuffle(x.four(), *by),
            Call::PixelUnshuffle(by) => reshaping::pixel_unshuffle(x.four(), *by),
            Call::Maxout(of) => reshaping::maxout(x, layout, *of),
            Call::ExpandLike => both!(x, other(), x, y => x.expand(y.dims())),
            Call::Repeat(axis, times) => each!(x, x => x.repeat_dim(*axis, *times)),
            Call::CumSum(axis) => each!(x, x => x.cumsum(*axis)),
            Call::Unflatten(height, width) => reshaping::unflatten(x.two(), *height, *width),
            Call::Swap(a, b) => each!(x, x => x.swap_dims(*a, *b)),
            Call::Roll(axis) => each!(x, x => x.roll_dim(1, *axis)),
            Call::Assign(axis) => indexing::assign(x, other(), *axis),
            Call::To(to, how) => reshaping::convert(x, layout, *to, *how),
            Call::Unit(axis) => each!(x, x => x.clone() / (x.square().sum_dim(*axis) + 0.05).sqrt()),
            Call::Thin(at) => self.thin[*at].forward(x),
            Call::Embed(_) => unreachable!("done above"),
        }
    }

    fn convolved(&self, at: usize, x: Value) -> Value {
        match x {
            Value::Three(x) => Value::Three(self.conv1[at].forward(x)),
            Value::Four(x) => Value::Four(self.conv2[at].forward(x)),
            x => Value::Five(self.conv3[at].forward(x.five())),
        }
    }

    fn convolved_transposed(&self, at: usize, x: Value) -> Value {
        match x {
            Value::Three(x) => Value::Three(self.up1[at].forward(x)),
            Value::Four(x) => Value::Four(self.up2[at].forward(x)),
            x => Value::Five(self.up3[at].forward(x.five())),
        }
    }
}
