//! Generates a Burn network from each of the .onnx files in `onnx/`.

use burn_onnx::{LoadStrategy, ModelGen};

fn main() {
    for name in ["residual", "shuffle", "vit", "encoder"] {
        let file = format!("onnx/{name}.onnx");
        println!("cargo::rerun-if-changed={file}");
        ModelGen::new().input(&file).out_dir("onnx/").load_strategy(LoadStrategy::Embedded).run_from_script();
    }
}
