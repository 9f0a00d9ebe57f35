//! Networks with private fields, as another crate would have them: nothing here knows of burn-sfp.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

/// A convolution and its normalisation.
#[derive(Module, Debug)]
struct ConvNorm {
    conv: Conv2d,
    norm: BatchNorm,
}

impl ConvNorm {
    fn new(from: usize, to: usize, kernel: usize, groups: usize, device: &Device) -> Self {
        let padding = kernel / 2;
        let conv = Conv2dConfig::new([from, to], [kernel; 2])
            .with_groups(groups)
            .with_padding(PaddingConfig2d::Explicit(padding, padding, padding, padding))
            .with_bias(false);
        Self { conv: conv.init(device), norm: BatchNormConfig::new(to).init(device) }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.norm.forward(self.conv.forward(x))
    }
}

/// An inverted residual block: wide inside, a depthwise convolution there.
#[derive(Module, Debug)]
struct Inverted {
    expand: ConvNorm,
    depthwise: ConvNorm,
    project: ConvNorm,
    residual: bool,
}

impl Inverted {
    fn new(from: usize, to: usize, device: &Device) -> Self {
        let inside = 4 * from;
        Self {
            expand: ConvNorm::new(from, inside, 1, 1, device),
            depthwise: ConvNorm::new(inside, inside, 3, inside, device),
            project: ConvNorm::new(inside, to, 1, 1, device),
            residual: from == to,
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let inside = relu(self.depthwise.forward(relu(self.expand.forward(x.clone()))));
        let y = self.project.forward(inside);
        if self.residual { x + y } else { y }
    }
}

/// A small MobileNet.
///
/// `[samples, 3, height, width]` to `[samples, 5]`.
#[derive(Module, Debug)]
pub struct Mobile {
    stem: ConvNorm,
    blocks: Vec<Inverted>,
    last: ConvNorm,
    head: Linear,
}

impl Mobile {
    /// Makes the network.
    pub fn new(device: &Device) -> Self {
        Self {
            stem: ConvNorm::new(3, 8, 3, 1, device),
            blocks: [(8, 8), (8, 12), (12, 12)].map(|(from, to)| Inverted::new(from, to, device)).into(),
            last: ConvNorm::new(12, 24, 1, 1, device),
            head: LinearConfig::new(24, 5).init(device),
        }
    }

    /// Runs it.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = relu(self.stem.forward(x));
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        let x = relu(self.last.forward(x)).mean_dim(3).mean_dim(2);
        let [samples, channels, _, _] = x.dims();
        self.head.forward(x.reshape([samples, channels]))
    }
}
