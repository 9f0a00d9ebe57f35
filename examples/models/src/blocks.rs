//! What many of the networks are made of.

use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::AdaptiveAvgPool2dConfig;
use burn::nn::{BatchNormConfig, LayerNorm, LayerNormConfig, PaddingConfig2d};
use burn::prelude::*;
use burn_sfp::nn::{CenteredLayerNorm, FoldBatchNorm};
use burn_sfp::prelude::Shrink;

/// A convolution without bias, padded by half its kernel, and batch normalisation.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use models::blocks::ConvNorm;
///
/// let device = Device::flex();
/// let block = ConvNorm::new([3, 8], 3, 2, 1, &device);
/// assert_eq!(block.forward(Tensor::zeros([1, 3, 9, 9], &device)).dims(), [1, 8, 5, 5]);
/// ```
#[derive(Module, Debug, Shrink)]
pub struct ConvNorm {
    /// The convolution; the normalisation brings the bias.
    pub conv: Conv2d,
    /// The normalisation.
    pub norm: FoldBatchNorm,
}

impl ConvNorm {
    /// From and to `channels`, with a square kernel.
    pub fn new(channels: [usize; 2], kernel: usize, stride: usize, groups: usize, device: &Device) -> Self {
        Self {
            conv: conv(channels, kernel, stride, groups, device),
            norm: BatchNormConfig::new(channels[1]).init(device).into(),
        }
    }

    /// One kernel for each channel.
    pub fn depthwise(channels: usize, kernel: usize, stride: usize, device: &Device) -> Self {
        Self::new([channels, channels], kernel, stride, channels, device)
    }

    /// `[samples, input, height, width]` to `[samples, output, height / stride, width / stride]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.norm.forward(self.conv.forward(x))
    }
}

/// A square convolution without bias, padded by half its kernel.
pub fn conv(channels: [usize; 2], kernel: usize, stride: usize, groups: usize, device: &Device) -> Conv2d {
    Conv2dConfig::new(channels, [kernel, kernel])
        .with_stride([stride, stride])
        .with_padding(padding(kernel / 2))
        .with_groups(groups)
        .with_bias(false)
        .init(device)
}

/// The same number of zeros on all four sides.
pub fn padding(size: usize) -> PaddingConfig2d {
    PaddingConfig2d::Explicit(size, size, size, size)
}

/// A layer normalisation with the epsilon of most vision models, 1e-6.
pub fn layer_norm(width: usize, device: &Device) -> LayerNorm {
    LayerNormConfig::new(width).with_epsilon(1e-6).init(device)
}

/// [`layer_norm`] whose channels can be removed.
pub fn centered_norm(width: usize, device: &Device) -> CenteredLayerNorm {
    layer_norm(width, device).into()
}

/// Mean over all positions: `[samples, channels, height, width]` to `[samples, channels, 1, 1]`, by an operation that can be exported to
/// ONNX.
pub fn position_mean(x: Tensor<4>) -> Tensor<4> {
    AdaptiveAvgPool2dConfig::new([1, 1]).init().forward(x)
}

/// Mean over all positions: `[samples, channels, height, width]` to `[samples, channels]`.
pub fn global_mean(x: Tensor<4>) -> Tensor<2> {
    position_mean(x).flatten(1, 3)
}

/// A multiplied width, rounded to a multiple of `divisor` but never down by more than a tenth.
///
/// ```
/// use models::blocks::scale;
///
/// assert_eq!((scale(116, 1.0, 4), scale(32, 0.25, 8), scale(16, 0.05, 8)), (116, 8, 8));
/// ```
pub fn scale(channels: usize, width: f64, divisor: usize) -> usize {
    let wanted = channels as f64 * width;
    let rounded = (wanted / divisor as f64).round().max(1.0) as usize * divisor;
    if (rounded as f64) < 0.9 * wanted { rounded + divisor } else { rounded }
}
