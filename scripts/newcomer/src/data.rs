//! A synthetic data set: stripes of six kinds, at random places and under noise.

use burn::prelude::*;
use burn_sfp::prelude::*;

pub const CLASSES: usize = 6;
pub const SIDE: usize = 16;

/// A generator of numbers (xorshift64*), so that every process draws the same images.
struct Random(u64);

impl Random {
    /// A number from -1 to 1.
    fn next(&mut self) -> f32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 40;
        bits as f32 / (1 << 23) as f32 - 1.0
    }
}

/// The images `start..start + samples` of an endless set, `[samples, 1, 16, 16]`, and their labels.
pub fn batch(start: u64, samples: usize, device: &Device) -> Batch<Tensor<4>> {
    let labels: Vec<usize> = (start..start + samples as u64).map(|index| (index % CLASSES as u64) as usize).collect();
    let mut pixels = Vec::with_capacity(samples * SIDE * SIDE);
    for (index, &label) in (start..).zip(&labels) {
        let mut random = Random(0x9E37_79B9_7F4A_7C15 ^ (index + 1).wrapping_mul(0xD134_2543_DE82_EF95));
        for _ in 0..4 {
            random.next();
        }
        let phase = 3.2 * random.next();
        // Three directions, two widths.
        let (down, right) = [(1.0, 0.0), (0.0, 1.0), (0.7, 0.7)][label / 2];
        let width = [0.8, 1.4][label % 2];
        for at in 0..SIDE * SIDE {
            let along = down * (at / SIDE) as f32 + right * (at % SIDE) as f32;
            pixels.push((width * along + phase).sin() + 0.8 * random.next());
        }
    }
    Batch { input: Tensor::from_data(TensorData::new(pixels, [samples, 1, SIDE, SIDE]), device), labels }
}

/// `samples` images in batches, as one pass over a data set.
pub fn pass(
    start: u64,
    samples: usize,
    size: usize,
    device: &Device,
) -> impl Iterator<Item = Result<Batch<Tensor<4>>, DataError>> + use<> {
    let device = device.clone();
    (0..samples).step_by(size).map(move |from| Ok(batch(start + from as u64, size.min(samples - from), &device)))
}

/// Images that no training sees.
pub const TEST: u64 = 1 << 40;

/// Share of 600 test images whose largest logit is that of their label.
pub fn top1(model: &impl SfpModule<Inputs = Tensor<4>>, device: &Device) -> f64 {
    let Batch { input, labels } = batch(TEST - TEST % CLASSES as u64, 600, device);
    let found = model.logits(input).argmax(1).into_data();
    let right = found.iter::<i64>().zip(&labels).filter(|(found, label)| *found == **label as i64).count();
    right as f64 / labels.len() as f64
}
