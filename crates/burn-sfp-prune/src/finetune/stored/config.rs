//! [`StoreConfig`]: where and how the outputs of the frozen layers are stored.

use std::path::PathBuf;

use burn_sfp_nn::ConfigError;
use serde::{Deserialize, Serialize};

use super::super::config::out_of_range;

/// The element type of stored floats.
///
/// ```
/// use burn_sfp_prune::{StoreConfig, StorePrecision};
/// let exact = StoreConfig::new().precision(StorePrecision::Float32);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StorePrecision {
    /// IEEE half precision: 11 significant bits, values up to 65,504. Larger ones, which would become infinite, are an error.
    Float16,
    /// The upper half of a single: 8 significant bits and its whole range.
    BFloat16,
    /// Single precision.
    Float32,
}

impl StorePrecision {
    /// Bytes of an element.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Float16 | Self::BFloat16 => 2,
            Self::Float32 => 4,
        }
    }
}

/// Settings of a store for the outputs of the frozen layers.
///
/// By default one copy of each sample is stored in half precision in at most 1 GiB of memory, and batches are as long as the first one
/// of the data.
///
/// ```
/// use burn_sfp_prune::{StoreConfig, StorePrecision};
///
/// // Three augmented copies of each sample, in a file that a later run uses again.
/// let store = StoreConfig::new().copies(3).file("features.store").name("CIFAR-100, crops and flips, seed 1");
/// // In memory as far as 256 MiB go, else in a temporary file.
/// let store = StoreConfig::new().copies(3).memory(256 << 20).spill(std::env::temp_dir());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    pub(super) copies: usize,
    pub(super) precision: StorePrecision,
    pub(super) batch_size: Option<usize>,
    pub(super) seed: u64,
    pub(super) memory: u64,
    pub(super) spill: Option<PathBuf>,
    pub(super) file: Option<PathBuf>,
    pub(super) name: String,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl StoreConfig {
    /// Creates the settings with their defaults.
    pub fn new() -> Self {
        Self {
            copies: 1,
            precision: StorePrecision::Float16,
            batch_size: None,
            seed: 0,
            memory: 1 << 30,
            spill: None,
            file: None,
            name: String::new(),
        }
    }

    /// Sets the number of augmented copies of each sample, at least 1. Epoch `e` takes copy `e mod copies`.
    pub fn copies(mut self, copies: usize) -> Self {
        self.copies = copies;
        self
    }

    /// Sets the element type of stored floats. Values of another type are converted.
    pub fn precision(mut self, precision: StorePrecision) -> Self {
        self.precision = precision;
        self
    }

    /// Sets the samples of a training batch, at least 2; the last batch of an epoch may hold fewer.
    pub fn batch_size(mut self, samples: usize) -> Self {
        self.batch_size = Some(samples);
        self
    }

    /// Sets the seed of the order of the samples; see [`epoch_order`](super::epoch_order).
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets how many bytes a store in memory may take. A larger one is an error, unless there is a folder to spill to.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = bytes;
        self
    }

    /// Sets the folder for a temporary file, which a store that is larger than the memory allowed goes to. It disappears with the store.
    pub fn spill(mut self, folder: impl Into<PathBuf>) -> Self {
        self.spill = Some(folder.into());
        self
    }

    /// Keeps the store in this file, whatever its size, which is read through memory mapping. A file that is there already is used again;
    /// where it is the store of another model or of other data, it is an error and stays as it is. The file must not change meanwhile.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(path.into());
        self
    }

    /// Sets a name of the data and its augmentation, which a file has to carry to be used again. The labels and the first batch are compared
    /// as well; what else changed in the data only the name can tell.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Refuses settings that are out of range.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.copies == 0 {
            return Err(out_of_range("copies of a store", 0, "at least 1"));
        }
        match self.batch_size {
            Some(size @ (0 | 1)) => Err(out_of_range("batch size of a store", size, "at least 2")),
            _ => Ok(()),
        }
    }
}
