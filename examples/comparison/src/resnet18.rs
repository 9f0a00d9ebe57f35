//! A ResNet-18 for the quickstart's images, trained from a seed: blocks can leave it as a whole.

use burn::nn::pool::MaxPool2dConfig;
use burn::prelude::*;
use burn_sfp::prelude::{DataError, Progress};
use models::blocks::ConvNorm;
use models::resnet::{ResNet, ResNetConfig};
use quickstart::font::CLASSES;
use quickstart::glyphs::GlyphSet;
use quickstart::train::{TrainConfig, train};

/// Makes the zoo's ResNet-18, `width` times as wide, for images of 24x24 pixels: its stem is a 3x3 convolution of one channel with stride 1,
/// and nothing is pooled behind it, as usual for small images.
///
/// `[samples, 1, 24, 24]` to `[samples, 24]`.
pub fn resnet18(width: f64, device: &Device) -> ResNet {
    let mut model = ResNetConfig::resnet18().with_width(width).with_classes(CLASSES).init(device);
    let channels = model.stem.norm.gamma.lazy_shape()[0];
    model.stem = ConvNorm::new([1, channels], 3, 1, 1, device);
    model.pool = MaxPool2dConfig::new([1, 1]).with_strides([1, 1]).init();
    model
}

/// Trains a [`resnet18`] on the images of a seed, as the quickstart trains its own network.
///
/// # Errors
/// A loss that is not finite.
pub fn trained(
    seed: u64,
    width: f64,
    config: &TrainConfig,
    device: &Device,
    progress: &dyn Progress,
) -> Result<ResNet, DataError> {
    device.seed(seed);
    train(resnet18(width, device), &GlyphSet::new(seed), config, device, progress)
}
