//! The list of all networks with their published sizes.

use burn::tensor::{Device, Tensor, TensorData};
use burn_sfp::prelude::GraphModule;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::densenet::DenseNetConfig;
use crate::efficientnet::EfficientNetConfig;
use crate::googlenet::GoogLeNetConfig;
use crate::mobilenet::MobileNetV2Config;
use crate::preact_resnet::PreActResNetConfig;
use crate::resnet::ResNetConfig;
use crate::shufflenet::ShuffleNetV2Config;
use crate::vgg::VggConfig;

/// Classes of every small classifier.
pub const SMALL_CLASSES: usize = 10;
/// Samples in the input of a small network; `slice_samples` makes a smaller batch of it.
pub const SMALL_BATCH: usize = 4;

const TORCHVISION: &str = "torchvision, 224x224, 1000 classes";

/// What is known of a network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// Parameters without running statistics, as published.
    pub parameters: Option<u64>,
    /// Billions of multiply-adds for one sample as published, and how many decimals that has.
    pub giga_macs: Option<(f64, usize)>,
    /// Who published the sizes, and for which input.
    pub source: &'static str,
}

impl Entry {
    /// Whether a count of parameters is the published one; `None` where none is.
    pub fn parameters_agree(&self, parameters: u64) -> Option<bool> {
        self.parameters.map(|published| published == parameters)
    }

    /// Whether multiply-adds, rounded to as many decimals, are the published ones; `None` where none are.
    pub fn macs_agree(&self, macs: u64) -> Option<bool> {
        self.giga_macs.map(|(giga, decimals)| {
            let unit = 10f64.powi(decimals as i32);
            (macs as f64 / 1e9 * unit).round() == (giga * unit).round()
        })
    }
}

/// Which variant of each network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// As published, with an input of one sample.
    Standard,
    /// Narrow, for small inputs, with [`SMALL_CLASSES`] and an input of [`SMALL_BATCH`] samples: a forward pass takes
    /// milliseconds.
    Small,
}

/// What is done with each network.
pub trait Visit {
    /// A network in the variant asked for, and an input for it.
    fn visit<M: GraphModule>(&mut self, entry: &Entry, model: M, input: M::Inputs);
}

/// Makes every network, one after the other, and shows it to the visitor.
///
/// ```
/// use burn::tensor::Device;
/// use burn_sfp::prelude::GraphModule;
/// use models::zoo::{Entry, Size, Visit, visit_all};
///
/// struct Names(Vec<&'static str>);
/// impl Visit for Names {
///     fn visit<M: GraphModule>(&mut self, entry: &Entry, _model: M, _input: M::Inputs) {
///         self.0.push(entry.name);
///     }
/// }
/// let mut names = Names(Vec::new());
/// visit_all(Size::Small, &Device::flex(), &mut names);
/// assert_eq!(names.0[0], "VGG-11");
/// ```
pub fn visit_all(size: Size, device: &Device, visit: &mut impl Visit) {
    let make = Make { size, device };
    classic(&make, visit);
    mobile(&make, visit);
}

/// Networks of plain or grouped convolutions.
fn classic(make: &Make<'_>, visit: &mut impl Visit) {
    let vgg = |config: VggConfig| make.pick(config, VggConfig::small).init(make.device);
    let resnet = |config: ResNetConfig| make.pick(config, ResNetConfig::small).init(make.device);
    let images = || make.images(3, 224, 32);

    let entry = torchvision("VGG-11", 132_863_336, 7.609);
    visit.visit(&entry, vgg(VggConfig::vgg11()), images());
    let entry = torchvision("VGG-16", 138_357_544, 15.47);
    visit.visit(&entry, vgg(VggConfig::vgg16()), images());
    let entry = torchvision("ResNet-18", 11_689_512, 1.814);
    visit.visit(&entry, resnet(ResNetConfig::resnet18()), images());
    let entry = torchvision("ResNet-50", 25_557_032, 4.089);
    visit.visit(&entry, resnet(ResNetConfig::resnet50()), images());
    let entry = torchvision("ResNeXt-50 32x4d", 25_028_904, 4.23);
    visit.visit(&entry, resnet(ResNetConfig::resnext50_32x4d()), images());
    let entry = Entry {
        name: "PreAct ResNet-18",
        parameters: Some(11_171_146),
        giga_macs: None,
        source: "kuangliu/pytorch-cifar, 32x32, 10 classes",
    };
    let preact = make.pick(PreActResNetConfig::preact_resnet18(), PreActResNetConfig::small);
    visit.visit(&entry, preact.init(make.device), make.images(3, 32, 16));
    let entry = torchvision("DenseNet-121", 7_978_856, 2.834);
    let densenet = make.pick(DenseNetConfig::densenet121(), DenseNetConfig::small);
    visit.visit(&entry, densenet.init(make.device), images());
    let entry = torchvision("GoogLeNet", 6_624_904, 1.498);
    let googlenet = make.pick(GoogLeNetConfig::googlenet(), GoogLeNetConfig::small);
    visit.visit(&entry, googlenet.init(make.device), images());
}

/// Networks with depthwise convolutions.
fn mobile(make: &Make<'_>, visit: &mut impl Visit) {
    let images = || make.images(3, 224, 32);
    let entry = torchvision("MobileNetV2", 3_504_872, 0.301);
    let mobilenet = make.pick(MobileNetV2Config::mobilenet_v2(), MobileNetV2Config::small);
    visit.visit(&entry, mobilenet.init(make.device), images());
    let entry = torchvision("EfficientNet-B0", 5_288_548, 0.386);
    let efficientnet = make.pick(EfficientNetConfig::b0(), EfficientNetConfig::small);
    visit.visit(&entry, efficientnet.init(make.device), images());
    let entry = torchvision("ShuffleNetV2 x1.0", 2_278_604, 0.145);
    let shufflenet = make.pick(ShuffleNetV2Config::x1_0(), ShuffleNetV2Config::small);
    visit.visit(&entry, shufflenet.init(make.device), images());
}

fn torchvision(name: &'static str, parameters: u64, giga_macs: f64) -> Entry {
    Entry { name, parameters: Some(parameters), giga_macs: Some((giga_macs, 3)), source: TORCHVISION }
}

/// The variant that is asked for.
struct Make<'a> {
    size: Size,
    device: &'a Device,
}

impl Make<'_> {
    fn pick<C>(&self, config: C, small: impl FnOnce(C) -> C) -> C {
        match self.size {
            Size::Standard => config,
            Size::Small => small(config),
        }
    }

    /// Square images.
    fn images(&self, channels: usize, standard: usize, small: usize) -> Tensor<4> {
        let (samples, side) = match self.size {
            Size::Standard => (1, standard),
            Size::Small => (SMALL_BATCH, small),
        };
        noise([samples, channels, side, side], self.device)
    }
}

/// Numbers between -1 and 1, always the same ones.
fn noise<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}
