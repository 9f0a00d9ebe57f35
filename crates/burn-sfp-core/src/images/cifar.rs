//! [`CifarFiles`]: the binary files of CIFAR-10 and CIFAR-100.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use super::{ImageContent, ImageIter, ImageSource, ImagesError, LabelledImage, listed};

/// Pixels of a side.
const SIDE: usize = 32;
/// Bytes of a plane.
const PLANE: usize = SIDE * SIDE;

/// The binary files of CIFAR-10 (`data_batch_1.bin` and so on) or CIFAR-100 (`train.bin`), read one image after another.
///
/// ```
/// use burn_sfp_core::images::{CifarFiles, ImageSource};
///
/// let files = CifarFiles::cifar100(["cifar-100-binary/train.bin"]);
/// assert!(files.images().next().unwrap().is_err()); // there is no such file
/// ```
#[derive(Clone, Debug)]
pub struct CifarFiles {
    paths: Vec<PathBuf>,
    /// Bytes of the labels of an image; the last one counts.
    labels: usize,
}

impl CifarFiles {
    /// Files of CIFAR-10: of each image the label, then the planes.
    pub fn cifar10(paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Self {
        Self { paths: listed(paths), labels: 1 }
    }

    /// Files of CIFAR-100: of each image the coarse label, which is left out, the fine label, then the planes.
    pub fn cifar100(paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Self {
        Self { paths: listed(paths), labels: 2 }
    }

    /// The images of a file.
    fn file<'a>(&self, path: &'a Path) -> impl Iterator<Item = Result<LabelledImage, ImagesError>> + use<'a> {
        let labels = self.labels;
        let mut file = Some(File::open(path).map(BufReader::new));
        let mut count = 0;
        std::iter::from_fn(move || {
            let mut reader = match file.take()? {
                Ok(reader) => reader,
                Err(source) => return Some(Err(ImagesError::Read { path: path.into(), source })),
            };
            let size = labels + 3 * PLANE;
            let mut record = Vec::with_capacity(size);
            // An error is the last item.
            match reader.by_ref().take(size as u64).read_to_end(&mut record) {
                Err(source) => Some(Err(ImagesError::Read { path: path.into(), source })),
                Ok(0) => None,
                Ok(left) if left < size => Some(Err(ImagesError::Truncated { path: path.into(), record: size, left })),
                Ok(_) => {
                    file = Some(Ok(reader));
                    let name = format!("image {count} of {}", path.display());
                    count += 1;
                    let (label, planes) = (usize::from(record[labels - 1]), &record[labels..]);
                    let rgb = (0..PLANE).flat_map(|at| [0, 1, 2].map(|plane| planes[plane * PLANE + at])).collect();
                    let content = ImageContent::Pixels { width: SIDE as u32, height: SIDE as u32, rgb };
                    Some(Ok(LabelledImage { name, label, content }))
                }
            }
        })
    }
}

impl ImageSource for CifarFiles {
    fn images(&self) -> ImageIter<'_> {
        Box::new(self.paths.iter().flat_map(|path| self.file(path)))
    }

    fn samples(&self) -> Option<usize> {
        let size = (self.labels + 3 * PLANE) as u64;
        self.paths.iter().map(|path| Some((path.metadata().ok()?.len() / size) as usize)).sum()
    }
}
