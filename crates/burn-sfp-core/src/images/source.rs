//! [`ImageSource`]: labelled images, one after another.

use std::path::PathBuf;

use super::ImagesError;

/// A source of labelled images that can be passed over more than once, each time in the same order.
///
/// ```
/// use burn_sfp_core::images::{ImageContent, ImageIter, ImageSource, LabelledImage};
///
/// /// White images of one pixel.
/// struct White(usize);
///
/// impl ImageSource for White {
///     fn images(&self) -> ImageIter<'_> {
///         let pixels = || ImageContent::Pixels { width: 1, height: 1, rgb: vec![255; 3] };
///         Box::new((0..self.0).map(move |k| Ok(LabelledImage { name: k.to_string(), label: 0, content: pixels() })))
///     }
/// }
/// assert_eq!(White(3).images().count(), 3);
/// ```
pub trait ImageSource {
    /// Starts a pass.
    fn images(&self) -> ImageIter<'_>;

    /// Number of images of a pass where it is known; only for progress.
    fn samples(&self) -> Option<usize> {
        None
    }
}

/// The images of one pass, each or the error in its place.
pub type ImageIter<'a> = Box<dyn Iterator<Item = Result<LabelledImage, ImagesError>> + 'a>;

/// An image with its label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelledImage {
    /// What errors call it: a path, or a place in a file.
    pub name: String,
    /// The label, from 0 to the number of classes less one.
    pub label: usize,
    /// Where its pixels are.
    pub content: ImageContent,
}

/// Where an image's pixels are. What has to be read or decoded is when its batch is made, by several threads.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageContent {
    /// A JPEG or PNG file.
    File(PathBuf),
    /// A JPEG or PNG file that is a part of another file.
    Part {
        /// The file.
        path: PathBuf,
        /// Position of the first byte.
        offset: u64,
        /// Number of bytes.
        length: u64,
    },
    /// A JPEG or PNG file in memory.
    Encoded(Vec<u8>),
    /// Pixels, row by row.
    Pixels {
        /// Pixels of a row.
        width: u32,
        /// Rows.
        height: u32,
        /// Red, green and blue of each pixel, from 0 to 255.
        rgb: Vec<u8>,
    },
}
