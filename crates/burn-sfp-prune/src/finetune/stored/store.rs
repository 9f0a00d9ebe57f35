//! The bytes of a store, in memory or in a file.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use burn::tensor::Device;
use burn_sfp_graph::file::replace;
use burn_sfp_graph::{FileError, FrozenOutputs};
use memmap2::Mmap;

use super::super::source::Example;
use super::config::StoreConfig;
use super::head::Contents;
use crate::PruneError;

/// Stored samples of all copies.
pub(super) struct Store {
    pub contents: Contents,
    bytes: Bytes,
    /// Where the samples begin.
    start: usize,
}

enum Bytes {
    Memory(Vec<u8>),
    Mapped(Mmap),
}

/// Writes all samples, copy after copy.
pub(super) type Fill<'a> = &'a mut dyn FnMut(&mut dyn Write) -> Result<(), PruneError>;

impl Store {
    /// Opens the store of the settings' file where it is there, or makes it.
    pub fn open_or_fill(config: &StoreConfig, contents: Contents, fill: Fill<'_>) -> Result<Self, PruneError> {
        let Some(path) = &config.file else { return Self::temporary(config, contents, fill) };
        if !path.exists() {
            let head = contents.head(path)?;
            let mut failed = None;
            let written = replace(path, |file| {
                let mut into = BufWriter::new(file);
                into.write_all(&head)?;
                // The caller's own error comes back by this way, and nothing is renamed.
                fill(&mut into).map_err(|error| {
                    failed = Some(error);
                    io::Error::other("it could not be filled")
                })?;
                into.flush()
            });
            match (failed, written) {
                (Some(error), _) => return Err(error),
                (None, written) => written?,
            }
        }
        Self::open(path, &contents)
    }

    fn open(path: &Path, expected: &Contents) -> Result<Self, PruneError> {
        let failed = |source| FileError::Io { path: path.into(), action: "read", source };
        let mut file = File::open(path).map_err(failed)?;
        let (contents, start) = Contents::read(path, &mut file)?;
        contents.is_as_expected(expected, path)?;
        Ok(Self { contents, bytes: Bytes::Mapped(map(&file).map_err(failed)?), start })
    }

    fn temporary(config: &StoreConfig, contents: Contents, fill: Fill<'_>) -> Result<Self, PruneError> {
        let (bytes, limit) = (contents.bytes(), config.memory);
        if bytes <= limit {
            let mut memory = Vec::new();
            let reserved = usize::try_from(bytes).is_ok_and(|bytes| memory.try_reserve_exact(bytes).is_ok());
            if reserved {
                fill(&mut memory)?;
                return Ok(Self { contents, bytes: Bytes::Memory(memory), start: 0 });
            }
        }
        let Some(folder) = &config.spill else { return Err(PruneError::StoreTooLarge { bytes, limit }) };
        let failed = |source| FileError::Io { path: folder.clone(), action: "written", source };
        let mut file = tempfile::tempfile_in(folder).map_err(failed)?;
        let mut into = BufWriter::new(&mut file);
        fill(&mut into)?;
        into.flush().map_err(failed)?;
        drop(into);
        Ok(Self { contents, bytes: Bytes::Mapped(map(&file).map_err(failed)?), start: 0 })
    }

    fn sample(&self, copy: usize, sample: usize) -> &[u8] {
        let each = self.contents.layout.bytes();
        let at = self.start + (copy * self.contents.samples + sample) * each;
        let all: &[u8] = match &self.bytes {
            Bytes::Memory(bytes) => bytes,
            Bytes::Mapped(bytes) => bytes,
        };
        &all[at..at + each]
    }

    /// A batch of samples of a copy.
    pub fn batch(&self, copy: usize, samples: &[usize], device: &Device) -> Example<FrozenOutputs> {
        let samples: Vec<&[u8]> = samples.iter().map(|&sample| self.sample(copy, sample)).collect();
        self.contents.layout.decode(&samples, device)
    }
}

/// Maps a file, which has its whole length. An empty one cannot be mapped.
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the file is read only. That nobody truncates or changes it meanwhile is what `StoreConfig::file` asks for; a temporary file
    // has no name by which anybody could.
    unsafe { Mmap::map(file) }
}
