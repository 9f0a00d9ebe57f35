//! The data set: distorted letters in clutter, drawn on demand, so that only the current batch is in memory.

use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};
use burn_sfp::core::{Batch, BatchIter, Calibration, DataError};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::canvas::{Canvas, Pose, SIDE};
use crate::font::CLASSES;

/// First index of the test images; everything below is for training.
const TEST: u64 = 1 << 40;

/// An endless set of labelled images: image `index` follows from the seed and the index alone.
///
/// Labels go round: `index % 24`, so any 24 neighbours are balanced.
///
/// ```
/// use burn::tensor::Device;
/// use quickstart::glyphs::GlyphSet;
///
/// let batch = GlyphSet::new(7).batch(0..48, &Device::flex());
/// assert_eq!(batch.input.dims(), [48, 1, 24, 24]);
/// assert_eq!(batch.labels[25], 1);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GlyphSet {
    seed: u64,
}

impl GlyphSet {
    /// The set of a seed.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// Label of an image.
    pub fn label(&self, index: u64) -> usize {
        (index % CLASSES as u64) as usize
    }

    /// Pixels of an image, `24 * 24`, about -1 to 1.
    pub fn image(&self, index: u64) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(index);
        draw(self.label(index), &mut rng).pixels
    }

    /// The images of a range, `[samples, 1, 24, 24]`, with their labels.
    pub fn batch(&self, indices: Range<u64>, device: &Device) -> Batch<Tensor<4>> {
        let labels: Vec<usize> = indices.clone().map(|index| self.label(index)).collect();
        let pixels: Vec<f32> = indices.flat_map(|index| self.image(index)).collect();
        let input = Tensor::from_data(TensorData::new(pixels, [labels.len(), 1, SIDE, SIDE]), device);
        Batch { input, labels }
    }

    /// The training images of an epoch of `samples` images: every epoch sees new ones.
    pub fn epoch(&self, epoch: usize, samples: usize, batch_size: usize, device: &Device) -> GlyphSource {
        let start = epoch as u64 * samples as u64;
        self.source(start, samples, batch_size, device)
    }

    /// Calibration data: the first training images.
    pub fn calibration(&self, samples: usize, batch_size: usize, device: &Device) -> GlyphSource {
        self.source(0, samples, batch_size, device)
    }

    /// Images that no training sees.
    pub fn test(&self, samples: usize, batch_size: usize, device: &Device) -> GlyphSource {
        self.source(TEST - TEST % CLASSES as u64, samples, batch_size, device)
    }

    fn source(&self, start: u64, samples: usize, batch_size: usize, device: &Device) -> GlyphSource {
        GlyphSource {
            set: *self,
            indices: start..start + samples as u64,
            batch_size: batch_size.max(1) as u64,
            device: device.clone(),
        }
    }
}

/// A range of images, batch by batch: an iterator, and [`Calibration`] data that can be walked through many times.
#[derive(Clone, Debug)]
pub struct GlyphSource {
    set: GlyphSet,
    indices: Range<u64>,
    batch_size: u64,
    device: Device,
}

impl Iterator for GlyphSource {
    type Item = Result<Batch<Tensor<4>>, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.indices.is_empty() {
            return None;
        }
        let end = self.indices.end.min(self.indices.start + self.batch_size);
        let batch = self.set.batch(self.indices.start..end, &self.device);
        self.indices.start = end;
        Some(Ok(batch))
    }
}

impl Calibration<Tensor<4>> for GlyphSource {
    fn batches(&self) -> BatchIter<'_, Tensor<4>> {
        Box::new(self.clone())
    }

    fn samples(&self) -> Option<usize> {
        usize::try_from(self.indices.end - self.indices.start).ok()
    }
}

/// Draws a letter: clutter behind it, the letter itself, thin strokes over it, noise; dark on light or light on dark.
fn draw(label: usize, rng: &mut ChaCha8Rng) -> Canvas {
    let sign = if rng.random_bool(0.5) { 1.0 } else { -1.0 };
    let middle = SIDE as f32 / 2.0;
    let mut canvas = Canvas::new(sign * rng.random_range(-0.8..-0.4));

    // Pieces of other letters reach in from the border.
    for _ in 0..rng.random_range(1..=2) {
        let (sin, cos) = rng.random_range(0.0..std::f32::consts::TAU).sin_cos();
        let distance = rng.random_range(13.0..16.0);
        let pose = pose(rng, [middle + distance * cos, middle + distance * sin], 3.0);
        let level = sign * rng.random_range(0.0..0.8);
        canvas.letter(rng.random_range(0..CLASSES), pose, level);
    }
    stroke(&mut canvas, rng, sign, 1..=2);

    let center = [middle + rng.random_range(-2.5..2.5), middle + rng.random_range(-2.5..2.5)];
    let pose = pose(rng, center, 0.35);
    canvas.letter(label, pose, sign * rng.random_range(0.3..0.9));
    stroke(&mut canvas, rng, sign, 0..=1);

    let deviation = rng.random_range(0.05..0.2);
    for pixel in &mut canvas.pixels {
        // Three uniform numbers from -1 to 1 add up to something close to a normal number of variance 1.
        let noise: f32 = (0..3).map(|_| rng.random_range(-1.0..1.0f32)).sum();
        *pixel = (*pixel + deviation * noise).clamp(-1.5, 1.5);
    }
    canvas
}

fn pose(rng: &mut ChaCha8Rng, center: [f32; 2], tilt: f32) -> Pose {
    Pose { center, scale: rng.random_range(1.4..2.3), angle: rng.random_range(-tilt..tilt) }
}

fn stroke(canvas: &mut Canvas, rng: &mut ChaCha8Rng, sign: f32, count: std::ops::RangeInclusive<usize>) {
    for _ in 0..rng.random_range(count) {
        let mut point = || [rng.random_range(0.0..SIDE as f32), rng.random_range(0.0..SIDE as f32)];
        let (from, to) = (point(), point());
        canvas.stroke(from, to, rng.random_range(0.6..1.4), sign * rng.random_range(-0.2..0.8));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_follows_from_seed_and_index() {
        let set = GlyphSet::new(3);
        let device = Device::flex();
        let pixels = |indices| set.batch(indices, &device).input.into_data().iter::<f32>().collect::<Vec<_>>();
        let (batch, later) = (pixels(0..60), pixels(40..60));
        assert_eq!(batch[40 * SIDE * SIDE..], later);
        assert_ne!(set.image(0), GlyphSet::new(4).image(0));
        assert_ne!(set.image(0), set.image(CLASSES as u64));
        assert!(batch.iter().all(|pixel| pixel.is_finite() && pixel.abs() <= 1.5));
    }

    #[test]
    fn classes_are_balanced_and_walks_agree() {
        let device = Device::flex();
        let set = GlyphSet::new(3);
        for source in [set.calibration(240, 50, &device), set.test(240, 50, &device)] {
            let mut counts = [0; CLASSES];
            for batch in source.batches() {
                batch.unwrap().labels.iter().for_each(|&label| counts[label] += 1);
            }
            assert_eq!(counts, [10; CLASSES]);
            assert_eq!(source.samples(), Some(240));
            let sizes: Vec<usize> = source.batches().map(|batch| batch.unwrap().labels.len()).collect();
            assert_eq!(sizes, [50, 50, 50, 50, 40]);
        }
    }

    #[test]
    fn epochs_and_test_images_do_not_overlap() {
        let device = Device::flex();
        let set = GlyphSet::new(3);
        let first = set.epoch(0, 100, 10, &device);
        let second = set.epoch(1, 100, 10, &device);
        assert_eq!(first.indices.end, second.indices.start);
        assert!(second.indices.end < set.test(100, 10, &device).indices.start);
    }
}
