//! Saving and loading: readable JSON, or one safetensors file that also holds what merging needs.

use std::path::Path;

use burn_sfp_graph::FileError;
use burn_sfp_graph::file::{Format, open, save_json};

use super::result::{ANALYSIS_VERSION, Analysis};
use super::state_file;
use crate::SfpError;

/// The JSON file.
const PLAIN: Format =
    Format { name: "burn-sfp analysis", what: "an analysis", version: ANALYSIS_VERSION, advice: "analyse again" };
/// The safetensors file.
const WITH_STATE: Format = Format {
    name: "burn-sfp analysis with state",
    what: "an analysis with its state",
    version: ANALYSIS_VERSION,
    advice: "analyse again",
};

impl Analysis {
    /// Writes the analysis, without its state, as JSON with a checksum.
    ///
    /// The file appears whole or not at all, also if the process is killed or another one saves to the same path meanwhile. Symbolic links
    /// are followed, and a file that is replaced keeps its mode.
    ///
    /// # Errors
    /// [`SfpError::InvalidAnalysis`] where [`check`](Self::check) fails, [`SfpError::File`] where the file cannot be written, or
    /// something else than a regular file is at the path.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), SfpError> {
        self.check()?;
        Ok(save_json(path.as_ref(), &PLAIN, self)?)
    }

    /// Writes the analysis together with the state that merging needs, as one safetensors file with a checksum, as [`save`](Self::save)
    /// writes the JSON file. [`load`](Self::load) reads either.
    ///
    /// The file's tensor `analysis` holds the JSON that `save` writes, the others hold the state: `PATH/sums` `[C, F, S]`, `PATH/gram`
    /// `[F S, F S]` where a ridge readout was fitted, and `PATH/readout` `[F, S, C]` of the layer at each `PATH`.
    ///
    /// ```
    /// # use burn_sfp_core::{Analysis, SfpError};
    /// fn merge_files(first: &str, second: &str, into: &str) -> Result<(), SfpError> {
    ///     Analysis::load(first)?.merge(&Analysis::load(second)?)?.save_with_state(into)
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`save`](Self::save), and [`SfpError::Merge`] where no state was kept.
    pub fn save_with_state(&self, path: impl AsRef<Path>) -> Result<(), SfpError> {
        self.check()?;
        state_file::save(self, path.as_ref(), &WITH_STATE)
    }

    /// Reads an analysis from a file of [`save`](Self::save), or with its state from one of
    /// [`save_with_state`](Self::save_with_state).
    ///
    /// # Errors
    /// [`SfpError::File`] where the file is missing, truncated, damaged, foreign or of another version.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, SfpError> {
        let file = open(path.as_ref(), &[&PLAIN, &WITH_STATE])?;
        let invalid = |error: SfpError| -> FileError { file.invalid(error) };
        let analysis = if file.format == 0 { file.json()? } else { state_file::read(&file)? };
        analysis.check().map_err(invalid)?;
        Ok(analysis)
    }
}
