//! [`Preprocess`]: from an image to numbers.

use image::RgbImage;
use image::imageops::{FilterType, crop_imm, resize};

use super::ImagesError;

/// Most pixels of a resized image. One of 60,000 x 1 pixels would become one of a thousand million.
const MOST_PIXELS: u64 = 1 << 26;

/// What happens to an image on its way to the model: it is resized, its middle is cut out, its values are scaled. The order and the
/// roundings are those of torchvision's transforms for evaluation, whose models were trained with them.
///
/// ```
/// use burn_sfp_core::images::Preprocess;
///
/// // What torchvision's ImageNet models expect: shorter side 256, the middle 224 x 224, ImageNet's mean and deviation.
/// let imagenet = Preprocess::imagenet();
/// // Values from -1 to 1, sizes as they are.
/// let centred = Preprocess::new().normalize([0.5; 3], [0.5; 3]);
/// assert_ne!(imagenet, centred);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocess {
    shorter_side: Option<u32>,
    center_crop: Option<[usize; 2]>,
    mean: [f32; 3],
    deviation: [f32; 3],
}

impl Default for Preprocess {
    fn default() -> Self {
        Self::new()
    }
}

impl Preprocess {
    /// Values from 0 to 1, sizes as they are.
    pub fn new() -> Self {
        Self { shorter_side: None, center_crop: None, mean: [0.0; 3], deviation: [1.0; 3] }
    }

    /// What torchvision's ImageNet models expect: the shorter side resized to 256 pixels, the middle 224 x 224, and of each channel
    /// ImageNet's mean subtracted and its deviation divided by.
    pub fn imagenet() -> Self {
        Self::new().shorter_side(256).center_crop([224, 224]).normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    }

    /// Resizes images so that their shorter side has so many pixels (at least one), by a bilinear filter that is as wide as the
    /// pixels of the result, as PIL's.
    pub fn shorter_side(mut self, pixels: u32) -> Self {
        self.shorter_side = Some(pixels.max(1));
        self
    }

    /// Cuts out the middle: rows, columns.
    pub fn center_crop(mut self, size: [usize; 2]) -> Self {
        self.center_crop = Some(size);
        self
    }

    /// Subtracts a mean from the values (from 0 to 1) of each channel (red, green, blue), and divides them by a deviation.
    pub fn normalize(mut self, mean: [f32; 3], deviation: [f32; 3]) -> Self {
        (self.mean, self.deviation) = (mean, deviation);
        self
    }

    /// The planes of an image, one behind the other, and its rows and columns.
    pub(super) fn apply(&self, name: &str, image: RgbImage) -> Result<(Vec<f32>, [usize; 2]), ImagesError> {
        let image = match self.shorter_side {
            Some(shorter) if image.width() > 0 && image.height() > 0 => {
                let [width, height] = resized([image.width(), image.height()], shorter);
                if [width, height] == [image.width(), image.height()] {
                    image
                } else if u64::from(width) * u64::from(height) > MOST_PIXELS {
                    let problem = format!("resized it would have {width} x {height} pixels");
                    return Err(ImagesError::Decode { name: name.into(), problem });
                } else {
                    resize(&image, width, height, FilterType::Triangle)
                }
            }
            _ => image,
        };
        let found = [image.height() as usize, image.width() as usize];
        let image = match self.center_crop {
            Some(wanted) if wanted != found => {
                if wanted[0] > found[0] || wanted[1] > found[1] {
                    return Err(ImagesError::Small { name: name.into(), found, wanted });
                }
                let [top, left] = [0, 1].map(|axis| half(found[axis] - wanted[axis]));
                crop_imm(&image, left, top, wanted[1] as u32, wanted[0] as u32).to_image()
            }
            _ => image,
        };
        let size = [image.height() as usize, image.width() as usize];
        let mut planes = Vec::with_capacity(3 * size[0] * size[1]);
        for channel in 0..3 {
            let (mean, deviation) = (self.mean[channel], self.deviation[channel]);
            let values = image.as_raw().iter().skip(channel).step_by(3);
            planes.extend(values.map(|&value| (f32::from(value) / 255.0 - mean) / deviation));
        }
        Ok((planes, size))
    }
}

/// Width and height with the shorter one of this length; the other one is rounded down.
fn resized([width, height]: [u32; 2], shorter: u32) -> [u32; 2] {
    let other = |length: u32, by: u32| {
        let scaled = u64::from(shorter) * u64::from(length) / u64::from(by);
        u32::try_from(scaled).unwrap_or(u32::MAX)
    };
    if width <= height { [shorter, other(height, width)] } else { [other(width, height), shorter] }
}

/// Half of a difference, rounded to the nearest, halves to the even number, as Python does.
fn half(difference: usize) -> u32 {
    (difference as f64 / 2.0).round_ties_even() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows and columns as the values of red and green.
    fn ramp(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| image::Rgb([y as u8, x as u8, 7]))
    }

    #[test]
    fn values_are_planes_between_zero_and_one() {
        let (planes, size) = Preprocess::new().apply("x", ramp(3, 2)).unwrap();
        assert_eq!(size, [2, 3]);
        let of = |values: [u8; 6]| values.map(|value| f32::from(value) / 255.0);
        assert_eq!(planes, [of([0, 0, 0, 1, 1, 1]), of([0, 1, 2, 0, 1, 2]), of([7; 6])].concat());
        let (scaled, _) = Preprocess::new().normalize([0.5; 3], [0.25; 3]).apply("x", ramp(3, 2)).unwrap();
        assert!(planes.iter().zip(&scaled).all(|(plain, scaled)| *scaled == (plain - 0.5) / 0.25));
    }

    #[test]
    fn the_middle_lies_where_torchvision_cuts_it() {
        // int(round(5 / 2.0)) is 2 in Python, int(round(3 / 2.0)) is 2, too.
        let (planes, size) = Preprocess::new().center_crop([4, 4]).apply("x", ramp(7, 9)).unwrap();
        assert_eq!((size, (planes[0] * 255.0).round(), (planes[16] * 255.0).round()), ([4, 4], 2.0, 2.0));
    }

    #[test]
    fn the_longer_side_is_rounded_down() {
        assert_eq!(resized([500, 375], 256), [341, 256]);
        assert_eq!(resized([375, 500], 256), [256, 341]);
        assert_eq!(resized([10, 10], 4), [4, 4]);
        assert_eq!(resized([1, u32::MAX], 256)[1], u32::MAX);
        let (_, size) = Preprocess::imagenet().apply("x", ramp(50, 40)).unwrap();
        assert_eq!(size, [224, 224]);
    }

    #[test]
    fn a_smaller_image_is_an_error() {
        let error = Preprocess::new().center_crop([4, 8]).apply("cat.png", ramp(7, 9)).unwrap_err();
        assert!(matches!(error, ImagesError::Small { found: [9, 7], wanted: [4, 8], .. }), "{error}");
        let error = Preprocess::imagenet().apply("line.png", ramp(2000, 1)).unwrap_err();
        assert!(matches!(error, ImagesError::Decode { .. }), "{error}");
    }
}
