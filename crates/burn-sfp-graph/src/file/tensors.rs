//! Safetensors files with a head.

use std::io::{self, Write};
use std::path::Path;

use super::{FileError, Format, write_sealed};

/// Longest header that the safetensors format allows.
const LONGEST_HEADER: usize = 100_000_000;

/// Writes the elements of a tensor, little-endian, row by row.
pub type WriteElements<'a> = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + 'a>;

/// A tensor to be written.
pub struct TensorEntry<'a> {
    /// Its name.
    pub name: String,
    /// The element type by its name in the safetensors format, for example `F32`.
    pub dtype: &'static str,
    /// Bytes of an element.
    pub element_bytes: usize,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Writes its elements.
    pub write: WriteElements<'a>,
}

impl TensorEntry<'_> {
    fn bytes(&self) -> u64 {
        self.shape.iter().map(|&length| length as u64).product::<u64>() * self.element_bytes as u64
    }
}

/// Writes a safetensors file with a head. Tensors of larger elements come first, so that all are aligned; otherwise the order stays.
///
/// # Errors
/// Those of [`write_sealed`], and [`FileError::Content`] where the header would be longer than the format allows.
pub fn save_tensors(path: &Path, format: &Format, mut entries: Vec<TensorEntry<'_>>) -> Result<(), FileError> {
    let invalid = |message: String| FileError::Content { path: path.into(), message };
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.element_bytes));
    let (mut header, mut at) = (String::new(), 0);
    for entry in &entries {
        let name = serde_json::to_string(&entry.name).map_err(|error| invalid(error.to_string()))?;
        let end = at + entry.bytes();
        let (dtype, shape) = (entry.dtype, &entry.shape);
        header += &format!(",{name}:{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":[{at},{end}]}}");
        at = end;
    }
    let head = |checksum: &str| {
        let mut text = format.tensors_head(checksum, at) + &header + "}";
        // Tensors begin at a multiple of 8.
        text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
        [(text.len() as u64).to_le_bytes().as_slice(), text.as_bytes()].concat()
    };
    if head("").len() > LONGEST_HEADER {
        return Err(invalid("it has too many tensors for the header of a safetensors file".into()));
    }
    write_sealed(path, head, |body| entries.into_iter().try_for_each(|entry| write_entry(entry, body)))
}

/// Writes one tensor, and no more or fewer bytes than the header says.
fn write_entry(entry: TensorEntry<'_>, body: &mut dyn Write) -> io::Result<()> {
    let (name, expected) = (entry.name.clone(), entry.bytes());
    let mut counted = Counted { inner: body, bytes: 0 };
    (entry.write)(&mut counted)?;
    match counted.bytes {
        bytes if bytes == expected => Ok(()),
        bytes => Err(io::Error::other(format!("tensor `{name}` has {bytes} bytes instead of {expected}"))),
    }
}

/// Counts the bytes that pass.
struct Counted<'a> {
    inner: &'a mut dyn Write,
    bytes: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: Format = Format { name: "burn-sfp test", what: "a test", version: 1, advice: "test again" };

    fn entry(name: &str, dtype: &'static str, element_bytes: usize, bytes: &'static [u8]) -> TensorEntry<'static> {
        let shape = vec![bytes.len() / element_bytes];
        TensorEntry {
            name: name.into(),
            dtype,
            element_bytes,
            shape,
            write: Box::new(move |body| body.write_all(bytes)),
        }
    }

    #[test]
    fn other_readers_find_the_tensors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tensors.safetensors");
        let bytes: [&'static [u8]; 2] = [&[1, 2, 3], &[0, 0, 128, 63, 0, 0, 0, 64]];
        save_tensors(&path, &FORMAT, vec![entry("a\"b", "U8", 1, bytes[0]), entry("c", "F32", 4, bytes[1])]).unwrap();
        let found = super::super::open(&path, &[&FORMAT]).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(found.bytes()).unwrap();
        assert_eq!(tensors.tensor("a\"b").unwrap().data(), bytes[0]);
        let c = tensors.tensor("c").unwrap();
        assert_eq!((c.data(), c.shape(), c.dtype()), (bytes[1], [2].as_slice(), safetensors::Dtype::F32));
        assert_eq!(c.data().as_ptr() as usize % 4, found.bytes().as_ptr() as usize % 4, "aligned within the file");
    }

    #[test]
    fn a_tensor_of_another_length_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tensors.safetensors");
        let wrong = TensorEntry { shape: vec![3], ..entry("a", "F32", 4, &[0, 0, 0, 0]) };
        let error = save_tensors(&path, &FORMAT, vec![wrong]).unwrap_err().to_string();
        assert!(error.contains("tensor `a` has 4 bytes instead of 12"), "{error}");
        assert!(!path.exists());
    }
}
