//! A pruned model in a burnpack file.
//!
//! The metadata hold the format, the version, the length of the file and a checksum over all of its bytes, taken with zeros in place of
//! its own digits.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::Path;

use burn::store::bridge::into_data;
use burn::store::burn_pack::{HEADER_SIZE, Header, MAGIC_NUMBER, Reader, Tensor, Writer};
use burn::tensor::{Bytes, DType, TensorData};
use burn_sfp_core::SfpError;
use burn_sfp_graph::file::{checksum_around, open_regular, replace};
use burn_sfp_graph::{FileError, attempt};

use super::precision::{not_saved, quantised};
use super::{FORMAT, PLAN};
use crate::PruneError;

/// Digits of a checksum that is not known yet.
const UNKNOWN: &str = "00000000";
/// Digits of the length, so that the length of the file does not depend on itself.
const DIGITS: usize = 20;

/// The first bytes of a burnpack file.
pub(super) fn magic() -> [u8; 4] {
    MAGIC_NUMBER.to_le_bytes()
}

/// Writes tensors and a plan.
pub(super) fn write(path: &Path, tensors: Vec<Tensor>, plan: &[u8]) -> Result<(), PruneError> {
    let mut resident = Vec::with_capacity(tensors.len() + 1);
    for tensor in tensors {
        let name = tensor.name.clone();
        if matches!(tensor.dtype, DType::QFloat(_)) {
            return Err(quantised(name));
        }
        let (name, dtype, shape, _, bytes) = tensor.into_parts().map_err(|error| not_saved(&name, error))?;
        // Without ids: they are of this process.
        resident.push(Tensor::new(name, dtype, shape, None, bytes.shared()));
    }
    let bytes = Bytes::from_bytes_vec(plan.to_vec()).shared();
    resident.push(Tensor::new(PLAN.into(), DType::U8, [plan.len()], None, bytes));
    let pack = |length: usize, checksum: &str| {
        let (version, length) = (FORMAT.version.to_string(), format!("{length:0DIGITS$}"));
        let metadata = [("format", FORMAT.name), ("version", &version), ("length", &length), ("checksum", checksum)];
        metadata.iter().fold(Writer::new(resident.clone()), |writer, (key, value)| writer.with_metadata(key, value))
    };
    let invalid = |message: String| SfpError::from(FileError::Content { path: path.into(), message });
    let length = pack(0, UNKNOWN).size().map_err(|error| invalid(format!("{error:?}")))?;
    let mut bytes = pack(length, UNKNOWN).into_bytes().map_err(|error| invalid(format!("{error:?}")))?.to_vec();
    let at =
        value_at(&bytes, "checksum", UNKNOWN.len()).ok_or_else(|| invalid("it has no room for a checksum".into()))?;
    let digits = checksum_around(&bytes, at);
    bytes[at..][..digits.len()].copy_from_slice(digits.as_bytes());
    Ok(replace(path, |file| file.write_all(&bytes)).map_err(SfpError::from)?)
}

/// Where the text of `length` bytes under a key of the metadata is: CBOR writes the length of a text before it.
fn value_at(metadata: &[u8], key: &str, length: usize) -> Option<usize> {
    let text = |length: usize| 0x60 + length as u8;
    let pattern = [&[text(key.len())], key.as_bytes(), &[text(length)]].concat();
    let at = metadata.windows(pattern.len()).position(|window| window == pattern)? + pattern.len();
    (at + length <= metadata.len()).then_some(at)
}

/// Reads what [`write`] wrote: the values by path, the plan among them.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, TensorData>, FileError> {
    let bytes = read_checked(path)?;
    attempt(|| parse(path, bytes)).unwrap_or_else(|message| Err(foreign(path, message)))
}

fn foreign(path: &Path, found: String) -> FileError {
    FileError::Foreign { path: path.into(), expected: FORMAT.what, found }
}

/// Reads the file if its length and its checksum are right. No more memory is allocated than the file has bytes.
fn read_checked(path: &Path) -> Result<Vec<u8>, FileError> {
    let fail = |source: io::Error| FileError::Io { path: path.into(), action: "read", source };
    let (mut file, found) = open_regular(path)?;
    let mut bytes = Vec::new();
    (&mut file).take(HEADER_SIZE as u64).read_to_end(&mut bytes).map_err(fail)?;
    let header = Header::from_bytes(&bytes).map_err(|error| foreign(path, format!("{error:?}")))?;
    (&mut file).take(u64::from(header.metadata_size)).read_to_end(&mut bytes).map_err(fail)?;
    let strange = || foreign(path, "its metadata are not those of such a file".into());
    let text = |bytes: &[u8], key, length| {
        let at = value_at(bytes, key, length)?;
        Some((at, String::from_utf8_lossy(&bytes[at..][..length]).into_owned()))
    };
    let (_, length) = text(&bytes, "length", DIGITS).ok_or_else(strange)?;
    let (at, checksum) = text(&bytes, "checksum", UNKNOWN.len()).ok_or_else(strange)?;
    let expected = length.parse::<u64>().map_err(|_| strange())?;
    if expected != found {
        return Err(FileError::Length { path: path.into(), found, expected });
    }
    file.take(found).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 != found || checksum_around(&bytes, at) != checksum {
        return Err(FileError::Checksum { path: path.into() });
    }
    Ok(bytes)
}

fn parse(path: &Path, bytes: Vec<u8>) -> Result<BTreeMap<String, TensorData>, FileError> {
    let strange = |error| foreign(path, format!("{error:?}"));
    let reader = Reader::from_bytes(Bytes::from_bytes_vec(bytes)).map_err(strange)?;
    let value = |key: &str| reader.metadata().get(key).cloned().unwrap_or_default();
    if value("format") != FORMAT.name {
        return Err(foreign(path, format!("it says that it is a `{}`", value("format"))));
    }
    match value("version").parse::<u64>() {
        Ok(version) if version == u64::from(FORMAT.version) => {}
        Ok(found) => return Err(FORMAT.other_version(path, found)),
        Err(_) => return Err(foreign(path, format!("it says that it is of version `{}`", value("version")))),
    }
    let tensors = reader.into_tensors().map_err(strange)?;
    tensors.into_iter().map(|tensor| Ok((tensor.name.clone(), into_data(tensor).map_err(strange)?))).collect()
}
