//! The head of a store's file: what it holds, and of which model and data.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use burn_sfp_graph::FileError;
use serde::{Deserialize, Serialize};

use super::layout::Layout;
use crate::PruneError;

/// The first bytes of a file.
const MAGIC: &[u8; 16] = b"burn-sfp store\r\n";
/// The version of the format.
const VERSION: u32 = 1;
/// Longest description.
const LONGEST: u32 = 1 << 20;
/// Samples begin at a multiple of this.
const ALIGNED: usize = 64;

/// What a store holds, and of which model and data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Contents {
    /// Of the frozen part.
    pub model: String,
    /// Of the teacher, empty where there is none.
    pub teacher: String,
    /// Of the first batch.
    pub data: String,
    /// The name that the caller gave the data.
    pub name: String,
    pub layout: Layout,
    pub copies: usize,
    pub samples: usize,
}

impl Contents {
    /// Bytes of all samples.
    pub fn bytes(&self) -> u64 {
        (self.copies as u64).saturating_mul(self.samples as u64).saturating_mul(self.layout.bytes() as u64)
    }

    /// The head of a file: the format, its version, the length of the description, its checksum, and the description.
    pub fn head(&self, path: &Path) -> Result<Vec<u8>, FileError> {
        let invalid = |error: serde_json::Error| FileError::Content { path: path.into(), message: error.to_string() };
        let text = serde_json::to_vec(self).map_err(invalid)?;
        let mut head = MAGIC.to_vec();
        head.extend(VERSION.to_le_bytes());
        head.extend((text.len() as u32).to_le_bytes());
        head.extend(crc32fast::hash(&text).to_le_bytes());
        head.extend(text);
        head.resize(head.len().next_multiple_of(ALIGNED), 0);
        Ok(head)
    }

    /// Reads the head of a file, and returns where the samples begin. The file has to be of exactly the length that it says.
    pub fn read(path: &Path, file: &mut File) -> Result<(Self, usize), PruneError> {
        let failed = |source| FileError::Io { path: path.into(), action: "read", source };
        let length = file.metadata().map_err(failed)?.len();
        let foreign = |found: &str| FileError::Foreign {
            path: path.into(),
            expected: "a store of frozen outputs",
            found: found.to_string(),
        };
        let mut first = [0; 28];
        file.read_exact(&mut first).map_err(|_| foreign("it is shorter than a head"))?;
        let number = |at: usize| u32::from_le_bytes([first[at], first[at + 1], first[at + 2], first[at + 3]]);
        if !first.starts_with(MAGIC) {
            return Err(foreign("it begins otherwise").into());
        }
        if number(16) != VERSION {
            let (what, advice) = ("a store of frozen outputs", "delete it, and it is made again");
            let found = number(16).into();
            return Err(FileError::Version { path: path.into(), what, found, expected: VERSION, advice }.into());
        }
        if number(20) > LONGEST {
            return Err(foreign("its description is too long").into());
        }
        let mut text = vec![0; number(20) as usize];
        file.read_exact(&mut text).map_err(|_| foreign("its description is cut off"))?;
        if crc32fast::hash(&text) != number(24) {
            return Err(FileError::Checksum { path: path.into() }.into());
        }
        let invalid = |error: serde_json::Error| FileError::Content { path: path.into(), message: error.to_string() };
        let contents: Self = serde_json::from_slice(&text).map_err(invalid)?;
        let start = (first.len() + text.len()).next_multiple_of(ALIGNED);
        let expected = contents.bytes().saturating_add(start as u64);
        if length != expected {
            return Err(FileError::Length { path: path.into(), found: length, expected }.into());
        }
        Ok((contents, start))
    }

    /// Refuses a store of something else.
    pub fn is_as_expected(&self, expected: &Self, path: &Path) -> Result<(), PruneError> {
        let what = match () {
            () if self == expected => return Ok(()),
            () if self.model != expected.model => "it was made with other frozen layers",
            () if self.teacher != expected.teacher => "it was made with another teacher, or with none",
            () if self.name != expected.name => "its data has another name",
            () if self.data != expected.data => "the first batch of its data is another one",
            () if self.layout != expected.layout => "it has another layout or precision",
            () => "it holds another number of copies or samples",
        };
        Err(PruneError::OtherStore { path: path.into(), what: what.into() })
    }
}
