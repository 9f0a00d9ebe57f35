//! From files to pixels.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};

use image::{DynamicImage, ImageFormat, RgbImage};

use super::{ImageContent, ImagesError, LabelledImage, Preprocess};

/// The planes of an image and its rows and columns.
pub(super) fn planes(image: &LabelledImage, preprocess: &Preprocess) -> Result<(Vec<f32>, [usize; 2]), ImagesError> {
    preprocess.apply(&image.name, pixels(image)?)
}

fn pixels(image: &LabelledImage) -> Result<RgbImage, ImagesError> {
    match &image.content {
        ImageContent::File(path) => decoded(&image.name, &fs::read(path).map_err(ImagesError::read(path))?),
        ImageContent::Part { path, offset, length } => {
            let mut bytes = Vec::new();
            File::open(path)
                .and_then(|mut file| {
                    file.seek(SeekFrom::Start(*offset))?;
                    file.take(*length).read_to_end(&mut bytes)
                })
                .map_err(ImagesError::read(path))?;
            match bytes.len() as u64 {
                found if found == *length => decoded(&image.name, &bytes),
                found => Err(undecodable(&image.name, format_args!("{found} of its {length} bytes are there"))),
            }
        }
        ImageContent::Encoded(bytes) => decoded(&image.name, bytes),
        ImageContent::Pixels { width, height, rgb } => RgbImage::from_raw(*width, *height, rgb.clone())
            // A longer buffer would be taken as well.
            .filter(|pixels| pixels.as_raw().len() as u64 == 3 * u64::from(*width) * u64::from(*height))
            .ok_or_else(|| {
                let problem = format_args!("{} bytes for {width} x {height} pixels of three channels", rgb.len());
                undecodable(&image.name, problem)
            }),
    }
}

/// Decodes a file by its content, whatever its name says. Alpha is left out, grey values count for all three channels.
fn decoded(name: &str, bytes: &[u8]) -> Result<RgbImage, ImagesError> {
    if image::guess_format(bytes).is_ok_and(|format| format == ImageFormat::Jpeg) && !has_end(bytes) {
        return Err(undecodable(name, "it ends before its last line"));
    }
    image::load_from_memory(bytes).map(DynamicImage::into_rgb8).map_err(|error| undecodable(name, error))
}

/// Whether a JPEG file's last scan ends: what is missing of one, the decoder makes up. Inside of a scan the marker does not occur, and a preview
/// lies before the scan.
fn has_end(bytes: &[u8]) -> bool {
    let last = |marker: u8| bytes.windows(2).rposition(|two| two == [0xff, marker]);
    last(0xd9) > last(0xda)
}

fn undecodable(name: &str, problem: impl ToString) -> ImagesError {
    ImagesError::Decode { name: name.into(), problem: problem.to_string() }
}
