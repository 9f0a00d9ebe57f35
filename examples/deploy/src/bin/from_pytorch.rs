//! Loads PyTorch's weights of a ResNet, removes channels, and writes an .onnx file.
//!
//!     cargo run --release -p deploy --bin from-pytorch --features pytorch -- resnet18.pth --output resnet18.onnx
//!
//! Without the feature it reads safetensors files.

use std::path::PathBuf;

use burn::tensor::{Device, Tensor};
use burn_sfp::prelude::*;
use clap::{Parser, ValueEnum};
use deploy::load;
use models::resnet::ResNetConfig;

/// Loads PyTorch's weights of a ResNet, removes channels by magnitude, and writes an .onnx file.
#[derive(Parser, Debug)]
struct Args {
    /// State dict with torchvision's names: a .safetensors file, or a .pt or .pth file (feature `pytorch`).
    weights: PathBuf,
    /// Which ResNet the weights are of.
    #[arg(long, value_enum, default_value_t = Network::Resnet18)]
    network: Network,
    /// Number of classes.
    #[arg(long, default_value_t = 1000)]
    classes: usize,
    /// Factor of all widths, for narrow variants.
    #[arg(long, default_value_t = 1.0)]
    width: f64,
    /// Height and width of the images.
    #[arg(long, default_value_t = 224)]
    side: usize,
    /// Share of each layer's channels that is removed; 0 exports the whole network.
    #[arg(long, default_value_t = 0.5)]
    ratio: f64,
    /// Where the .onnx file goes.
    #[arg(long, short, default_value = "pruned.onnx")]
    output: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Network {
    Resnet18,
    Resnet50,
    Resnext50,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let device = Device::flex();
    let config = match args.network {
        Network::Resnet18 => ResNetConfig::resnet18(),
        Network::Resnet50 => ResNetConfig::resnet50(),
        Network::Resnext50 => ResNetConfig::resnext50_32x4d(),
    };
    let config = config.with_classes(args.classes).with_width(args.width);
    let model = load(&args.weights, config.init(&device), &config.blocks)?;

    // The values of the input do not matter here: magnitudes need none, and neither does the export.
    let input = Tensor::<4>::zeros([1, 3, args.side, args.side], &device);
    if args.ratio == 0.0 {
        export_onnx(&model, &input, &args.output, &OnnxConfig::new())?;
    } else {
        let planner = Planner::new().budget(Budget::PerLayer(args.ratio));
        let pruned = planner.prune(&model, &input, &Magnitude::l2())?;
        println!("{}", pruned.plan.summary());
        pruned.export_onnx(&args.output, &input)?;
    }
    println!("{}: {} bytes", args.output.display(), std::fs::metadata(&args.output)?.len());
    Ok(())
}
