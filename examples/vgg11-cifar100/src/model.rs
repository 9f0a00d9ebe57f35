//! VGG-11 with batch normalisation for images of 32x32, the network of the paper.

use burn::config::Config;
use burn::module::Module;
use burn::nn::conv::Conv2dConfig;
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::{Device, Tensor};
use burn_sfp::graph::GraphModule;
use burn_sfp::nn::SparseConv2d;

/// Number of convolutions.
pub const CONVOLUTIONS: usize = 10;
/// Convolutions of [`Vgg11::front`].
pub const FRONT: usize = 7;
/// Positions of the convolutions that a pooling follows, from 0.
const POOLED: [usize; 4] = [1, 3, 6, 9];
/// Widths of the convolutions as multiples of the first one's.
const WIDTHS: [usize; CONVOLUTIONS] = [1, 1, 2, 2, 4, 4, 4, 8, 8, 8];

/// Settings of [`Vgg11`].
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use vgg11_cifar100::model::Vgg11Config;
///
/// let device = Device::flex();
/// let model = Vgg11Config::new().with_width(2).init(&device);
/// assert_eq!(model.forward(Tensor::zeros([3, 3, 32, 32], &device)).dims(), [3, 100]);
/// ```
#[derive(Config, Debug)]
pub struct Vgg11Config {
    /// Filters of the first convolution; the others have 1, 2, 2, 4, 4, 4, 8, 8, 8 times as many.
    #[config(default = 64)]
    pub width: usize,
    /// Number of labels.
    #[config(default = 100)]
    pub classes: usize,
}

/// Ten convolutions of 3x3, each with batch normalisation and ReLU, a pooling of 2x2 after the convolutions 2, 4, 7
/// and 10, then one linear layer without bias.
#[derive(Module, Debug)]
pub struct Vgg11 {
    /// The convolutions, weights `[filters, channels, 3, 3]`, with bias. Burn's, until pruned connections are left out.
    pub convs: Vec<SparseConv2d>,
    /// The normalisation after each convolution, `[filters]`.
    pub norms: Vec<BatchNorm>,
    /// The classifier, weight `[2048, 100]`, its inputs channel-major (channel f, then its 2x2 positions).
    pub fc: Linear,
    pool: MaxPool2d,
}

impl Vgg11Config {
    /// The network with random weights.
    pub fn init(&self, device: &Device) -> Vgg11 {
        let widths = WIDTHS.map(|factor| factor * self.width);
        let channels = |k: usize| if k == 0 { 3 } else { widths[k - 1] };
        Vgg11 {
            convs: (0..CONVOLUTIONS)
                .map(|k| {
                    Conv2dConfig::new([channels(k), widths[k]], [3, 3])
                        .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                        .init(device)
                        .into()
                })
                .collect(),
            norms: widths.iter().map(|&width| BatchNormConfig::new(width).with_epsilon(1e-5).init(device)).collect(),
            fc: LinearConfig::new(widths[CONVOLUTIONS - 1] * 4, self.classes).with_bias(false).init(device),
            pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
        }
    }
}

impl Vgg11 {
    /// Images `[samples, 3, 32, 32]` in [-1, 1] to logits `[samples, 100]`.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        self.back(self.front(images))
    }

    /// Runs the first seven convolutions: images to `[samples, channels, 4, 4]`.
    pub fn front(&self, images: Tensor<4>) -> Tensor<4> {
        (0..FRONT).fold(images, |x, k| self.convolution(x, k))
    }

    /// Runs what follows on the output of [`front`](Vgg11::front), to the logits.
    pub fn back(&self, features: Tensor<4>) -> Tensor<2> {
        let x = (FRONT..self.convs.len()).fold(features, |x, k| self.convolution(x, k));
        self.fc.forward(x.flatten(1, 3))
    }

    /// Convolution k with its normalisation, ReLU and pooling.
    fn convolution(&self, x: Tensor<4>, k: usize) -> Tensor<4> {
        let x = self.convs[k].forward_fused(x, Some(&self.norms[k]), true);
        if POOLED.contains(&k) { self.pool.forward(x) } else { x }
    }
}

impl GraphModule for Vgg11 {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;

    fn run(&self, images: Tensor<4>) -> Tensor<2> {
        self.forward(images)
    }
}
