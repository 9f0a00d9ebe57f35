//! From drawn steps to a module: every step is run on real tensors as it is added, so that shapes are known and every
//! list of steps is a graph. What a call needs beyond its tensors is fixed here: [`values`] adds calls and brings values
//! together, the other files hold the steps by family.

mod attention;
mod channels;
mod convolution;
mod elementwise;
mod indexing;
mod linear;
mod normalization;
mod pooling;
mod values;

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::call::{Call, Node};
use super::layers::Layers;
use super::net::{GIVEN, Inputs, Net, Program};
use super::spec::{Kind, Spec, Step};
use super::value::{Layout, Value};

const BATCH: usize = 2;
const IMAGE: usize = 3;
const VECTOR: usize = 4;
const WORDS: usize = 5;
const ENTRIES: usize = 7;

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
    fn step(&mut self, step: &Step) -> usize {
        let Step { a, width, variant, .. } = *step;
        let at = self.back(a);
        let axis = self.layout(at).channels();
        match step.kind {
            Kind::Convolution => self.convolution(at, width, variant % 7, 1),
            Kind::Grouped => self.grouped(at, step),
            Kind::Depthwise => self.depthwise(at, step),
            Kind::Transposed => self.transposed_step(at, step),
            Kind::Deformable => self.deformable(at, step),
            Kind::Linear => self.linear_step(at, step),
            Kind::Matrix => self.matrix_right(at, step),
            Kind::MatrixLeft => self.matrix_left(at, step),
            Kind::TokenMix => self.token_mix(at, step),
            Kind::Unflatten => self.unflatten(at, step),
            Kind::Embed => self.embed(step),
            Kind::Again => self.again(at, step.b),
            Kind::Scores => self.scores(at, step),
            Kind::Gram => self.gram(at, step),
            Kind::Attention => self.attention(at, step),
            Kind::Joint => self.joint(at, step),
            Kind::BatchNorm => self.batch_norm(at),
            Kind::GroupNorm => self.group_norm(at, step),
            Kind::InstanceNorm => self.instance_norm(at, step),
            Kind::LayerNorm => self.layer_norm(at),
            Kind::RmsNorm => self.rms_norm(at),
            Kind::Activation => self.activation(at, step),
            Kind::Binary => self.binary(at, step),
            Kind::Gate => self.gate(at, step),
            Kind::Prelu => self.prelu(at, step),
            Kind::Softmax => self.over_positions(at, variant, Call::Softmax),
            Kind::SoftmaxChannels => self.keep(Call::Softmax(axis), at),
            Kind::Scale => self.scale(at),
            Kind::Shift => self.shift(at),
            Kind::Wide => self.wide(at, step),
            Kind::Constant => self.constant(at, step),
            Kind::Ones => self.keep(Call::Ones, at),
            Kind::Expand => self.expand(at, step),
            Kind::MaxPool | Kind::AvgPool => self.pool(at, step),
            Kind::Adaptive => self.adaptive(at, step),
            Kind::Interpolate => self.interpolate(at, step),
            Kind::Reduce => self.reduce(at, step),
            Kind::ReduceChannels => self.reduce_channels(at, step),
            Kind::Unfold => self.unfold(at, step),
            Kind::Concat => self.concat(at, step),
            Kind::ConcatPositions => self.concat_positions(at, step),
            Kind::CatSplit => self.cat_split(at, step),
            Kind::Stack => self.stack(at, step),
            Kind::Chunk => self.chunk(at, step),
            Kind::Slice => self.slice(at, step),
            Kind::Assign => self.assign(at, step),
            Kind::Step => self.every_second(at, step),
            Kind::Select | Kind::SelectChannels => self.select(at, step),
            Kind::Gather => self.over_positions(at, variant, Call::Gather),
            Kind::Sort => self.over_positions(at, variant, Call::Sort),
            Kind::CumSum => self.over_positions(at, variant, Call::CumSum),
            Kind::Roll => self.over_positions(at, variant, Call::Roll),
            Kind::Flip => self.keep(Call::Flip(self.position(at, variant).unwrap_or(axis)), at),
            Kind::FlipChannels => self.keep(Call::Flip(axis), at),
            Kind::Pad | Kind::PadChannels => self.pad(at, step),
            Kind::Repeat => self.keep(Call::Repeat(self.position(at, variant).unwrap_or(axis), 2), at),
            Kind::RepeatChannels => self.keep(Call::Repeat(axis, 2 + variant % 2), at),
            Kind::Shuffle => self.shuffle(at, step),
            Kind::PixelShuffle => self.pixel_shuffle(at, step),
            Kind::PixelUnshuffle => self.pixel_unshuffle(at, step),
            Kind::Maxout => self.maxout(at, step),
            Kind::Transpose => self.transpose(at, step),
            Kind::Unit => self.keep(Call::Unit(axis), at),
            Kind::Thin => self.thin(at, step),
            Kind::ToTokens => self.to(at, Layout::Tokens, variant),
            Kind::ToSignal => self.to(at, Layout::Signal, variant),
            Kind::ToMap => self.to(at, Layout::Map, variant),
            Kind::ToVector => self.to(at, Layout::Vector, variant),
            Kind::ToVolume => self.to(at, Layout::Volume, variant),
        }
    }
}

/// The divisors of `of` from `from` on, ascending.
fn divisors(of: usize, from: usize) -> Vec<usize> {
    (from..=of).filter(|divisor| of.is_multiple_of(*divisor)).collect()
}
