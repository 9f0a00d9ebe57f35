//! Saving and loading: readable JSON, and on request a safetensors file beside it with what merging needs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ndarray::{Array2, Array3};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};

use super::layer::{LayerAnalysis, LayerState};
use super::result::{ANALYSIS_VERSION, Analysis};
use crate::SfpError;
use crate::file::{read_json, write_atomically, write_json};

impl Analysis {
    /// Writes the analysis as JSON. The file appears whole or not at all.
    ///
    /// # Errors
    /// [`SfpError::File`] where it cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), SfpError> {
        write_json(path.as_ref(), self)
    }

    /// Writes the JSON file and, beside it with the extension `safetensors`, the state that merging needs.
    ///
    /// ```
    /// # use burn_sfp_core::{Analysis, SfpError};
    /// fn merge_files(first: &str, second: &str, into: &str) -> Result<(), SfpError> {
    ///     Analysis::load(first)?.merge(&Analysis::load(second)?)?.save_with_state(into)
    /// }
    /// ```
    ///
    /// # Errors
    /// [`SfpError::File`] where a file cannot be written, [`SfpError::Merge`] where no state was kept.
    pub fn save_with_state(&self, path: impl AsRef<Path>) -> Result<(), SfpError> {
        let path = path.as_ref();
        let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
        for layer in &self.layers {
            let Some(state) = &layer.state else {
                return Err(SfpError::Merge(format!(
                    "layer `{}` kept no state; analyse with `with_state(true)`",
                    layer.path
                )));
            };
            let sums = state.sums.iter().flat_map(|x| x.to_le_bytes()).collect();
            tensors.push((format!("{}/sums", layer.path), Dtype::F64, state.sums.shape().to_vec(), sums));
            if let Some(gram) = &state.gram {
                let bytes = gram.iter().flat_map(|x| x.to_le_bytes()).collect();
                tensors.push((format!("{}/gram", layer.path), Dtype::F64, gram.shape().to_vec(), bytes));
            }
            if let Some(readout) = &state.readout {
                let bytes = readout.iter().flat_map(|x| x.to_le_bytes()).collect();
                tensors.push((format!("{}/readout", layer.path), Dtype::F32, readout.shape().to_vec(), bytes));
            }
        }
        let mut views = Vec::with_capacity(tensors.len());
        for (name, dtype, shape, bytes) in &tensors {
            let view = TensorView::new(*dtype, shape.clone(), bytes).map_err(|error| SfpError::file(path, error))?;
            views.push((name.as_str(), view));
        }
        let bytes = serialize(views, None).map_err(|error| SfpError::file(path, error))?;
        write_atomically(&state_path(path), &bytes)?;
        self.save(path)
    }

    /// Reads an analysis, and its state where the file of [`save_with_state`](Self::save_with_state) is beside it.
    ///
    /// # Errors
    /// [`SfpError::File`] where a file is missing, truncated, foreign or of another version.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, SfpError> {
        let path = path.as_ref();
        let mut analysis: Analysis = read_json(path, "an analysis")?;
        if analysis.version != ANALYSIS_VERSION {
            return Err(SfpError::file(
                path,
                format!(
                    "an analysis of version {}, this build reads version {ANALYSIS_VERSION}: analyse again",
                    analysis.version
                ),
            ));
        }
        let state = state_path(path);
        if state.exists() {
            analysis.load_state(&state)?;
        }
        Ok(analysis)
    }

    fn load_state(&mut self, path: &Path) -> Result<(), SfpError> {
        let bytes = std::fs::read(path).map_err(|error| SfpError::file(path, error))?;
        let file = SafeTensors::deserialize(&bytes)
            .map_err(|error| SfpError::file(path, format!("not the state of an analysis, or truncated: {error}")))?;
        let tensors: HashMap<String, TensorView<'_>> = file.tensors().into_iter().collect();
        for layer in &mut self.layers {
            let read = read_state(layer, &tensors).map_err(|part| {
                let found = format!("`{}/{part}` is missing or has another shape: analyse again", layer.path);
                SfpError::file(path, found)
            });
            layer.state = Some(read?);
        }
        Ok(())
    }
}

/// The state of a layer from the tensors of its file; the error is the name of the part that is missing or has another shape.
fn read_state(layer: &LayerAnalysis, tensors: &HashMap<String, TensorView<'_>>) -> Result<LayerState, &'static str> {
    let find = |part: &str| tensors.get(&format!("{}/{part}", layer.path));
    let &LayerAnalysis { classes, filters, positions, .. } = layer;
    let features = filters * positions;
    let sums = find("sums")
        .and_then(|view| Array3::from_shape_vec(shape3(view)?, doubles(view)?).ok())
        .filter(|sums| sums.dim() == (classes, filters, positions))
        .ok_or("sums")?;
    let gram = find("gram")
        .map(|view| doubles(view).and_then(|all| Array2::from_shape_vec((features, features), all).ok()).ok_or("gram"));
    let readout = find("readout").map(|view| {
        floats(view).and_then(|all| Array3::from_shape_vec((filters, positions, classes), all).ok()).ok_or("readout")
    });
    Ok(LayerState {
        path: layer.path.clone(),
        kind: layer.kind,
        grid: layer.grid.clone(),
        sums,
        gram: gram.transpose()?,
        readout: readout.transpose()?,
        info: layer.readout.clone(),
    })
}

fn state_path(path: &Path) -> PathBuf {
    path.with_extension("safetensors")
}

fn shape3(view: &TensorView<'_>) -> Option<(usize, usize, usize)> {
    match view.shape() {
        &[a, b, c] => Some((a, b, c)),
        _ => None,
    }
}

fn doubles(view: &TensorView<'_>) -> Option<Vec<f64>> {
    (view.dtype() == Dtype::F64)
        .then(|| view.data().as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect())
}

fn floats(view: &TensorView<'_>) -> Option<Vec<f32>> {
    (view.dtype() == Dtype::F32)
        .then(|| view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
}
