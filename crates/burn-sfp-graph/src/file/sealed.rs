//! Files with a head: format, version, length and checksum.
//!
//! The checksum is CRC-32, which finds every change of up to 32 bits in a row for certain, over all bytes of the file. It guards against
//! damage and accidental edits, not against forgery.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use crc32fast::Hasher;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::FileError;
use super::head::{Format, Head, UNKNOWN};
use super::replace::{not_regular, replace};

/// What follows the content of a JSON file.
const JSON_END: &[u8] = b"}\n";

/// Writes a file with a head. `head` returns it for the digits of a checksum; `body` writes what follows.
///
/// # Errors
/// Those of [`replace`].
pub fn write_sealed(
    path: &Path,
    head: impl Fn(&str) -> Vec<u8>,
    body: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), FileError> {
    replace(path, |file| {
        let unsealed = head(UNKNOWN);
        file.write_all(&unsealed)?;
        let mut checked = Checked { file: &mut *file, hasher: Hasher::new() };
        let mut writer = BufWriter::with_capacity(1 << 20, &mut checked);
        body(&mut writer)?;
        writer.flush()?;
        drop(writer);
        let behind = checked.hasher;
        let mut hasher = Hasher::new();
        hasher.update(&unsealed);
        hasher.combine(&behind);
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&head(&digits(hasher.finalize())))
    })
}

/// Writes a value as JSON with a head in front.
///
/// # Errors
/// Those of [`replace`].
pub fn save_json<T: Serialize>(path: &Path, format: &Format, value: &T) -> Result<(), FileError> {
    let content = to_json(path, value)?;
    let bytes = (content.len() + JSON_END.len()) as u64;
    let head = |checksum: &str| format.json_head(checksum, bytes).into_bytes();
    write_sealed(path, head, |body| {
        body.write_all(&content)?;
        body.write_all(JSON_END)
    })
}

/// Reads a value that [`save_json`] wrote.
///
/// # Errors
/// [`FileError`] where the file is missing, truncated, damaged, foreign or of another version.
pub fn load_json<T: DeserializeOwned>(path: &Path, format: &Format) -> Result<T, FileError> {
    open(path, &[format])?.json()
}

/// Writes a value as plain JSON, for reports that nobody reads back.
///
/// # Errors
/// Those of [`replace`].
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), FileError> {
    let bytes = to_json(path, value)?;
    replace(path, |file| file.write_all(&bytes))
}

/// The checksum of a value as JSON, for values that carry one themselves.
pub fn digest<T: Serialize>(value: &T) -> u32 {
    let mut sink = Checked { file: io::sink(), hasher: Hasher::new() };
    // Nothing can fail but the serialisation of a map with keys that are no strings, which these values do not have.
    let _ = serde_json::to_writer(BufWriter::new(&mut sink), value);
    sink.hasher.finalize()
}

/// A file whose head was understood and whose checksum is right.
#[derive(Debug)]
pub struct Opened {
    path: std::path::PathBuf,
    /// Index of its format among those asked for.
    pub format: usize,
    bytes: Vec<u8>,
    start: usize,
}

impl Opened {
    /// All bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The content of a JSON file.
    ///
    /// # Errors
    /// [`FileError::Content`] where it is not of this type.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, FileError> {
        let content = self.bytes[self.start..].strip_suffix(JSON_END).unwrap_or_default();
        serde_json::from_slice(content).map_err(|error| self.invalid(error))
    }

    /// The error of contents that contradict themselves.
    pub fn invalid(&self, message: impl ToString) -> FileError {
        FileError::Content { path: self.path.clone(), message: message.to_string() }
    }
}

/// Reads a file of one of these formats. No more memory is allocated than the file has bytes, and none for a file of another format.
///
/// # Errors
/// [`FileError`] where the file is missing, truncated, damaged, foreign or of another version.
pub fn open(path: &Path, formats: &[&Format]) -> Result<Opened, FileError> {
    let fail = FileError::read(path);
    let (mut file, length) = open_regular(path)?;
    let mut first = Vec::new();
    (&mut file).take(Head::LONGEST as u64).read_to_end(&mut first).map_err(&fail)?;
    let (head, format) = recognized(path, &first, formats)?;
    let expected = head.start.saturating_add(head.bytes);
    if length != expected {
        return Err(FileError::Length { path: path.to_path_buf(), found: length, expected });
    }
    let bytes = read_all(file, length, first).map_err(&fail)?;
    if checksum_around(&bytes, head.checksum.start).as_bytes() != &bytes[head.checksum.clone()] {
        return Err(FileError::Checksum { path: path.to_path_buf() });
    }
    Ok(Opened { path: path.to_path_buf(), format, start: head.start as usize, bytes })
}

/// The checksum of a whole file, as eight digits, with zeros in place of the digits that begin at `at`.
pub fn checksum_around(bytes: &[u8], at: usize) -> String {
    let mut hasher = Hasher::new();
    hasher.update(&bytes[..at]);
    hasher.update(UNKNOWN.as_bytes());
    hasher.update(&bytes[at + UNKNOWN.len()..]);
    digits(hasher.finalize())
}

/// Whether a file begins with these bytes.
///
/// # Errors
/// [`FileError`] where the file is missing or no regular file.
pub fn begins_with(path: &Path, bytes: &[u8]) -> Result<bool, FileError> {
    let mut first = Vec::new();
    open_regular(path)?.0.take(bytes.len() as u64).read_to_end(&mut first).map_err(FileError::read(path))?;
    Ok(first == bytes)
}

/// Opens a regular file, and returns it with its length: reading a pipe or a device might never end.
///
/// # Errors
/// [`FileError::NotRegular`] where something else is at the path, [`FileError::Io`] where it cannot be read.
pub fn open_regular(path: &Path) -> Result<(File, u64), FileError> {
    let fail = FileError::read(path);
    let refuse = |found| FileError::NotRegular { path: path.to_path_buf(), found };
    let kind = |found: std::fs::Metadata| not_regular(found.file_type());
    if let Some(found) = std::fs::metadata(path).map(kind).map_err(&fail)? {
        return Err(refuse(found));
    }
    let file = File::open(path).map_err(&fail)?;
    let metadata = file.metadata().map_err(&fail)?;
    match not_regular(metadata.file_type()) {
        None => Ok((file, metadata.len())),
        Some(found) => Err(refuse(found)),
    }
}

/// The head of a file and the index of its format.
fn recognized(path: &Path, first: &[u8], formats: &[&Format]) -> Result<(Head, usize), FileError> {
    let path = path.to_path_buf();
    let asked = formats.first().copied();
    let expected = asked.map_or("a file", |format| format.what);
    let Some(head) = Head::parse(first) else {
        return Err(match (Head::old_version(first), asked) {
            (Some(found), Some(format)) if found < u64::from(format.version) => format.other_version(&path, found),
            _ => FileError::Foreign { path, expected, found: "it does not begin as such a file does".into() },
        });
    };
    let Some(index) = formats.iter().position(|format| format.name == head.format) else {
        return Err(FileError::Foreign { path, expected, found: format!("it says that it is a `{}`", head.format) });
    };
    if head.version != u64::from(formats[index].version) {
        return Err(formats[index].other_version(&path, head.version));
    }
    Ok((head, index))
}

/// Reads the rest of a file of this length, whose first bytes are there already.
fn read_all(file: File, length: u64, mut bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    let rest = usize::try_from(length).ok().map(|length| length.saturating_sub(bytes.len()));
    let rest = rest.filter(|rest| bytes.try_reserve_exact(*rest).is_ok()).ok_or(io::ErrorKind::OutOfMemory)?;
    file.take(rest as u64).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

fn to_json<T: Serialize>(path: &Path, value: &T) -> Result<Vec<u8>, FileError> {
    let invalid = |error: serde_json::Error| FileError::Content { path: path.into(), message: error.to_string() };
    serde_json::to_vec(value).map_err(invalid)
}

fn digits(checksum: u32) -> String {
    format!("{checksum:08x}")
}

/// Passes everything on and takes its checksum.
struct Checked<W> {
    file: W,
    hasher: Hasher,
}

impl<W: Write> Write for Checked<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
