//! An analysis with its state in one safetensors file.

use std::io::Write;
use std::path::Path;

use burn_sfp_graph::FileError;
use burn_sfp_graph::file::{Format, Opened, TensorEntry, save_tensors};
use ndarray::{Array2, Array3, ArrayBase, Data, Dimension};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use super::layer::{LayerAnalysis, LayerState};
use super::result::Analysis;
use crate::SfpError;

/// The tensor that holds the analysis as JSON.
const ANALYSIS: &str = "analysis";
/// Writes the file.
pub(super) fn save(analysis: &Analysis, path: &Path, format: &Format) -> Result<(), SfpError> {
    let invalid = |error: serde_json::Error| FileError::Content { path: path.into(), message: error.to_string() };
    let json = serde_json::to_vec(analysis).map_err(invalid)?;
    Ok(save_tensors(path, format, entries(analysis, &json)?)?)
}

/// The tensors of the file.
fn entries<'a>(analysis: &'a Analysis, json: &'a [u8]) -> Result<Vec<TensorEntry<'a>>, SfpError> {
    let mut entries = Vec::new();
    for layer in &analysis.layers {
        let Some(state) = &layer.state else {
            let what = format!("layer `{}` kept no state; analyse with `with_state(true)`", layer.path);
            return Err(SfpError::Merge(what));
        };
        let name = |part: &str| format!("{}/{part}", layer.path);
        entries.push(entry(name("sums"), &state.sums));
        entries.extend(state.gram.iter().map(|gram| entry(name("gram"), gram)));
        entries.extend(state.readout.iter().map(|readout| TensorEntry {
            name: name("readout"),
            dtype: "F32",
            element_bytes: 4,
            shape: readout.shape().to_vec(),
            write: Box::new(|body| readout.iter().try_for_each(|value| body.write_all(&value.to_le_bytes()))),
        }));
    }
    let (name, shape) = (ANALYSIS.to_string(), vec![json.len()]);
    let write = Box::new(|body: &mut dyn Write| body.write_all(json));
    entries.push(TensorEntry { name, dtype: "U8", element_bytes: 1, shape, write });
    Ok(entries)
}

/// A tensor in double precision.
pub(crate) fn entry<S: Data<Elem = f64>, D: Dimension>(name: String, values: &ArrayBase<S, D>) -> TensorEntry<'_> {
    TensorEntry {
        name,
        dtype: "F64",
        element_bytes: 8,
        shape: values.shape().to_vec(),
        write: Box::new(|body| values.iter().try_for_each(|value| body.write_all(&value.to_le_bytes()))),
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

pub(crate) fn shape3(view: &TensorView<'_>) -> Option<[usize; 3]> {
    view.shape().try_into().ok()
}

pub(crate) fn doubles(view: &TensorView<'_>) -> Option<Vec<f64>> {
    (view.dtype() == Dtype::F64)
        .then(|| view.data().as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect())
}

fn floats(view: &TensorView<'_>) -> Option<Vec<f32>> {
    (view.dtype() == Dtype::F32)
        .then(|| view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
}
