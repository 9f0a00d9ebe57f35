//! Random residual networks of convolutions, with blocks of many kinds in lists and options.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::{gelu, relu, sigmoid};
use burn::tensor::{Device, Tensor};
use burn_sfp_graph::GraphModule;
use burn_sfp_nn::Shrink;
use proptest::prelude::*;

use crate::draw::{self, drawn, uniform};
use crate::inspect::edited;

pub const SIDE: usize = 6;
pub const CLASSES: usize = 3;

/// How a block is computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Two convolutions with normalisations, a rectifier behind the sum.
    Basic,
    /// Normalisation and rectifier before each convolution.
    PreActivation,
    /// A bare rectifier in front of one convolution with bias.
    Bare,
    /// Wide in the middle, with a depthwise convolution.
    Inverted,
    /// Gated by its own mean.
    Gated,
    /// Two branches, one after the other.
    Twice,
    /// Scaled by a parameter for each channel.
    Scaled,
    /// The stream is on the right side of the sum.
    Turned,
    /// A projection on the stream: it has to stay.
    Projected,
    /// A normalisation behind the sum: it has to stay.
    PostNorm,
    /// What it adds is not zero with its parameters: it has to stay.
    Loud,
}

impl Kind {
    pub fn can_go(self) -> bool {
        !matches!(self, Self::Projected | Self::PostNorm | Self::Loud)
    }
}

#[derive(Clone, Debug)]
pub struct Spec {
    /// For each stage its width and its blocks.
    pub stages: Vec<(usize, Vec<Kind>)>,
    pub extra: Option<Kind>,
    pub rectified: bool,
    pub seed: u64,
}

pub fn specs() -> impl Strategy<Value = Spec> {
    let free = prop::sample::select(vec![
        Kind::Basic,
        Kind::PreActivation,
        Kind::Bare,
        Kind::Inverted,
        Kind::Gated,
        Kind::Twice,
        Kind::Scaled,
        Kind::Turned,
    ]);
    let fixed = prop::sample::select(vec![Kind::Projected, Kind::PostNorm, Kind::Loud]);
    let kind = prop_oneof![6 => free, 1 => fixed];
    let stage = (2..7_usize, prop::collection::vec(kind.clone(), 0..4));
    let stages = prop::collection::vec(stage, 1..4);
    (stages, prop::option::of(kind), any::<bool>(), any::<u64>()).prop_map(|(stages, extra, rectified, seed)| Spec {
        stages,
        extra,
        rectified,
        seed,
    })
}

#[derive(Module, Debug, Shrink)]
pub struct Block {
    first: Conv2d,
    first_norm: BatchNorm,
    middle: Option<Conv2d>,
    second: Conv2d,
    second_norm: BatchNorm,
    gate: Option<Conv2d>,
    scale: Option<Param<Tensor<3>>>,
    projection: Option<Conv2d>,
    #[module(skip)]
    pub kind: Kind,
}

#[derive(Module, Debug, Shrink)]
pub struct Stage {
    pub transition: Conv2d,
    pub blocks: Vec<Block>,
}

#[derive(Module, Debug, Shrink)]
pub struct Net {
    stem: Conv2d,
    pub stages: Vec<Stage>,
    pub extra: Option<Block>,
    norm: BatchNorm,
    head: Linear,
    rectified: bool,
}

fn conv(from: usize, to: usize, kernel: usize, groups: usize, device: &Device) -> Conv2d {
    let side = kernel / 2;
    let padding = PaddingConfig2d::Explicit(side, side, side, side);
    Conv2dConfig::new([from, to], [kernel; 2]).with_padding(padding).with_groups(groups).init(device)
}

impl Block {
    fn new(kind: Kind, width: usize, device: &Device) -> Self {
        let inner = if kind == Kind::Inverted { 2 * width } else { width };
        let kernel = if kind == Kind::Inverted { 1 } else { 3 };
        let norm = |channels| BatchNormConfig::new(channels).init(device);
        let first_norm = norm(if kind == Kind::PreActivation { width } else { inner });
        Self {
            first: conv(width, inner, kernel, 1, device),
            first_norm,
            middle: (kind == Kind::Inverted).then(|| conv(inner, inner, 3, inner, device)),
            second: conv(inner, width, kernel, 1, device),
            second_norm: norm(if kind == Kind::PreActivation { inner } else { width }),
            gate: (kind == Kind::Gated).then(|| conv(width, width, 1, 1, device)),
            scale: (kind == Kind::Scaled).then(|| Param::from_tensor(Tensor::ones([width, 1, 1], device))),
            projection: (kind == Kind::Projected).then(|| conv(width, width, 1, 1, device)),
            kind,
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let first = |x: Tensor<4>| relu(self.first_norm.forward(self.first.forward(x)));
        let branch = |x: Tensor<4>| self.second_norm.forward(self.second.forward(first(x)));
        match self.kind {
            Kind::Basic => relu(x.clone() + branch(x)),
            Kind::PreActivation => {
                let y = self.first.forward(relu(self.first_norm.forward(x.clone())));
                x + self.second.forward(relu(self.second_norm.forward(y)))
            }
            Kind::Bare => x.clone() + self.second.forward(gelu(self.first.forward(relu(x)))),
            Kind::Inverted => {
                let y = first(x.clone());
                let y = match &self.middle {
                    Some(middle) => relu(middle.forward(y)),
                    None => y,
                };
                x + self.second_norm.forward(self.second.forward(y))
            }
            Kind::Gated => {
                let y = branch(x.clone());
                let y = match &self.gate {
                    Some(gate) => y.clone() * sigmoid(gate.forward(y.mean_dim(3).mean_dim(2))),
                    None => y,
                };
                relu(x + y)
            }
            Kind::Twice => {
                let x = x.clone() + self.first_norm.forward(self.first.forward(x));
                x.clone() + self.second_norm.forward(self.second.forward(relu(x)))
            }
            Kind::Scaled => {
                let y = self.second.forward(relu(self.first.forward(x.clone())));
                let y = match &self.scale {
                    Some(scale) => y * scale.val().unsqueeze(),
                    None => y,
                };
                x + y
            }
            Kind::Turned => branch(x.clone()) + x,
            Kind::Projected => {
                let y = branch(x.clone());
                match &self.projection {
                    Some(projection) => relu(projection.forward(x) + y),
                    None => y,
                }
            }
            Kind::PostNorm => self.second_norm.forward(x.clone() + self.second.forward(first(x))),
            Kind::Loud => x.clone() + sigmoid(branch(x)),
        }
    }
}

impl Net {
    pub fn new(spec: &Spec, device: &Device) -> Self {
        draw::seed(spec.seed);
        let mut width = 3;
        let mut stages = Vec::new();
        for (next, kinds) in &spec.stages {
            let blocks = kinds.iter().map(|&kind| Block::new(kind, *next, device)).collect();
            stages.push(Stage { transition: conv(width, *next, 1, 1, device), blocks });
            width = *next;
        }
        let net = Self {
            stem: conv(2, 3, 3, 1, device),
            stages,
            extra: spec.extra.map(|kind| Block::new(kind, width, device)),
            norm: BatchNormConfig::new(width).init(device),
            head: LinearConfig::new(width, CLASSES).init(device),
            rectified: spec.rectified,
        };
        // Normalisations that do something.
        let mut state = spec.seed | 1;
        edited(&drawn(net), |path, _, values| {
            if !path.contains("norm") && !path.ends_with("scale") {
                return;
            }
            for value in values {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let unit = (state >> 40) as f32 / (1u64 << 24) as f32;
                *value = if path.ends_with("gamma") || path.ends_with("var") { 0.5 + unit } else { unit - 0.5 };
            }
        })
    }

    pub fn input(&self, samples: usize, device: &Device) -> Tensor<4> {
        uniform([samples, 2, SIDE, SIDE], -1.0, 1.0, device)
    }
}

impl GraphModule for Net {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<4>) -> Tensor<2> {
        let mut x = relu(self.stem.forward(x));
        for stage in &self.stages {
            x = stage.transition.forward(x);
            if self.rectified {
                x = relu(x);
            }
            x = stage.blocks.iter().fold(x, |x, block| block.forward(x));
        }
        if let Some(extra) = &self.extra {
            x = extra.forward(x);
        }
        let x = relu(self.norm.forward(x)).mean_dim(3).mean_dim(2);
        self.head.forward(x.flatten(1, 3))
    }
    fn shrinkable(&mut self) -> Option<&mut dyn Shrink> {
        Some(self)
    }
}
