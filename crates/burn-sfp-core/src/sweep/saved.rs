//! The sums of a sweep in a file, from which an interrupted one goes on.

use std::fs;
use std::path::Path;

use burn_sfp_graph::file::{Format, Opened, TensorEntry, digest, open, save_tensors};
use ndarray::{Array2, Array3};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use super::partial::{Partial, TargetSums};
use super::pass::Sweep;
use super::target::AnalysisTarget;
use crate::analysis::{doubles, entry, shape3};
use crate::config::AnalyzeConfig;
use crate::pool::DevicePool;
use crate::{SfpError, SfpModule};

const FORMAT: Format =
    Format { name: "burn-sfp sums", what: "the sums of an analysis", version: 1, advice: "start the analysis anew" };
/// The tensor that holds the state as JSON.
const STATE: &str = "state";

/// The file of a pool, for sweeps of batches that are cut into so many parts.
pub(super) struct Saved<'a> {
    path: &'a Path,
    /// Chunks between writing it, 0 for none.
    every: usize,
    parts: usize,
    settings: String,
}

/// What is in the file beside the sums.
#[derive(Serialize, Deserialize)]
struct State {
    /// Tells one analysis from another.
    key: String,
    /// Parts that batches were cut into.
    parts: usize,
    /// Chunks whose sums are in the file.
    chunks: usize,
    /// Samples of each label.
    counts: Vec<u64>,
    hits: usize,
}

impl<'a> Saved<'a> {
    /// `None` where the pool has no file.
    pub fn new(pool: &'a DevicePool, config: &AnalyzeConfig, parts: usize) -> Option<Self> {
        let (path, every) = pool.saves()?;
        let settings = format!("{} {}", digest(config), pool.batches());
        Some(Self { path, every, parts, settings })
    }

    /// Whether it is time to write the file.
    pub fn is_due(&self, chunks: usize) -> bool {
        self.every > 0 && chunks.is_multiple_of(self.every)
    }

    /// The parts that batches were cut into for the sums of a file, 1 without a file.
    pub fn parts(path: &Path) -> Result<usize, SfpError> {
        if !path.exists() {
            return Ok(1);
        }
        let file = open(path, &[&FORMAT])?;
        let tensors = SafeTensors::deserialize(file.bytes()).map_err(|error| file.invalid(error))?;
        Ok(state(&file, &tensors)?.parts.max(1))
    }

    /// Adds the sums of the file to a sweep that has none yet; returns the number of chunks that they are of, 0 without a file.
    pub fn load<M: SfpModule>(&self, sweep: &mut Sweep<'_, M>) -> Result<usize, SfpError> {
        if !self.path.exists() {
            return Ok(0);
        }
        let file = open(self.path, &[&FORMAT])?;
        let tensors = SafeTensors::deserialize(file.bytes()).map_err(|error| file.invalid(error))?;
        let state = state(&file, &tensors)?;
        // Batches of another size have other sums.
        if state.parts != self.parts {
            return Ok(0);
        }
        if state.key != self.key(sweep) {
            return Err(SfpError::OtherCheckpoint { path: self.path.into() });
        }
        let missing = |name: &str| SfpError::from(file.invalid(format!("`{name}` is missing or has another shape")));
        let sums = |name: String| -> Result<Option<Array3<f64>>, SfpError> {
            let Ok(view) = tensors.tensor(&name) else { return Ok(None) };
            let read = || Array3::from_shape_vec(shape3(&view)?, doubles(&view)?).ok();
            read().map(Some).ok_or_else(|| missing(&name))
        };
        let gram = |name: String| -> Result<Option<Array2<f64>>, SfpError> {
            let Ok(view) = tensors.tensor(&name) else { return Ok(None) };
            let read = || Array2::from_shape_vec(<[usize; 2]>::try_from(view.shape()).ok()?, doubles(&view)?).ok();
            read().map(Some).ok_or_else(|| missing(&name))
        };
        let mut part = Partial { counts: state.counts, hits: state.hits, ..Partial::default() };
        if part.counts.len() != sweep.runner.network.classes() {
            return Err(missing("counts"));
        }
        for target in &sweep.targets {
            let [of_sums, of_gram] = ["sums", "gram"].map(|part| name("layers", &target.path, part));
            part.targets.push(TargetSums { sums: sums(of_sums)?, gram: gram(of_gram)? });
        }
        for input in &sweep.inputs.own {
            part.inputs.push(sums(name("inputs", input.path(), "sums"))?);
        }
        sweep.add(part)?;
        Ok(state.chunks)
    }

    /// Writes the sums of the first chunks.
    pub fn save<M: SfpModule>(&self, sweep: &Sweep<'_, M>, chunks: usize) -> Result<(), SfpError> {
        // An analysis that will end in an error is not worth going on with.
        if sweep.undefined.is_some() {
            return Ok(());
        }
        let (counts, hits) = (sweep.counts.of_current_pass().to_vec(), sweep.hits);
        let state = State { key: self.key(sweep), parts: self.parts, chunks, counts, hits };
        let json = serde_json::to_vec(&state)
            .map_err(|error| SfpError::InvalidAnalysis(format!("its state cannot be written: {error}")))?;
        let mut entries = Vec::new();
        for target in &sweep.targets {
            let sums = target.sums.as_ref().and_then(|sums| sums.host());
            entries.extend(sums.map(|sums| entry(name("layers", &target.path, "sums"), sums)));
            let gram = target.gram.as_ref().and_then(|gram| gram.host());
            entries.extend(gram.map(|gram| entry(name("layers", &target.path, "gram"), gram)));
        }
        for input in &sweep.inputs.own {
            entries.extend(input.host().map(|sums| entry(name("inputs", input.path(), "sums"), sums)));
        }
        let shape = vec![json.len()];
        let write = Box::new(move |body: &mut dyn std::io::Write| body.write_all(&json));
        entries.push(TensorEntry { name: STATE.into(), dtype: "U8", element_bytes: 1, shape, write });
        Ok(save_tensors(self.path, &FORMAT, entries)?)
    }

    /// Removes the file, once there is nothing left to go on with.
    pub fn remove(path: &Path) -> Result<(), SfpError> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(burn_sfp_graph::FileError::Io { path: path.into(), action: "removed", source: error }.into())
            }
            _ => Ok(()),
        }
    }

    fn key<M: SfpModule>(&self, sweep: &Sweep<'_, M>) -> String {
        let network = &sweep.runner.network;
        let of_target = |target: &AnalysisTarget| (target.path.clone(), target.probe.tap(network).shape);
        let targets: Vec<(String, Vec<usize>)> = sweep.targets.iter().map(of_target).collect();
        let layers: Vec<(&str, &[usize], &[usize])> =
            network.layers().iter().map(|layer| (layer.path.as_str(), layer.stride(), layer.input_shape())).collect();
        let shapes = (network.input_shapes(), targets, layers);
        format!("{:08x}", digest(&(network.fingerprint(), shapes, &self.settings)))
    }
}

fn state(file: &Opened, tensors: &SafeTensors<'_>) -> Result<State, SfpError> {
    let json = tensors.tensor(STATE).map_err(|error| file.invalid(error))?;
    Ok(serde_json::from_slice(json.data()).map_err(|error| file.invalid(error))?)
}

fn name(kind: &str, path: &str, part: &str) -> String {
    format!("{kind}/{path}/{part}")
}
