//! Generates a Burn network from an .onnx file.

use burn_onnx::{LoadStrategy, ModelGen};

fn main() {
    let file = "../zoo-elsewhere/onnx/classifier.onnx";
    println!("cargo::rerun-if-changed={file}");
    ModelGen::new().input(file).out_dir("onnx/").load_strategy(LoadStrategy::Embedded).run_from_script();
}
