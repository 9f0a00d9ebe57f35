//! Networks of the zoo in their published sizes, with an input of one image.

use burn::prelude::*;
use burn_sfp::prelude::{DataError, SfpModule};
use models::densenet::DenseNetConfig;
use models::mobilenet::MobileNetV2Config;
use models::random::randomise;
use models::resnet::ResNetConfig;
use models::vit::VitConfig;
pub use models::zoo::Size;

/// What is done with each network.
pub trait Visit {
    /// A network with random weights, and an image for it.
    ///
    /// # Errors
    /// Whatever ends the visit.
    fn visit<M: SfpModule<Inputs = Tensor<4>>>(
        &mut self,
        name: &'static str,
        model: M,
        image: Tensor<4>,
    ) -> Result<(), DataError>;
}

/// A network by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// ResNet-18.
    ResNet18,
    /// ResNet-50.
    ResNet50,
    /// MobileNetV2.
    MobileNetV2,
    /// DenseNet-121.
    DenseNet121,
    /// ViT-S/16.
    VitSmall,
}

/// Makes a network and shows it to the visitor. All have `classes` classes, the published 1000 without a number; small ones have 10.
///
/// # Errors
/// Those of the visitor.
pub fn visit(
    name: Name,
    size: Size,
    classes: Option<usize>,
    device: &Device,
    visitor: &mut impl Visit,
) -> Result<(), DataError> {
    let is_small = size == Size::Small;
    let side = match (is_small, name) {
        (false, _) => 224,
        (true, Name::VitSmall) => 16,
        (true, _) => 32,
    };
    device.seed(1);
    let image = Tensor::random([1, 3, side, side], burn::tensor::Distribution::Uniform(-1.0, 1.0), device);
    macro_rules! show {
        ($title:literal, $standard:expr, $small:expr) => {{
            let config = if is_small { $small } else { $standard };
            let config = match classes {
                Some(classes) => config.with_classes(classes),
                None => config,
            };
            visitor.visit($title, randomise(&config.init(device), 1), image)
        }};
    }
    match name {
        Name::ResNet18 => show!("ResNet-18", ResNetConfig::resnet18(), ResNetConfig::resnet18().small()),
        Name::ResNet50 => show!("ResNet-50", ResNetConfig::resnet50(), ResNetConfig::resnet50().small()),
        Name::MobileNetV2 => {
            show!("MobileNetV2", MobileNetV2Config::mobilenet_v2(), MobileNetV2Config::mobilenet_v2().small())
        }
        Name::DenseNet121 => {
            show!("DenseNet-121", DenseNetConfig::densenet121(), DenseNetConfig::densenet121().small())
        }
        Name::VitSmall => show!("ViT-S/16", VitConfig::small_16(), VitConfig::tiny()),
    }
}
