//! Where training stands, as a file: the model, the optimiser, the position, and the best model so far.

use std::path::Path;

use burn::module::Module;
use burn::optim::{ModuleOptimizer, OptimizerRecord};
use burn::tensor::Bytes;
use burn_sfp_graph::file::{Format, TensorEntry, open, save_tensors};
use burn_sfp_graph::{FileError, attempt};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use super::rate::Position;
use super::report::EpochReport;
use super::values::{Value, values_of, with_values};
use crate::PruneError;

/// The format of the file.
const FORMAT: Format = Format {
    name: "burn-sfp fine-tuning",
    what: "a checkpoint of fine-tuning",
    version: 1,
    advice: "delete it, and training starts again",
};

/// What a checkpoint says beside the values.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Progressed {
    /// Of the model, its plan, the settings and the data.
    pub key: String,
    pub position: Position,
    /// Sums over the epoch that has begun: loss and hits.
    pub sums: (f64, u64, u64),
    pub epochs: Vec<EpochReport>,
    /// Index of the best epoch.
    pub best: Option<usize>,
    /// Whether training is over.
    pub is_done: bool,
}

/// The tensors of a checkpoint by name.
#[derive(Serialize, Deserialize)]
struct State {
    progressed: Progressed,
    model: Vec<Value>,
    best: Option<Vec<Value>>,
}

/// A checkpoint that was read.
pub(super) struct Loaded<M> {
    pub progressed: Progressed,
    pub model: M,
    pub best: Option<M>,
    pub optimizer: ModuleOptimizer,
}

/// Writes a checkpoint, whole or not at all.
pub(super) fn save<M: Module>(
    path: &Path,
    progressed: &Progressed,
    model: &M,
    best: Option<&M>,
    optimizer: &ModuleOptimizer,
) -> Result<(), PruneError> {
    let invalid = |message: String| FileError::Content { path: path.into(), message };
    let (model, model_bytes) = values_of(model);
    let (best, best_bytes) = best.map(values_of).unzip();
    let state = State { progressed: progressed.clone(), model, best };
    let state = serde_json::to_vec(&state).map_err(|error| invalid(error.to_string()))?;
    let optimizer = optimizer.into_bytes().map_err(|error| invalid(format!("{error:?}")))?;
    let optimizer = optimizer.to_vec();
    let best_bytes = best_bytes.unwrap_or_default();
    let entries = [("state", &state), ("model", &model_bytes), ("best", &best_bytes), ("optimizer", &optimizer)];
    let entries = entries.into_iter().map(|(name, bytes)| TensorEntry {
        name: name.to_string(),
        dtype: "U8",
        element_bytes: 1,
        shape: vec![bytes.len()],
        write: Box::new(move |into| into.write_all(bytes)),
    });
    Ok(save_tensors(path, &FORMAT, entries.collect())?)
}

/// Reads a checkpoint of this key. `like` is the model in evaluation mode, `optimizer` in its first state.
pub(super) fn load<M: Module>(
    path: &Path,
    key: &str,
    like: &M,
    optimizer: ModuleOptimizer,
) -> Result<Loaded<M>, PruneError> {
    let opened = open(path, &[&FORMAT])?;
    let invalid = |message: String| FileError::Content { path: path.into(), message };
    let tensors = SafeTensors::deserialize(opened.bytes()).map_err(|error| invalid(error.to_string()))?;
    let bytes = |name: &str| {
        let tensor = tensors.tensor(name).map_err(|error| invalid(error.to_string()))?;
        Ok::<_, FileError>(tensor.data())
    };
    let state: State = serde_json::from_slice(bytes("state")?).map_err(|error| invalid(error.to_string()))?;
    if state.progressed.key != key {
        return Err(PruneError::OtherCheckpoint { path: path.into() });
    }
    let put = |values: &[Value], bytes: &[u8]| {
        let put = with_values(like.valid(), values, bytes);
        put.ok_or_else(|| invalid("its values are not those of the model".into()))
    };
    let model = put(&state.model, bytes("model")?)?;
    let best = match &state.best {
        Some(values) => Some(put(values, bytes("best")?)?),
        None => None,
    };
    let record = OptimizerRecord::from_bytes(Bytes::from_bytes_vec(bytes("optimizer")?.to_vec()));
    let record = record.map_err(|error| invalid(format!("{error:?}")))?;
    // Burn restores states on its default device, which may fail.
    let optimizer = attempt(|| optimizer.load_record(record)).map_err(invalid)?;
    Ok(Loaded { progressed: state.progressed, model, best, optimizer })
}
