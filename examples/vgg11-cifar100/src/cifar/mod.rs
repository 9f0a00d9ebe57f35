//! CIFAR-100 in its binary format: read, checked, handed out in batches.

mod augment;
mod batches;
mod evaluate;

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

pub use augment::Augmentation;
pub use batches::{CifarCalibration, Epoch};
pub use evaluate::{top1, top1_of};

use burn::tensor::Device;

use crate::error::ExampleError;

/// Number of labels.
pub const CLASSES: usize = 100;
/// Height and width of an image.
pub const SIDE: usize = 32;
/// Numbers of an image: red, green, blue planes.
pub const PIXELS: usize = 3 * SIDE * SIDE;
/// Bytes of a record: coarse label, fine label, planes.
pub const RECORD: usize = 2 + PIXELS;

/// Images and their fine labels, kept as the bytes of the file. A clone shares them.
#[derive(Clone, Debug)]
pub struct Cifar {
    pixels: Arc<Vec<u8>>,
    labels: Arc<Vec<u8>>,
}

impl Cifar {
    /// Reads files of a folder one after the other, at most `limit` records in all.
    ///
    /// # Errors
    /// [`ExampleError`]: a file is missing, cut off, or has a label that does not exist.
    pub fn load<S: AsRef<str>>(dir: &Path, files: &[S], limit: Option<usize>) -> Result<Self, ExampleError> {
        let mut pixels = Vec::new();
        let mut labels = Vec::new();
        for file in files {
            let left = limit.map_or(usize::MAX, |limit| limit.saturating_sub(labels.len()));
            read(&dir.join(file.as_ref()), left, &mut pixels, &mut labels)?;
        }
        Ok(Self { pixels: Arc::new(pixels), labels: Arc::new(labels) })
    }

    /// Reads exactly `count` records, from the start.
    ///
    /// # Errors
    /// As [`load`](Cifar::load), and [`ExampleError::TooFew`].
    pub fn load_exactly<S: AsRef<str>>(dir: &Path, files: &[S], count: usize) -> Result<Self, ExampleError> {
        let cifar = Self::load(dir, files, Some(count))?;
        if cifar.len() < count {
            let path = match files {
                [file] => dir.join(file.as_ref()),
                _ => dir.into(),
            };
            return Err(ExampleError::TooFew { path, found: cifar.len(), wanted: count });
        }
        Ok(cifar)
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The label of an image; the index must be below [`len`](Cifar::len).
    pub fn label(&self, index: usize) -> usize {
        usize::from(self.labels[index])
    }

    /// The planes of an image as bytes; the index must be below [`len`](Cifar::len).
    pub fn image(&self, index: usize) -> &[u8] {
        &self.pixels[index * PIXELS..(index + 1) * PIXELS]
    }

    /// The images in the order of the file, as calibration data on a device.
    pub fn calibration(&self, batch_size: usize, device: &Device) -> CifarCalibration {
        CifarCalibration::new(self.clone(), batch_size, device)
    }

    /// One epoch of training: shuffled, with shifts and flips where `augment` is set. The same seed and epoch give the
    /// same images in the same order.
    pub fn epoch(&self, epoch: usize, seed: u64, batch_size: usize, augment: bool, device: &Device) -> Epoch {
        Epoch::shuffled(self.clone(), epoch, seed, batch_size, augment, device)
    }
}

/// Appends at most `limit` records of a file, after checking the whole file's length.
fn read(path: &Path, limit: usize, pixels: &mut Vec<u8>, labels: &mut Vec<u8>) -> Result<(), ExampleError> {
    let unreadable = |source| ExampleError::Images { path: path.into(), source };
    let file = File::open(path).map_err(unreadable)?;
    let bytes = file.metadata().map_err(unreadable)?.len();
    let whole = bytes / RECORD as u64;
    if bytes == 0 || !bytes.is_multiple_of(RECORD as u64) {
        return Err(ExampleError::Truncated { path: path.into(), bytes, record: whole });
    }
    let records = usize::try_from(whole).unwrap_or(usize::MAX).min(limit);
    let mut content = Vec::new();
    file.take(records as u64 * RECORD as u64).read_to_end(&mut content).map_err(unreadable)?;
    for (record, bytes) in content.chunks_exact(RECORD).enumerate() {
        let label = bytes[1];
        if usize::from(label) >= CLASSES {
            return Err(ExampleError::Label { path: path.into(), record, label });
        }
        labels.push(label);
        pixels.extend_from_slice(&bytes[2..]);
    }
    Ok(())
}
