//! Weights of torchvision's ResNets, from PyTorch's own files or from safetensors files.

use std::path::{Path, PathBuf};

use burn_store::{ApplyResult, KeyRemapper, ModuleSnapshot, PyTorchToBurnAdapter, SafetensorsStore};
use models::resnet::ResNet;

/// Weights could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file cannot be read as what its name says.
    #[error("{}: {message}; give a .pt, .pth or .safetensors file with the state dict of a ResNet", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        message: String,
    },
    /// The file holds another network.
    #[error(
        "{}: holds the weights of another network: {missing} parameters are missing or do not fit, {unused} are left over; the first: \
         {first}; give the network that the weights are of",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// How many parameters of the network are missing or do not fit.
        missing: usize,
        /// How many of the file's are left over.
        unused: usize,
        /// The first of them.
        first: String,
    },
}

/// PyTorch's count of training batches, which Burn's normalisation has no use for.
const COUNT: &str = ".num_batches_tracked";

/// Loads weights with torchvision's names (`conv1`, `bn1`, `layer1.0.conv1`, .., `fc`) into a network of the zoo. `blocks` is the number of
/// blocks of each stage.
///
/// # Errors
/// [`WeightsError`] where the file cannot be read, or holds the weights of another network.
pub fn load(path: &Path, mut model: ResNet, blocks: &[usize]) -> Result<ResNet, WeightsError> {
    let failed = |message: String| WeightsError::File { path: path.into(), message };
    let names = zoo_names(blocks);
    let is_safetensors = path.extension().is_some_and(|extension| extension == "safetensors");
    let result = if is_safetensors {
        // The adapter transposes the weights of linear layers.
        let store = SafetensorsStore::from_file(path).with_from_adapter(PyTorchToBurnAdapter).remap(names);
        model.load_from(&mut store.validate(false).allow_partial(true)).map_err(|error| failed(error.to_string()))?
    } else {
        from_pt(path, &mut model, names).map_err(failed)?
    };
    complete(path, result).map(|()| model)
}

/// Loads PyTorch's own format.
#[cfg(feature = "pytorch")]
fn from_pt(path: &Path, model: &mut ResNet, names: KeyRemapper) -> Result<ApplyResult, String> {
    // This store transposes of its own accord.
    let store = burn_store::PytorchStore::from_file(path).remap(names);
    model.load_from(&mut store.validate(false).allow_partial(true)).map_err(|error| error.to_string())
}

#[cfg(not(feature = "pytorch"))]
fn from_pt(_: &Path, _: &mut ResNet, _: KeyRemapper) -> Result<ApplyResult, String> {
    Err("this build does not read PyTorch's own format: build it with `--features pytorch`".into())
}

/// Every parameter came from the file, and the file held no other.
fn complete(path: &Path, result: ApplyResult) -> Result<(), WeightsError> {
    let misfits = result.errors.iter().map(ToString::to_string);
    let missing: Vec<String> = misfits.chain(result.missing.into_iter().map(|(name, _)| name)).collect();
    let unused: Vec<String> = result.unused.into_iter().filter(|name| !name.ends_with(COUNT)).collect();
    match missing.iter().chain(&unused).next() {
        None => Ok(()),
        Some(first) => {
            let (missing, unused, first) = (missing.len(), unused.len(), first.clone());
            Err(WeightsError::Foreign { path: path.into(), missing, unused, first })
        }
    }
}

/// From torchvision's names to those of the zoo, where the blocks of all stages stand in one list.
fn zoo_names(blocks: &[usize]) -> KeyRemapper {
    let mut patterns: Vec<(String, String)> = vec![
        (r"^conv1\.".into(), "stem.conv.".into()),
        (r"^bn1\.".into(), "stem.norm.".into()),
        (r"^fc\.".into(), "classifier.".into()),
    ];
    let stages = blocks.iter().enumerate().flat_map(|(stage, &count)| (0..count).map(move |block| (stage + 1, block)));
    for (index, (stage, block)) in stages.enumerate() {
        patterns.push((format!(r"^layer{stage}\.{block}\."), format!("blocks.{index}.")));
    }
    for layer in 0..3 {
        let number = layer + 1;
        patterns.push((format!(r"^(blocks\.\d+)\.conv{number}\."), format!("$1.branch.{layer}.conv.")));
        patterns.push((format!(r"^(blocks\.\d+)\.bn{number}\."), format!("$1.branch.{layer}.norm.")));
    }
    patterns.push((r"\.downsample\.0\.".into(), ".shortcut.conv.".into()));
    patterns.push((r"\.downsample\.1\.".into(), ".shortcut.norm.".into()));
    // Burn's adapter renames those of its own normalisation, and the zoo has one that can be folded.
    patterns.push((r"\.norm\.weight$".into(), ".norm.gamma".into()));
    patterns.push((r"\.norm\.bias$".into(), ".norm.beta".into()));
    let add = |names: KeyRemapper, (from, to): (String, String)| names.clone().add_pattern(from, to).unwrap_or(names);
    patterns.into_iter().fold(KeyRemapper::new(), add)
}
