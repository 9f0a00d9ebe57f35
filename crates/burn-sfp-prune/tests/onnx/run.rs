//! Runs .onnx files: with rten, and with onnxruntime where Python has it. Tests of several crates include this file.

#![allow(dead_code)]

use std::fs;
use std::path::Path;
use std::process::Command;

use burn::tensor::{Bool, Int, Tensor};
use burn_sfp_graph::{InputMapper, ModuleInput};
use rten::{Model, NodeId, Value};

/// Largest difference of any number over the largest number of its tensor, between what a file computes in rten and what was expected.
pub fn difference<I: ModuleInput, O: ModuleInput>(file: &Path, input: I, expected: O) -> f64 {
    let model = Model::load(fs::read(file).unwrap()).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let inputs: Vec<(NodeId, _)> =
        model.input_ids().iter().copied().zip(rten_values(input).into_iter().map(|value| value.into())).collect();
    let found =
        model.run(inputs, model.output_ids(), None).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let expected = numbers(expected);
    assert_eq!(found.len(), expected.len());
    found.into_iter().zip(&expected).fold(0.0, |worst: f64, (found, expected)| {
        let found: Vec<f64> = match found {
            Value::FloatTensor(tensor) => tensor.into_data().into_iter().map(f64::from).collect(),
            Value::Int32Tensor(tensor) => tensor.into_data().into_iter().map(f64::from).collect(),
            other => panic!("a tensor of another type: {:?}", other.dtype()),
        };
        assert_eq!(found.len(), expected.values.len());
        let largest = expected.values.iter().fold(1e-6, |largest: f64, value| largest.max(value.abs()));
        let off = found.iter().zip(&expected.values).fold(0.0, |off: f64, (a, b)| {
            let off_here = (a - b).abs();
            if off_here.is_nan() { f64::INFINITY } else { off.max(off_here) }
        });
        worst.max(off / largest)
    })
}

fn rten_values<I: ModuleInput>(input: I) -> Vec<Value> {
    numbers(input)
        .into_iter()
        .map(|Numbers { shape, values, is_float, .. }| {
            if is_float {
                Value::from_shape(shape, values.into_iter().map(|value| value as f32).collect()).unwrap()
            } else {
                Value::from_shape(shape, values.into_iter().map(|value| value as i32).collect()).unwrap()
            }
        })
        .collect()
}

/// Saves inputs and outputs beside a file, for `scripts/check_onnx.py`.
pub fn save_case<I: ModuleInput, O: ModuleInput>(file: &Path, case: usize, input: I, output: O) {
    for (kind, tensors) in [("input", numbers(input)), ("output", numbers(output))] {
        let count = tensors.len();
        for (at, tensor) in tensors.into_iter().enumerate() {
            let name = if count == 1 { kind.to_string() } else { format!("{kind}_{at}") };
            fs::write(file.with_extension(format!("{case}.{name}.npy")), npy(&tensor)).unwrap();
        }
    }
}

/// A tensor in NumPy's format, as 32-bit floats or 64-bit integers.
fn npy(tensor: &Numbers) -> Vec<u8> {
    let kind = if tensor.is_float { "<f4" } else { "<i8" };
    let shape: String = tensor.shape.iter().map(|length| format!("{length}, ")).collect();
    let mut head = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({shape}), }}");
    while !(head.len() + 11).is_multiple_of(64) {
        head.push(' ');
    }
    head.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((head.len() as u16).to_le_bytes());
    bytes.extend(head.bytes());
    for value in &tensor.values {
        if tensor.is_float {
            bytes.extend((*value as f32).to_le_bytes());
        } else {
            bytes.extend((*value as i64).to_le_bytes());
        }
    }
    bytes
}

/// Runs files on the saved cases in onnxruntime, and returns whether it is there.
pub fn check_in_python(files: &[&Path], tolerance: f64) -> bool {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let found = Command::new(&python).args(["-c", "import numpy, onnxruntime"]).output();
    if !found.is_ok_and(|output| output.status.success()) {
        println!("skipped: {python} has no onnxruntime (pip install onnxruntime numpy)");
        return false;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/check_onnx.py");
    let output =
        Command::new(python).arg(script).args(["--tolerance", &tolerance.to_string()]).args(files).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    println!("{out}");
    true
}

struct Numbers {
    shape: Vec<usize>,
    values: Vec<f64>,
    is_float: bool,
}

/// The numbers of each tensor.
fn numbers<I: ModuleInput>(tensors: I) -> Vec<Numbers> {
    struct Read(Vec<Numbers>);
    macro_rules! read {
        ($name:ident, $kind:ty, $values:expr) => {
            fn $name<const D: usize>(&mut self, tensor: Tensor<D, $kind>) -> Tensor<D, $kind> {
                let values: fn(Tensor<D, $kind>) -> Vec<f64> = $values;
                self.0.push(Numbers {
                    shape: tensor.dims().to_vec(),
                    values: values(tensor.clone()),
                    is_float: stringify!($name) == "float",
                });
                tensor
            }
        };
    }
    impl InputMapper for Read {
        read!(float, burn::tensor::Float, |tensor| tensor.into_data().iter::<f64>().collect());
        read!(int, Int, |tensor| tensor.into_data().iter::<i64>().map(|value| value as f64).collect());
        read!(bool, Bool, |tensor| tensor.int().into_data().iter::<i64>().map(|value| value as f64).collect());
    }
    let mut read = Read(Vec::new());
    let _ = tensors.map_tensors(&mut read);
    read.0
}
