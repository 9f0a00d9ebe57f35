//! Trained weights, with PyTorch's names and layouts, from a safetensors file.

use std::path::Path;

use burn::store::{ModuleSnapshot, PyTorchToBurnAdapter, SafetensorsStore};
use burn::tensor::Device;

use crate::error::ExampleError;
use crate::model::{Vgg11, Vgg11Config};

/// PyTorch's count of training batches, which Burn's normalisation has no use for.
const UNUSED: &str = ".num_batches_tracked";

/// The VGG-11 of a safetensors file (`convs.K.*`, `norms.K.*`, `fc.weight`).
///
/// # Errors
/// [`ExampleError`]: the file is missing, truncated, no safetensors file, or holds another model.
pub fn load(path: &Path, device: &Device) -> Result<Vgg11, ExampleError> {
    std::fs::File::open(path).map_err(|source| ExampleError::Weights { path: path.into(), source })?;
    let mut model = Vgg11Config::new().init(device);
    let mut store =
        SafetensorsStore::from_file(path).with_from_adapter(PyTorchToBurnAdapter).validate(false).allow_partial(true);
    let result = model
        .load_from(&mut store)
        .map_err(|error| ExampleError::NotSafetensors { path: path.into(), message: error.to_string() })?;

    let missing: Vec<String> = result.missing.into_iter().map(|(name, _)| name).collect();
    let unknown: Vec<String> = result.unused.into_iter().filter(|name| !name.ends_with(UNUSED)).collect();
    let misfits: Vec<String> = result.errors.iter().map(ToString::to_string).collect();
    if missing.is_empty() && unknown.is_empty() && misfits.is_empty() {
        Ok(model)
    } else {
        Err(ExampleError::ForeignWeights { path: path.into(), missing, unknown, misfits })
    }
}
