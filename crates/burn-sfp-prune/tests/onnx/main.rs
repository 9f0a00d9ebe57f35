//! Export to ONNX: the files compute what the models compute, in rten and, where Python has it, in onnxruntime.

#[path = "../common/draw.rs"]
mod draw;
mod models;
mod operations;
mod refused;
mod run;
