//! Batches: in the file's order for calibration and tests, shuffled and augmented for training.

use burn::tensor::{Device, Tensor, TensorData};
use burn_sfp::core::{Batch, BatchIter, Calibration, DataError};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::{Augmentation, Cifar, PIXELS, SIDE};

/// Images in the order of the file, one batch at a time on the device.
#[derive(Clone, Debug)]
pub struct CifarCalibration {
    cifar: Cifar,
    batch_size: usize,
    device: Device,
}

impl CifarCalibration {
    pub(super) fn new(cifar: Cifar, batch_size: usize, device: &Device) -> Self {
        Self { cifar, batch_size, device: device.clone() }
    }
}

impl Calibration<Tensor<4>> for CifarCalibration {
    fn batches(&self) -> BatchIter<'_, Tensor<4>> {
        Box::new(Epoch::plain(self.cifar.clone(), self.batch_size, &self.device))
    }

    fn samples(&self) -> Option<usize> {
        Some(self.cifar.len())
    }
}

/// One pass over the images; a batch is made when it is asked for.
#[derive(Clone, Debug)]
pub struct Epoch {
    cifar: Cifar,
    order: Vec<usize>,
    next: usize,
    batch_size: usize,
    augment: Option<ChaCha8Rng>,
    device: Device,
}

impl Epoch {
    pub(super) fn plain(cifar: Cifar, batch_size: usize, device: &Device) -> Self {
        let order = (0..cifar.len()).collect();
        Self { cifar, order, next: 0, batch_size: batch_size.max(1), augment: None, device: device.clone() }
    }

    pub(super) fn shuffled(
        cifar: Cifar,
        epoch: usize,
        seed: u64,
        batch_size: usize,
        augment: bool,
        device: &Device,
    ) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(epoch as u64);
        let mut pass = Self::plain(cifar, batch_size, device);
        pass.order.shuffle(&mut rng);
        pass.augment = augment.then_some(rng);
        pass
    }
}

impl Iterator for Epoch {
    type Item = Result<Batch<Tensor<4>>, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let end = (self.next + self.batch_size).min(self.order.len());
        let chosen = &self.order[self.next..end];
        if chosen.is_empty() {
            return None;
        }
        let mut pixels = Vec::with_capacity(chosen.len() * PIXELS);
        for &index in chosen {
            let augmentation = self.augment.as_mut().map(Augmentation::random).unwrap_or_default();
            augmentation.append(self.cifar.image(index), &mut pixels);
        }
        let labels: Vec<usize> = chosen.iter().map(|&index| self.cifar.label(index)).collect();
        self.next = end;
        let data = TensorData::new(pixels, [labels.len(), 3, SIDE, SIDE]);
        Some(Ok(Batch { input: Tensor::from_data(data, &self.device), labels }))
    }
}
