//! From drawn steps to a module: every step is run on real tensors as it is added, so that shapes are known and every
//! list of steps is a graph. What a call needs beyond its tensors is fixed here.

use burn::module::{Module, Param};
use burn::nn::conv::{
    Conv1dConfig, Conv2dConfig, Conv3dConfig, ConvTranspose1dConfig, ConvTranspose2dConfig, ConvTranspose3dConfig,
    DeformConv2dConfig,
};
use burn::nn::{
    BatchNormConfig, EmbeddingConfig, GroupNormConfig, InstanceNormConfig, LayerNormConfig, LinearConfig, PReluConfig,
    PaddingConfig1d, PaddingConfig2d, PaddingConfig3d, RmsNormConfig,
};
use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::call::{Activation, Binary, Call, Node, Reduce};
use super::fill::fill;
use super::heads::{Attention, Mix, Shuffle};
use super::layers::Layers;
use super::net::{GIVEN, Inputs, Net, Program};
use super::spec::{Kind, Spec, Step};
use super::value::{Layout, Value};

const BATCH: usize = 2;
const IMAGE: usize = 3;
const VECTOR: usize = 4;
const WORDS: usize = 5;
const ENTRIES: usize = 7;
/// Normalisations shall not blow rounding errors up.
const EPSILON: f64 = 0.05;
/// Layers bring wider values down.
const WIDEST: usize = 32;
const WIDEST_VECTOR: usize = 160;

/// What the graph takes, in a batch of any size.
pub fn inputs(spec: &Spec, samples: usize, seed: u64, device: &Device) -> Inputs {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut floats = |count: usize| (0..count).map(|_| rng.random_range(-1.0..1.0)).collect::<Vec<f32>>();
    let (h, w) = spec.sides;
    let image = TensorData::new(floats(samples * IMAGE * h * w), [samples, IMAGE, h, w]);
    let vector = TensorData::new(floats(samples * VECTOR), [samples, VECTOR]);
    let words: Vec<i64> = (0..samples * WORDS).map(|_| rng.random_range(0..ENTRIES as i64)).collect();
    (
        Tensor::from_data(image, device),
        Tensor::from_data(vector, device),
        Tensor::from_data(TensorData::new(words, [samples, WORDS]), device),
    )
}

/// The module that a drawn graph stands for.
pub fn build(spec: &Spec, device: &Device) -> Net {
    let (image, vector, words) = inputs(spec, BATCH, spec.seed ^ 1, device);
    let live = |value, layout| Live { value, layout, moving: false };
    let mut builder = Builder {
        layers: Layers::default(),
        nodes: Vec::new(),
        live: vec![live(Value::Four(image), Layout::Map), live(Value::Two(vector), Layout::Vector)],
        words,
        rng: ChaCha8Rng::seed_from_u64(spec.seed),
        device: device.clone(),
    };
    builder.convolution(0, 6, 1, 1);
    for step in &spec.steps {
        let at = builder.step(step);
        builder.tame(at, step.width);
    }
    let last = builder.live.len() - 1;
    let mut outputs = vec![builder.head(last, spec.steps.len())];
    for head in &spec.heads {
        let of = builder.back(head.of);
        outputs.push(builder.head(of, head.kind));
    }
    outputs.retain(|&at| at >= GIVEN);
    outputs.sort_unstable();
    outputs.dedup();
    Net { layers: builder.layers, program: Program { nodes: builder.nodes, outputs } }
}

struct Live {
    value: Value,
    layout: Layout,
    /// Positions may carry channels: nothing may be fixed about how many there are.
    moving: bool,
}

struct Builder {
    layers: Layers,
    nodes: Vec<Node>,
    live: Vec<Live>,
    words: Tensor<2, Int>,
    rng: ChaCha8Rng,
    device: Device,
}

impl Builder {
    fn emit(&mut self, call: Call, from: &[usize], layout: Layout) -> usize {
        let first = from.first().map_or(layout, |&at| self.live[at].layout);
        let node = Node { call, from: from.to_vec(), layout: first };
        let operands = from.iter().map(|&at| self.live[at].value.clone()).collect();
        let value = self.layers.run(&node, operands, &self.words);
        let moving = from.iter().any(|&at| self.live[at].moving);
        let largest = value.largest();
        assert!(largest.is_finite(), "{node:?} makes {largest}");
        self.nodes.push(node);
        self.live.push(Live { value, layout, moving });
        let at = self.live.len() - 1;
        if largest > 8.0 { self.emit(Call::Times((16.0 / largest).round().max(1.0) / 8.0), &[at], layout) } else { at }
    }

    /// A call that keeps the layout.
    fn keep(&mut self, call: Call, at: usize) -> usize {
        self.emit(call, &[at], self.live[at].layout)
    }

    /// A call after which positions stay.
    fn settle(&mut self, call: Call, from: &[usize]) -> usize {
        let at = self.emit(call, from, self.live[from[0]].layout);
        self.live[at].moving = false;
        at
    }

    fn new<M: Module>(&mut self, module: M) -> M {
        fill(module, &mut self.rng)
    }

    fn back(&self, by: usize) -> usize {
        self.live.len() - 1 - by % self.live.len()
    }

    fn layout(&self, at: usize) -> Layout {
        self.live[at].layout
    }

    fn dims(&self, at: usize) -> Vec<usize> {
        self.live[at].value.dims()
    }

    fn channels(&self, at: usize) -> usize {
        self.dims(at)[self.layout(at).channels()]
    }

    fn lengths(&self, at: usize) -> Vec<usize> {
        let dims = self.dims(at);
        self.layout(at).positions().iter().map(|&axis| dims[axis]).collect()
    }

    fn shortest(&self, at: usize) -> usize {
        self.lengths(at).into_iter().min().unwrap_or(1)
    }

    /// One of the position axes.
    fn position(&self, at: usize, variant: usize) -> Option<usize> {
        let axes = self.layout(at).positions();
        (!axes.is_empty()).then(|| axes[variant % axes.len()])
    }

    fn to(&mut self, at: usize, layout: Layout, how: usize) -> usize {
        if self.layout(at) == layout {
            return at;
        }
        let how = if self.live[at].moving { how | 1 } else { how };
        self.emit(Call::To(layout, how), &[at], layout)
    }

    /// To a layout with positions.
    fn spread(&mut self, at: usize) -> usize {
        if self.layout(at) == Layout::Vector { self.to(at, Layout::Tokens, 0) } else { at }
    }

    /// To a layout that the call takes.
    fn one_of(&mut self, at: usize, layouts: &[Layout], how: usize) -> usize {
        if layouts.contains(&self.layout(at)) { at } else { self.to(at, layouts[how / 4 % layouts.len()], how) }
    }

    /// A convolution, or a linear layer where there is nothing to convolve over.
    fn convolution(&mut self, at: usize, width: usize, variant: usize, groups: usize) -> usize {
        let (from, bias) = (self.channels(at), !(width + variant).is_multiple_of(3));
        let device = self.device.clone();
        let (kernel, padding, stride, dilation) = geometry(self.shortest(at), variant);
        match self.layout(at) {
            Layout::Vector | Layout::Tokens => self.linear(at, width, bias),
            Layout::Signal => {
                let config = Conv1dConfig::new(from, width, kernel).with_stride(stride).with_dilation(dilation);
                let padding = PaddingConfig1d::Explicit(padding, if variant == 6 { 0 } else { padding });
                let config = config.with_padding(padding).with_groups(groups).with_bias(bias);
                let layer = self.new(config.init(&device));
                self.layers.conv1.push(layer);
                self.settle(Call::Conv(self.layers.conv1.len() - 1), &[at])
            }
            Layout::Map => {
                let config = Conv2dConfig::new([from, width], [kernel; 2]).with_stride([stride; 2]);
                let last = if variant == 6 { 0 } else { padding };
                let config = config.with_padding(PaddingConfig2d::Explicit(padding, padding, last, last));
                let config = config.with_dilation([dilation; 2]).with_groups(groups).with_bias(bias);
                let layer = self.new(config.init(&device));
                self.layers.conv2.push(layer);
                self.settle(Call::Conv(self.layers.conv2.len() - 1), &[at])
            }
            Layout::Volume => {
                let config = Conv3dConfig::new([from, width], [kernel; 3]).with_stride([stride; 3]);
                let config = config.with_padding(PaddingConfig3d::Explicit(padding, padding, padding));
                let config = config.with_dilation([dilation; 3]).with_groups(groups).with_bias(bias);
                let layer = self.new(config.init(&device));
                self.layers.conv3.push(layer);
                self.settle(Call::Conv(self.layers.conv3.len() - 1), &[at])
            }
        }
    }

    fn transposed(&mut self, at: usize, width: usize, variant: usize, groups: usize) -> usize {
        let (from, bias) = (self.channels(at), !(width + variant).is_multiple_of(3));
        let device = self.device.clone();
        let short = self.shortest(at);
        let (kernel, stride, padding) = match variant % 4 {
            0 => (1, 1, 0),
            1 if short <= 4 => (2, 2, 0),
            2 if short <= 4 => (3, 2, 1),
            _ => (3, 1, 1),
        };
        match self.layout(at) {
            Layout::Signal => {
                let config =
                    ConvTranspose1dConfig::new([from, width], kernel).with_stride(stride).with_padding(padding);
                let layer = self.new(config.with_groups(groups).with_bias(bias).init(&device));
                self.layers.up1.push(layer);
                self.settle(Call::Transposed(self.layers.up1.len() - 1), &[at])
            }
            Layout::Map => {
                let config = ConvTranspose2dConfig::new([from, width], [kernel; 2]).with_stride([stride; 2]);
                let config = config.with_padding([padding; 2]).with_groups(groups).with_bias(bias);
                let layer = self.new(config.init(&device));
                self.layers.up2.push(layer);
                self.settle(Call::Transposed(self.layers.up2.len() - 1), &[at])
            }
            Layout::Volume => {
                let config = ConvTranspose3dConfig::new([from, width], [kernel; 3]).with_stride([stride; 3]);
                let config = config.with_padding([padding; 3]).with_groups(groups).with_bias(bias);
                let layer = self.new(config.init(&device));
                self.layers.up3.push(layer);
                self.settle(Call::Transposed(self.layers.up3.len() - 1), &[at])
            }
            _ => self.linear(at, width, bias),
        }
    }

    /// A linear layer over the last axis, whatever that is.
    fn linear(&mut self, at: usize, width: usize, bias: bool) -> usize {
        let from = *self.dims(at).last().expect("no value has rank 0");
        let device = self.device.clone();
        let layer = self.new(LinearConfig::new(from, width).with_bias(bias).init(&device));
        self.layers.linear.push(layer);
        self.keep(Call::Linear(self.layers.linear.len() - 1), at)
    }

    /// A layer that changes the number of channels and nothing else.
    fn project(&mut self, at: usize, width: usize) -> usize {
        self.convolution(at, width, 0, 1)
    }

    /// A value that can stand next to `like`: of the same positions.
    fn beside(&mut self, by: usize, like: usize, width: usize) -> usize {
        let other = self.back(by);
        let fits = self.layout(other) == self.layout(like) && self.lengths(other) == self.lengths(like);
        if fits && other >= GIVEN { other } else { self.project(like, width) }
    }

    /// A value of the same shape as `like`.
    fn same(&mut self, by: usize, like: usize) -> usize {
        let width = self.channels(like);
        let other = self.beside(by, like, width);
        if self.channels(other) == width { other } else { self.project(other, width) }
    }

    /// Brings down what has become too large.
    fn tame(&mut self, at: usize, width: usize) {
        let mut at = at;
        let positions: usize = self.lengths(at).iter().product();
        if positions > 64 {
            at = match self.layout(at) {
                Layout::Tokens => self.to(at, Layout::Signal, 0),
                _ => at,
            };
            let side = match self.layout(at) {
                Layout::Signal => 9,
                Layout::Map => 4,
                _ => 2,
            };
            at = self.settle(Call::Adaptive(side), &[at]);
        }
        let widest = if self.layout(at) == Layout::Vector { WIDEST_VECTOR } else { WIDEST };
        if self.channels(at) > widest {
            self.project(at, width);
        }
    }

    /// An output made of a value.
    fn head(&mut self, at: usize, kind: usize) -> usize {
        match kind % 8 {
            6 => at,
            5 if self.layout(at) != Layout::Vector => self.convolution(at, 2, 1, 1),
            kind => {
                let vector = self.to(at, Layout::Vector, if kind == 4 { 1 } else { 0 });
                self.linear(vector, 2, true)
            }
        }
    }

    fn bare(&mut self, channels: usize) -> usize {
        let bare = self.new(Param::from_tensor(Tensor::<1>::ones([channels], &self.device)));
        self.layers.bare.push(bare);
        self.layers.bare.len() - 1
    }

    fn matrix(&mut self, rows: usize, columns: usize) -> usize {
        let matrix = self.new(Param::from_tensor(Tensor::<2>::ones([rows, columns], &self.device)));
        self.layers.matrix.push(matrix);
        self.layers.matrix.len() - 1
    }

    fn step(&mut self, step: &Step) -> usize {
        use Layout::{Map, Signal, Tokens, Vector, Volume};
        let Step { kind, a, b, width, variant } = *step;
        let at = self.back(a);
        let device = self.device.clone();
        let layout = self.layout(at);
        let channels = self.channels(at);
        let axis = layout.channels();
        match kind {
            Kind::Convolution => {
                let variant = variant % 7;
                self.convolution(at, width, variant, 1)
            }
            Kind::Linear => {
                let at = self.one_of(at, &[Tokens, Vector], variant);
                self.linear(at, width, !variant.is_multiple_of(2))
            }
            Kind::Activation => {
                let kind = (width + 12 * b) % 20;
                let made = self.keep(Call::Activation(Activation::ALL[kind]), at);
                if variant == 0 {
                    made
                } else {
                    self.keep(Call::Activation(Activation::ALL[(kind + variant) % 20]), made)
                }
            }
            Kind::BatchNorm => {
                let at = if layout == Tokens { self.to(at, Signal, 0) } else { at };
                let norm = self.new(BatchNormConfig::new(channels).with_epsilon(EPSILON).init(&device));
                self.layers.batch.push(norm);
                self.keep(Call::BatchNorm(self.layers.batch.len() - 1), at)
            }
            Kind::Binary => {
                let all = [Binary::Add, Binary::Mul, Binary::Sub, Binary::Max, Binary::MaskWhere];
                let other = self.same(b, at);
                self.emit(Call::Binary(all[variant % 5]), &[at, other], layout)
            }
            Kind::Concat => {
                let other = self.beside(b, at, width);
                self.emit(Call::Cat(axis), &[at, other], layout)
            }
            Kind::ConcatPositions => {
                let at = self.spread(at);
                let other = self.same(b, at);
                let along = self.position(at, variant).expect("it has positions");
                self.emit(Call::Cat(along), &[at, other], self.layout(at))
            }
            Kind::CatSplit => {
                let other = self.beside(b, at, width);
                let all = self.emit(Call::Cat(axis), &[at, other], layout);
                let like = if variant.is_multiple_of(3) { at } else { other };
                self.emit(Call::LikeOf { axis, end: !variant.is_multiple_of(2) }, &[all, like], layout)
            }
            Kind::Chunk => {
                let axis = if variant == 11 { self.position(at, b).unwrap_or(axis) } else { axis };
                let length = self.dims(at)[axis];
                // Burn's chunks must not run out before the last.
                let fits = |parts: &usize| (parts - 1) * length.div_ceil(*parts) < length;
                let parts = (1..=2 + variant % 3).rev().find(fits).unwrap_or(1);
                self.keep(Call::Chunk { axis, parts, which: b % parts }, at)
            }
            Kind::Slice => {
                let (from, to, of) = [(0, 1, 2), (1, 2, 2), (1, 3, 4), (1, 2, 3), (0, 2, 3), (1, 4, 4)][variant % 6];
                let axis = if variant == 11 { self.position(at, b).unwrap_or(axis) } else { axis };
                let length = self.dims(at)[axis];
                if to * length / of == from * length / of {
                    return self.project(at, width);
                }
                self.keep(Call::Slice { axis, from, to, of }, at)
            }
            Kind::Grouped => {
                let at = self.one_of(at, &[Map, Signal, Volume], variant);
                let at = if self.channels(at) == 1 { self.project(at, 6) } else { at };
                let channels = self.channels(at);
                let divisors: Vec<usize> = (2..=channels).filter(|d| channels.is_multiple_of(*d)).collect();
                let groups = divisors[b % divisors.len()];
                let out = groups * (1 + width % (12 / groups.min(12)).max(1));
                if variant < 8 {
                    self.convolution(at, out, variant % 7, groups)
                } else {
                    self.transposed(at, out, variant, groups)
                }
            }
            Kind::Depthwise => {
                let at = self.one_of(at, &[Map, Signal, Volume], variant);
                let channels = self.channels(at);
                if variant < 9 {
                    self.convolution(at, channels * (1 + b % 2), variant % 7, channels)
                } else {
                    self.transposed(at, channels * (1 + b % 2), variant, channels)
                }
            }
            Kind::Transposed => {
                let at = self.one_of(at, &[Map, Signal, Volume], variant);
                self.transposed(at, width, variant, 1)
            }
            Kind::Deformable => {
                let at = self.to(at, Map, variant);
                let kernel = 1 + variant % 2;
                let kernel = kernel.min(self.shortest(at));
                let (padding, from) = (PaddingConfig2d::Explicit(0, 0, 0, 0), self.channels(at));
                let offsets = self.convolution(at, 2 * kernel * kernel, if kernel == 1 { 0 } else { 3 }, 1);
                let config = DeformConv2dConfig::new([from, width], [kernel; 2]).with_padding(padding);
                let layer = self.new(config.init(&device));
                self.layers.deform.push(layer);
                self.settle(Call::Deform(self.layers.deform.len() - 1), &[at, offsets])
            }
            Kind::Matrix => {
                let at = self.one_of(at, &[Tokens, Vector], variant);
                let matrix = self.matrix(self.channels(at), width);
                self.keep(Call::Matrix(matrix), at)
            }
            Kind::MatrixLeft => {
                let at = self.to(at, Signal, variant);
                let matrix = self.matrix(width, self.channels(at));
                self.keep(Call::MatrixLeft(matrix), at)
            }
            Kind::TokenMix => {
                let back = layout == Tokens;
                let at = if back { self.to(at, Signal, 0) } else { at };
                let length = *self.dims(at).last().expect("no value has rank 0");
                let hidden = self.linear(at, width, true);
                let hidden = self.keep(Call::Activation(Activation::Gelu), hidden);
                let residual = variant.is_multiple_of(3);
                let mixed = self.linear(hidden, if residual { length } else { 1 + b % 6 }, true);
                let mixed = if residual {
                    let at = self.emit(Call::Binary(Binary::Add), &[mixed, at], self.layout(at));
                    self.live[at].moving |= self.live[mixed].moving;
                    at
                } else {
                    mixed
                };
                for at in [hidden, mixed] {
                    self.live[at].moving |= self.layout(at) != Vector;
                }
                if back { self.to(mixed, Tokens, 0) } else { mixed }
            }
            Kind::Scores => {
                let (at, other) = (self.to(at, Tokens, variant), self.back(b));
                let other = self.to(other, Tokens, variant);
                // Queries from a layer of their own: what leaves is zero there.
                let query = self.project(at, self.channels(other));
                self.emit(Call::Scores, &[query, other], Tokens)
            }
            Kind::Gram => {
                let at = self.to(at, Tokens, variant);
                let other = self.beside(b, at, width);
                if self.live[at].moving || self.live[other].moving {
                    return self.settle(Call::Softmax(1), &[at]);
                }
                let gram = self.emit(Call::Gram, &[at, other], Tokens);
                self.live[gram].moving = true;
                gram
            }
            Kind::Attention => {
                let at = self.to(at, Tokens, variant);
                let other = if b < 4 { at } else { self.back(b) };
                let other = self.to(other, Tokens, variant);
                let mix = match variant % 5 {
                    3 if !self.live[other].moving => Mix::Linear,
                    1 => Mix::Turned,
                    2 => Mix::Fused,
                    _ => Mix::Softmax,
                };
                let sizes = [1 + b % 4, 1 + width % 4, 1 + variant % 4];
                let (own, read) = (self.channels(at), self.channels(other));
                let layer = Attention::new([own, read], sizes, width, variant < 8, mix, &device);
                let layer = self.new(layer);
                self.layers.attention.push(layer);
                let moving = self.live[at].moving;
                let made = self.emit(Call::Attention(self.layers.attention.len() - 1), &[at, other], Tokens);
                self.live[made].moving = moving;
                made
            }
            Kind::Gate => {
                let squeezed = self.reduced(at, Reduce::Mean);
                let hidden = self.project(squeezed, 1 + width / 2);
                let hidden = self.keep(Call::Activation(Activation::Relu), hidden);
                let gate = self.project(hidden, channels);
                let gate = self.keep(Call::Activation(Activation::Sigmoid), gate);
                self.emit(Call::Binary(Binary::Mul), &[at, gate], layout)
            }
            Kind::GroupNorm => {
                let at = self.one_of(at, &[Map, Signal, Volume], variant);
                if self.shortest(at) < 2 {
                    // Burn refuses tensors of two numbers.
                    return self.project(at, width);
                }
                let channels = self.channels(at);
                let divisors: Vec<usize> = (1..=channels).rev().filter(|d| channels.is_multiple_of(*d)).collect();
                let groups = divisors[variant % divisors.len()];
                let norm = self.new(GroupNormConfig::new(groups, channels).with_epsilon(EPSILON).init(&device));
                self.layers.group.push(norm);
                self.settle(Call::GroupNorm(self.layers.group.len() - 1), &[at])
            }
            Kind::InstanceNorm => {
                let at = self.one_of(at, &[Map, Signal, Volume], variant);
                if self.shortest(at) < 2 {
                    return self.project(at, width);
                }
                let channels = self.channels(at);
                let norm = self.new(InstanceNormConfig::new(channels).with_epsilon(EPSILON).init(&device));
                self.layers.instance.push(norm);
                self.settle(Call::InstanceNorm(self.layers.instance.len() - 1), &[at])
            }
            Kind::LayerNorm => {
                let last = *self.dims(at).last().expect("no value has rank 0");
                let norm = self.new(LayerNormConfig::new(last).with_epsilon(EPSILON).init(&device));
                self.layers.layer.push(norm);
                self.keep(Call::LayerNorm(self.layers.layer.len() - 1), at)
            }
            Kind::RmsNorm => {
                let last = *self.dims(at).last().expect("no value has rank 0");
                let norm = self.new(RmsNormConfig::new(last).with_epsilon(EPSILON).init(&device));
                self.layers.rms.push(norm);
                self.keep(Call::RmsNorm(self.layers.rms.len() - 1), at)
            }
            Kind::MaxPool | Kind::AvgPool => {
                let at = self.one_of(at, &[Map, Signal], variant);
                let (kernel, stride, padding) = match variant % 4 {
                    1 => (3, 1, 1),
                    2 => (3, 2, 1),
                    _ if self.shortest(at) < 2 => (1, 1, 0),
                    3 => (2, 1, 0),
                    _ => (2, 2, 0),
                };
                let pool = if kind == Kind::MaxPool {
                    Call::MaxPool { kernel, stride, padding }
                } else {
                    Call::AvgPool { kernel, stride, padding }
                };
                self.settle(pool, &[at])
            }
            Kind::Adaptive => {
                let at = self.one_of(at, &[Map, Signal, Volume], variant);
                self.settle(Call::Adaptive(1 + b % 3), &[at])
            }
            Kind::Interpolate => {
                let at = self.one_of(at, &[Map, Signal], variant);
                self.settle(Call::Interpolate(2 + b % 4, variant.is_multiple_of(2)), &[at])
            }
            Kind::Prelu => {
                let slopes = if layout == Tokens || variant.is_multiple_of(4) { 1 } else { channels };
                let layer = self.new(PReluConfig::new().with_num_parameters(slopes).init(&device));
                self.layers.prelu.push(layer);
                self.keep(Call::Prelu(self.layers.prelu.len() - 1), at)
            }
            Kind::Softmax => {
                let at = self.spread(at);
                let along = self.position(at, variant).expect("it has positions");
                self.keep(Call::Softmax(along), at)
            }
            Kind::SoftmaxChannels => self.keep(Call::Softmax(axis), at),
            Kind::Scale => {
                let bare = self.bare(channels);
                self.keep(Call::Scale(bare), at)
            }
            Kind::Shift => {
                let bare = self.bare(channels);
                self.keep(Call::Shift(bare), at)
            }
            Kind::Wide => {
                let at = self.to(at, Map, variant);
                let wide = Tensor::<4>::ones([1, self.channels(at), 1, 1], &device);
                let wide = self.new(Param::from_tensor(wide));
                self.layers.wide.push(wide);
                self.keep(Call::Wide(self.layers.wide.len() - 1, variant.is_multiple_of(2)), at)
            }
            Kind::Constant => {
                let axes = if b == 0 { vec![axis] } else { layout.positions() };
                self.keep(Call::Constant(axes), at)
            }
            Kind::Stack => {
                let other = self.same(b, at);
                // Next to the channels on either side, or apart from them.
                let after = [axis, axis + 1, layout.rank() - 1][variant % 3];
                let sum = b % 3 == 0 || after == layout.rank();
                self.emit(Call::Stack { after, sum }, &[at, other], layout)
            }
            Kind::Select | Kind::SelectChannels => {
                let along = if kind == Kind::Select { self.position(at, variant).unwrap_or(axis) } else { axis };
                let length = self.dims(at)[along] as i64;
                let indices = (0..1 + b as i64 % 3).map(|k| (k * 3 + variant as i64) % length).collect();
                self.keep(Call::Select(along, indices), at)
            }
            Kind::Gather => {
                let at = self.spread(at);
                let along = self.position(at, variant).expect("it has positions");
                self.keep(Call::Gather(along), at)
            }
            Kind::Sort => {
                let at = self.spread(at);
                let along = self.position(at, variant).expect("it has positions");
                self.keep(Call::Sort(along), at)
            }
            Kind::Flip => self.keep(Call::Flip(self.position(at, variant).unwrap_or(axis)), at),
            Kind::FlipChannels => self.keep(Call::Flip(axis), at),
            Kind::Pad | Kind::PadChannels => {
                let along = if kind == Kind::Pad { self.position(at, variant).unwrap_or(axis) } else { axis };
                self.keep(Call::Pad { axis: along, before: b % 2, after: 1 + variant % 2 }, at)
            }
            Kind::Reduce => self.reduced(at, [Reduce::Mean, Reduce::Max, Reduce::Sum, Reduce::Min][variant % 4]),
            Kind::ReduceChannels => {
                let how = [Reduce::Mean, Reduce::Max, Reduce::Sum, Reduce::Min][variant % 4];
                let squeezed = self.keep(Call::Reduce(how, vec![axis]), at);
                self.emit(Call::Binary(Binary::Mul), &[at, squeezed], layout)
            }
            Kind::Shuffle => {
                let divisors: Vec<usize> = (1..=channels).filter(|d| channels.is_multiple_of(*d)).collect();
                let groups = divisors[(1 + variant) % divisors.len()];
                let layer = self.new(Shuffle::new(channels, groups, &device));
                self.layers.shuffle.push(layer);
                self.keep(Call::Shuffle(self.layers.shuffle.len() - 1), at)
            }
            Kind::PixelShuffle => {
                let at = self.to(at, Map, variant);
                let wide = self.channels(at).is_multiple_of(4);
                let at = if wide { at } else { self.project(at, 4 * (1 + width / 5)) };
                let spread = self.keep(Call::PixelShuffle(2), at);
                // The factor is a number in the code: a window keeps the positions together.
                self.settle(Call::AvgPool { kernel: 2, stride: 1, padding: 0 }, &[spread])
            }
            Kind::PixelUnshuffle => {
                let at = self.to(at, Map, variant);
                let even = self.lengths(at).iter().all(|length| length.is_multiple_of(2));
                if !even || self.live[at].moving {
                    return self.settle(Call::Adaptive(2), &[at]);
                }
                self.keep(Call::PixelUnshuffle(2), at)
            }
            Kind::Maxout => {
                let divisors: Vec<usize> = (1..=channels.min(4)).filter(|d| channels.is_multiple_of(*d)).collect();
                self.keep(Call::Maxout(divisors[divisors.len() - 1 - variant % divisors.len()]), at)
            }
            Kind::Expand => {
                let squeezed = self.reduced(at, Reduce::Max);
                let spread = self.emit(Call::ExpandLike, &[squeezed, at], layout);
                let how = if variant.is_multiple_of(2) { Binary::Sub } else { Binary::Mul };
                self.emit(Call::Binary(how), &[spread, at], layout)
            }
            Kind::Repeat => self.keep(Call::Repeat(self.position(at, variant).unwrap_or(axis), 2), at),
            Kind::RepeatChannels => self.keep(Call::Repeat(axis, 2 + variant % 2), at),
            Kind::CumSum => {
                let at = self.spread(at);
                let along = self.position(at, variant).expect("it has positions");
                self.keep(Call::CumSum(along), at)
            }
            Kind::Unfold => {
                let at = self.to(at, Map, variant);
                let kernel = self.shortest(at).min(2);
                let made = self.emit(Call::Unfold(kernel, 1 + variant % 2), &[at], Signal);
                self.live[made].moving = false;
                made
            }
            Kind::Unflatten => {
                let at = self.to(at, Vector, variant);
                let (height, width_) = (1 + variant % 3, 1 + b % 3);
                let features = self.linear(at, width * height * width_, true);
                let map = self.emit(Call::Unflatten(height, width_), &[features], Map);
                self.convolution(map, width, b % 2, 1)
            }
            Kind::Transpose => match layout {
                Vector => self.project(at, width),
                Map => self.keep(Call::Swap(2, 3), at),
                Volume => self.keep(Call::Swap(2 + variant % 2, 4), at),
                Signal | Tokens => {
                    // Channels become positions.
                    let swapped = self.keep(Call::Swap(1, 2), at);
                    self.live[swapped].moving = true;
                    swapped
                }
            },
            Kind::Ones => self.keep(Call::Ones, at),
            Kind::Roll => {
                let at = self.spread(at);
                let along = self.position(at, variant).expect("it has positions");
                self.keep(Call::Roll(along), at)
            }
            Kind::Assign => {
                let along = if variant < 6 { axis } else { self.position(at, variant).unwrap_or(axis) };
                if self.dims(at)[along] < 2 {
                    return self.project(at, width);
                }
                let other = self.same(b, at);
                self.emit(Call::Assign(along), &[at, other], layout)
            }
            Kind::Step => {
                let along = if variant < 4 { axis } else { self.position(at, variant).unwrap_or(axis) };
                self.keep(Call::Step(along), at)
            }
            Kind::Again => self.again(at, b),
            Kind::ToTokens => self.to(at, Tokens, variant),
            Kind::ToSignal => self.to(at, Signal, variant),
            Kind::ToMap => self.to(at, Map, variant),
            Kind::ToVector => self.to(at, Vector, variant),
            Kind::ToVolume => self.to(at, Volume, variant),
            Kind::Embed => {
                let layer = self.new(EmbeddingConfig::new(ENTRIES, width).init(&device));
                self.layers.embedding.push(layer);
                self.emit(Call::Embed(self.layers.embedding.len() - 1), &[], Tokens)
            }
        }
    }

    /// Over all positions; lengths of 1 stay.
    fn reduced(&mut self, at: usize, how: Reduce) -> usize {
        match self.layout(at).positions() {
            axes if axes.is_empty() => at,
            axes => self.settle(Call::Reduce(how, axes), &[at]),
        }
    }

    /// A layer that ran before runs once more; a new one runs twice where none fits.
    fn again(&mut self, at: usize, which: usize) -> usize {
        let (layout, channels) = (self.layout(at), self.channels(at));
        let fitting: Vec<usize> = (0..self.nodes.len())
            .filter(|&k| {
                let node = &self.nodes[k];
                let shared = matches!(
                    node.call,
                    Call::Conv(_)
                        | Call::Linear(_)
                        | Call::BatchNorm(_)
                        | Call::Scale(_)
                        | Call::Matrix(_)
                        | Call::Prelu(_)
                );
                let over_channels =
                    !matches!(node.call, Call::Linear(_)) || matches!(layout, Layout::Tokens | Layout::Vector);
                let first = node.from.first().copied().unwrap_or_default();
                shared && over_channels && node.layout == layout && self.channels(first) == channels
            })
            .filter(|&k| self.shortest(self.nodes[k].from[0]) <= self.shortest(at))
            .collect();
        if fitting.is_empty() {
            let first = self.project(at, channels);
            let node = self.nodes[self.nodes.len() - 1].clone();
            return if matches!(node.call, Call::Times(_)) { first } else { self.rerun(node.call, first) };
        }
        let call = self.nodes[fitting[which % fitting.len()]].call.clone();
        self.rerun(call, at)
    }

    fn rerun(&mut self, call: Call, at: usize) -> usize {
        if matches!(call, Call::Conv(_)) { self.settle(call, &[at]) } else { self.keep(call, at) }
    }
}

/// Kernel, padding, stride and dilation that a side of this length allows.
fn geometry(side: usize, variant: usize) -> (usize, usize, usize, usize) {
    match variant {
        1 => (3, 1, 1, 1),
        2 => (3, 1, 2, 1),
        3 if side >= 2 => (2, 0, 1, 1),
        4 => (3, 2, 1, 2),
        5 => (1, 0, 2, 1),
        6 => (2, 1, 1, 1),
        _ => (1, 0, 1, 1),
    }
}
