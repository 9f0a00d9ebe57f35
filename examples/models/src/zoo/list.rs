//! The list.

use super::{Entry, Make, SMALL_CLASSES, Visit};
use crate::audio::AudioConfig;
use crate::cct::CctConfig;
use crate::convnext::ConvNextConfig;
use crate::densenet::DenseNetConfig;
use crate::efficientnet::EfficientNetConfig;
use crate::figure::Figure;
use crate::googlenet::GoogLeNetConfig;
use crate::gpt::GptConfig;
use crate::mixer::MixerConfig;
use crate::mobilenet::MobileNetV2Config;
use crate::preact_resnet::PreActResNetConfig;
use crate::resnet::ResNetConfig;
use crate::shufflenet::ShuffleNetV2Config;
use crate::two_streams::TwoStreamsConfig;
use crate::unet::UnetConfig;
use crate::vgg::VggConfig;
use crate::vit::VitConfig;

/// Sizes as torchvision gives them.
fn torchvision(name: &'static str, parameters: u64, mega_macs: u64) -> Entry {
    Entry {
        name,
        parameters: Some(Figure::exact(parameters)),
        macs: Some(Figure::rounded(mega_macs * 1_000_000, 1_000_000)),
        layer_macs: None,
        source: "torchvision, 224x224, 1000 classes",
    }
}

/// Networks of plain or grouped convolutions.
pub(super) fn classic(make: &Make<'_>, visit: &mut impl Visit) {
    let vgg = |config: VggConfig| make.pick(config.clone(), config.small()).init(make.device);
    let entry = torchvision("VGG-11", 132_863_336, 7_609);
    visit.visit(&entry, vgg(VggConfig::vgg11()), make.images(3, 224, 32));
    let entry = torchvision("VGG-16", 138_357_544, 15_470);
    visit.visit(&entry, vgg(VggConfig::vgg16()), make.images(3, 224, 32));

    let resnet = |config: ResNetConfig| make.pick(config.clone(), config.small()).init(make.device);
    let entry = torchvision("ResNet-18", 11_689_512, 1_814);
    visit.visit(&entry, resnet(ResNetConfig::resnet18()), make.images(3, 224, 32));
    let entry = torchvision("ResNet-50", 25_557_032, 4_089);
    visit.visit(&entry, resnet(ResNetConfig::resnet50()), make.images(3, 224, 32));
    let entry = torchvision("ResNeXt-50 32x4d", 25_028_904, 4_230);
    visit.visit(&entry, resnet(ResNetConfig::resnext50_32x4d()), make.images(3, 224, 32));

    let entry = Entry {
        name: "PreAct ResNet-18",
        parameters: Some(Figure::exact(11_171_146)),
        macs: None,
        layer_macs: None,
        source: "kuangliu/pytorch-cifar, 32x32, 10 classes",
    };
    let config = PreActResNetConfig::preact_resnet18();
    visit.visit(&entry, make.pick(config.clone(), config.small()).init(make.device), make.images(3, 32, 16));

    let entry = torchvision("DenseNet-121", 7_978_856, 2_834);
    let config = DenseNetConfig::densenet121();
    visit.visit(&entry, make.pick(config.clone(), config.small()).init(make.device), make.images(3, 224, 32));
    let entry = torchvision("GoogLeNet", 6_624_904, 1_498);
    let config = GoogLeNetConfig::googlenet();
    visit.visit(&entry, make.pick(config.clone(), config.small()).init(make.device), make.images(3, 224, 32));
}

/// Networks with depthwise convolutions.
pub(super) fn mobile(make: &Make<'_>, visit: &mut impl Visit) {
    let entry = torchvision("MobileNetV2", 3_504_872, 301);
    let config = MobileNetV2Config::mobilenet_v2();
    visit.visit(&entry, make.pick(config.clone(), config.small()).init(make.device), make.images(3, 224, 32));
    let entry = torchvision("EfficientNet-B0", 5_288_548, 386);
    let config = EfficientNetConfig::b0();
    visit.visit(&entry, make.pick(config.clone(), config.small()).init(make.device), make.images(3, 224, 32));
    let entry = torchvision("ShuffleNetV2 x1.0", 2_278_604, 145);
    let config = ShuffleNetV2Config::x1_0();
    visit.visit(&entry, make.pick(config.clone(), config.small()).init(make.device), make.images(3, 224, 32));
    let entry = torchvision("ConvNeXt-T", 28_589_128, 4_456);
    let config = make.pick(ConvNextConfig::convnext_t(), ConvNextConfig::tiny());
    visit.visit(&entry, config.init(make.device), make.images(3, 224, 32));
}

/// Networks on tokens, most of them made of images.
pub(super) fn tokens(make: &Make<'_>, visit: &mut impl Visit) {
    let entry = Entry {
        name: "ViT-S/16",
        parameters: Some(Figure::exact(22_050_664)),
        macs: Some(Figure::rounded(4_600_000_000, 100_000_000)),
        layer_macs: None,
        source: "timm vit_small_patch16_224; multiply-adds: DeiT paper",
    };
    let config = make.pick(VitConfig::small_16(), VitConfig::tiny());
    visit.visit(&entry, config.init(make.device), make.images(3, 224, 16));

    let entry = Entry {
        name: "CCT-14/7x2",
        parameters: Some(Figure::rounded(22_360_000, 10_000)),
        macs: None,
        layer_macs: Some(Figure::rounded(5_110_000_000, 10_000_000)),
        source: "SHI-Labs/Compact-Transformers, 224x224, 1000 classes",
    };
    let config = make.pick(CctConfig::cct_14_7x2(), CctConfig::tiny());
    visit.visit(&entry, config.init(make.device), make.images(3, 224, 16));
    let entry = Entry {
        name: "CCT-7/3x1",
        parameters: Some(Figure::rounded(3_760_000, 10_000)),
        macs: None,
        layer_macs: Some(Figure::rounded(947_000_000, 1_000_000)),
        source: "SHI-Labs/Compact-Transformers, 32x32, 10 classes",
    };
    // Another number of convolutions, so that the small ones differ as the standard ones do.
    let config = make.pick(CctConfig::cct_7_3x1(), CctConfig { convs: 1, ..CctConfig::tiny() });
    visit.visit(&entry, config.init(make.device), make.images(3, 32, 16));

    let entry = Entry {
        name: "Mixer-S/16",
        parameters: Some(Figure::exact(18_528_264)),
        macs: Some(Figure::rounded(3_780_000_000, 10_000_000)),
        layer_macs: None,
        source: "timm mixer_s16_224",
    };
    let config = make.pick(MixerConfig::small_16(), MixerConfig::tiny());
    visit.visit(&entry, config.init(make.device), make.images(3, 224, 16));

    let entry = Entry {
        name: "GPT-2 small",
        parameters: Some(Figure::exact(163_037_184)),
        macs: None,
        layer_macs: None,
        source: "openai/gpt-2, 1024 tokens: 124,439,808 and the head, which is tied there",
    };
    let config = make.pick(GptConfig::gpt2_small(), GptConfig::tiny());
    visit.visit(&entry, config.init(make.device), make.words(config.vocabulary, 1024, 6));
}

/// Other inputs and outputs than an image and its class.
pub(super) fn other(make: &Make<'_>, visit: &mut impl Visit) {
    let entry = Entry {
        name: "U-Net",
        parameters: None,
        macs: None,
        layer_macs: None,
        source: "one channel, 512x512, 2 classes a pixel",
    };
    let config = make.pick(UnetConfig::original(), UnetConfig::tiny());
    visit.visit(&entry, config.init(make.device), make.images(1, 512, 16));

    let sound = || {
        let length = make.pick(32_000, 512);
        make.noise([1, length]).reshape([-1, 1, length as i32])
    };
    for (name, config, parameters) in [("M5", AudioConfig::m5(), 500_000), ("M11", AudioConfig::m11(), 1_800_000)] {
        let entry = Entry {
            name,
            parameters: Some(Figure::rounded(parameters, 100_000)),
            macs: None,
            layer_macs: None,
            source: "paper, 32000 samples of sound, 10 classes",
        };
        visit.visit(&entry, make.pick(config, AudioConfig::tiny()).init(make.device), sound());
    }

    let entry = Entry {
        name: "two streams",
        parameters: None,
        macs: None,
        layer_macs: None,
        source: "made for this project, 64x64 and 16 numbers, 10 classes and a map",
    };
    let config = make.pick(TwoStreamsConfig::standard(), TwoStreamsConfig::tiny().with_classes(SMALL_CLASSES));
    let vector = config.vector;
    let input = (make.images(3, 64, 16), make.noise([vector]).reshape([-1, vector as i32]));
    visit.visit(&entry, config.init(make.device), input);
}
