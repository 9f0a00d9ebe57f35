//! Takes a network that burn-onnx generated from an .onnx file, removes channels, and writes an .onnx file again.
//!
//!     cargo run --release -p deploy --bin from-onnx -- --output pruned.onnx

use std::path::PathBuf;

use burn::tensor::{Device, Tensor};
use burn_sfp::prelude::*;
use clap::Parser;
use deploy::Classifier;

/// Removes channels by magnitude from the network of an .onnx file and writes it as an .onnx file again. `build.rs` names the file and has
/// the network generated; `src/generated.rs` makes it a `GraphModule`.
#[derive(Parser, Debug)]
struct Args {
    /// Share of each layer's channels that is removed.
    #[arg(long, default_value_t = 0.5)]
    ratio: f64,
    /// Where the .onnx file goes.
    #[arg(long, short, default_value = "pruned.onnx")]
    output: PathBuf,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let device = Device::flex();
    let model = Classifier::from_embedded(&device);
    let input = Tensor::<4>::zeros([1, 3, 32, 32], &device);
    let pruned = Planner::new().budget(Budget::PerLayer(args.ratio)).prune(&model, &input, &Magnitude::l2())?;
    println!("{}", pruned.plan.summary());
    pruned.export_onnx(&args.output, &input)?;
    println!("{}: {} bytes", args.output.display(), std::fs::metadata(&args.output)?.len());
    Ok(())
}
