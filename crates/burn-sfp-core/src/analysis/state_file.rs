//! An analysis with its state in one safetensors file.

use std::io::{self, Write};
use std::path::Path;

use burn_sfp_graph::FileError;
use burn_sfp_graph::file::{Format, Opened, write_sealed};
use ndarray::{Array2, Array3};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use super::layer::{LayerAnalysis, LayerState};
use super::result::Analysis;
use crate::SfpError;

/// The tensor that holds the analysis as JSON.
const ANALYSIS: &str = "analysis";
/// Longest header that the safetensors format allows.
const LONGEST_HEADER: usize = 100_000_000;

/// A tensor to be written.
struct Entry<'a> {
    name: String,
    shape: Vec<usize>,
    values: Values<'a>,
}

enum Values<'a> {
    F64(Box<dyn Iterator<Item = &'a f64> + 'a>),
    F32(Box<dyn Iterator<Item = &'a f32> + 'a>),
    Bytes(&'a [u8]),
}

impl Entry<'_> {
    /// The element type by its name in the format, and its bytes.
    fn dtype(&self) -> (&'static str, usize) {
        match self.values {
            Values::F64(_) => ("F64", 8),
            Values::F32(_) => ("F32", 4),
            Values::Bytes(_) => ("U8", 1),
        }
    }

    fn bytes(&self) -> u64 {
        self.shape.iter().map(|&length| length as u64).product::<u64>() * self.dtype().1 as u64
    }
}

/// Writes the file.
pub(super) fn save(analysis: &Analysis, path: &Path, format: &Format) -> Result<(), SfpError> {
    let invalid = |error: &dyn ToString| FileError::Content { path: path.into(), message: error.to_string() };
    let json = serde_json::to_vec(analysis).map_err(|error| invalid(&error))?;
    let entries = entries(analysis, &json)?;
    let (mut header, mut at) = (String::new(), 0);
    for entry in &entries {
        let name = serde_json::to_string(&entry.name).map_err(|error| invalid(&error))?;
        let (dtype, end) = (entry.dtype().0, at + entry.bytes());
        header +=
            &format!(",{name}:{{\"dtype\":\"{dtype}\",\"shape\":{:?},\"data_offsets\":[{at},{end}]}}", entry.shape);
        at = end;
    }
    let head = |checksum: &str| {
        let mut text = format.tensors_head(checksum, at) + &header + "}";
        // Tensors begin at a multiple of 8.
        text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
        [(text.len() as u64).to_le_bytes().as_slice(), text.as_bytes()].concat()
    };
    if head("").len() > LONGEST_HEADER {
        return Err(invalid(&"it has too many layers for the header of a safetensors file").into());
    }
    Ok(write_sealed(path, head, |body| entries.into_iter().try_for_each(|entry| write_entry(entry, body)))?)
}

/// The tensors of the file, those of larger elements first, so that all are aligned.
fn entries<'a>(analysis: &'a Analysis, json: &'a [u8]) -> Result<Vec<Entry<'a>>, SfpError> {
    let (mut doubles, mut floats) = (Vec::new(), Vec::new());
    for layer in &analysis.layers {
        let Some(state) = &layer.state else {
            let what = format!("layer `{}` kept no state; analyse with `with_state(true)`", layer.path);
            return Err(SfpError::Merge(what));
        };
        let name = |part: &str| format!("{}/{part}", layer.path);
        let shape = state.sums.shape().to_vec();
        doubles.push(Entry { name: name("sums"), shape, values: Values::F64(Box::new(state.sums.iter())) });
        if let Some(gram) = &state.gram {
            let shape = gram.shape().to_vec();
            doubles.push(Entry { name: name("gram"), shape, values: Values::F64(Box::new(gram.iter())) });
        }
        if let Some(readout) = &state.readout {
            let shape = readout.shape().to_vec();
            floats.push(Entry { name: name("readout"), shape, values: Values::F32(Box::new(readout.iter())) });
        }
    }
    doubles.extend(floats);
    doubles.push(Entry { name: ANALYSIS.into(), shape: vec![json.len()], values: Values::Bytes(json) });
    Ok(doubles)
}

fn write_entry(entry: Entry<'_>, body: &mut dyn Write) -> io::Result<()> {
    match entry.values {
        Values::F64(mut values) => values.try_for_each(|value| body.write_all(&value.to_le_bytes())),
        Values::F32(mut values) => values.try_for_each(|value| body.write_all(&value.to_le_bytes())),
        Values::Bytes(bytes) => body.write_all(bytes),
    }
}

/// Reads what [`save`] wrote.
pub(super) fn read(file: &Opened) -> Result<Analysis, SfpError> {
    let tensors = SafeTensors::deserialize(file.bytes()).map_err(|error| file.invalid(error))?;
    let json = tensors.tensor(ANALYSIS).map_err(|error| file.invalid(error))?;
    let mut analysis: Analysis = serde_json::from_slice(json.data()).map_err(|error| file.invalid(error))?;
    for layer in &mut analysis.layers {
        let state = read_state(layer, &tensors)
            .map_err(|part| file.invalid(format!("`{}/{part}` is missing or has another shape", layer.path)))?;
        layer.state = Some(state);
    }
    Ok(analysis)
}

/// The state of a layer; the error is the name of the part that is missing or has another shape.
fn read_state(layer: &LayerAnalysis, tensors: &SafeTensors<'_>) -> Result<LayerState, &'static str> {
    let find = |part: &str| tensors.tensor(&format!("{}/{part}", layer.path)).ok();
    let sums = find("sums").and_then(|view| Array3::from_shape_vec(shape3(&view)?, doubles(&view)?).ok());
    let gram = find("gram").map(|view| {
        let shape = <[usize; 2]>::try_from(view.shape()).ok();
        shape.and_then(|shape| Array2::from_shape_vec(shape, doubles(&view)?).ok()).ok_or("gram")
    });
    let readout = find("readout").map(|view| {
        shape3(&view).and_then(|shape| Array3::from_shape_vec(shape, floats(&view)?).ok()).ok_or("readout")
    });
    Ok(LayerState {
        path: layer.path.clone(),
        kind: layer.kind,
        grid: layer.grid.clone(),
        sums: sums.ok_or("sums")?,
        gram: gram.transpose()?,
        readout: readout.transpose()?,
        info: layer.readout.clone(),
    })
}

fn shape3(view: &TensorView<'_>) -> Option<[usize; 3]> {
    view.shape().try_into().ok()
}

fn doubles(view: &TensorView<'_>) -> Option<Vec<f64>> {
    (view.dtype() == Dtype::F64)
        .then(|| view.data().as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect())
}

fn floats(view: &TensorView<'_>) -> Option<Vec<f32>> {
    (view.dtype() == Dtype::F32)
        .then(|| view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
}
