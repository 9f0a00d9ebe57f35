//! Calibration data in files of images (feature `images`).
//!
//! | what | where |
//! | --- | --- |
//! | a folder with a subfolder for each class | [`ImageFolder`] |
//! | tar files of images and labels, as WebDataset writes them | [`TarShards`] |
//! | CIFAR's binary files | [`CifarFiles`] |
//! | any other source | [`ImageSource`] |
//! | the way from an image to the model's input | [`Preprocess`] |
//! | batches on a device | [`ImageCalibration`] |
//!
//! Nothing is read before it is needed. A batch is read and decoded by all threads; [`ReadAhead`](crate::ReadAhead) does that while the model
//! works on the batches before it.
//!
//! ```no_run
//! use burn::tensor::Device;
//! use burn_sfp_core::ReadAhead;
//! use burn_sfp_core::images::{ImageCalibration, ImageFolder, Preprocess};
//!
//! let device = Device::flex();
//! let images = ImageFolder::open("imagenet/train")?.shuffled(0).first(10_000);
//! let calibration = ReadAhead::new(ImageCalibration::new(images, Preprocess::imagenet(), 64, &device), 2);
//! # Ok::<(), burn_sfp_core::images::ImagesError>(())
//! ```

use std::path::{Path, PathBuf};

mod calibration;
mod cifar;
mod decode;
mod error;
mod folder;
mod preprocess;
mod shards;
mod source;

pub use calibration::ImageCalibration;
pub use cifar::CifarFiles;
pub use error::ImagesError;
pub use folder::ImageFolder;
pub use preprocess::Preprocess;
pub use shards::TarShards;
pub use source::{ImageContent, ImageIter, ImageSource, LabelledImage};

#[cfg(test)]
mod tests;

/// Whether a file of this name is one of the images that are read.
fn is_image(extension: &str) -> bool {
    ["jpg", "jpeg", "png"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// Paths as they are kept.
fn listed(paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Vec<PathBuf> {
    paths.into_iter().map(|path| path.as_ref().to_path_buf()).collect()
}
