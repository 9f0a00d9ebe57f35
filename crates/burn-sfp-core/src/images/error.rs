//! [`ImagesError`].

use std::io;
use std::path::PathBuf;

/// What is wrong with files of images.
///
/// ```
/// use burn_sfp_core::images::{ImageFolder, ImagesError};
///
/// let error = ImageFolder::open("no such folder").unwrap_err();
/// assert!(matches!(error, ImagesError::Read { .. }));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImagesError {
    /// A file or a folder cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder of images holds no folder of a class.
    #[error("{} holds no folder: expected one folder for each class, with its images in it", path.display())]
    NoClass {
        /// The folder.
        path: PathBuf,
    },
    /// The name of a class is none.
    #[error("the class named {name:?} cannot be read: {problem}")]
    ClassName {
        /// The name.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// No image was found.
    #[error("the folders of classes in {} hold no image: expected files named .jpg, .jpeg or .png", path.display())]
    NoImage {
        /// The folder.
        path: PathBuf,
    },
    /// Bytes are no image, or not all of one.
    #[error("{name} cannot be decoded ({problem}): mend or remove it")]
    Decode {
        /// The image.
        name: String,
        /// What the decoder says.
        problem: String,
    },
    /// The part that is cut out is larger than the image.
    #[error(
        "{name} has {} x {} pixels (rows, columns), fewer than the {} x {} that are cut out of it: resize images with \
         `Preprocess::shorter_side`", found[0], found[1], wanted[0], wanted[1]
    )]
    Small {
        /// The image.
        name: String,
        /// Its rows and columns.
        found: [usize; 2],
        /// Rows and columns of the part.
        wanted: [usize; 2],
    },
    /// The images of a batch differ in size.
    #[error(
        "{name} has {} x {} pixels (rows, columns), the first image of its batch {} x {}: give all of them one size with \
         `Preprocess::shorter_side` and `Preprocess::center_crop`", found[0], found[1], first[0], first[1]
    )]
    Sizes {
        /// The image.
        name: String,
        /// Its rows and columns.
        found: [usize; 2],
        /// Rows and columns of the first image.
        first: [usize; 2],
    },
    /// A sample of a shard has no label.
    #[error("sample {key} of {} has no label: expected an entry {key}.cls with the number of its class", path.display())]
    NoLabel {
        /// The shard.
        path: PathBuf,
        /// The sample.
        key: String,
    },
    /// A label is no number.
    #[error("the label of sample {key} of {} is {found:?}, expected the number of its class, from 0", path.display())]
    Label {
        /// The shard.
        path: PathBuf,
        /// The sample.
        key: String,
        /// The label found.
        found: String,
    },
    /// A file ends inside of a record.
    #[error(
        "{} ends inside of a record: its records have {record} bytes each, and {left} are left at its end; it was cut off, \
         or is of another kind", path.display()
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Bytes of a record.
        record: usize,
        /// Bytes at the end that are no whole record.
        left: usize,
    },
}

impl ImagesError {
    /// An error of reading a file.
    pub(super) fn read(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Read { path, source }
    }
}
