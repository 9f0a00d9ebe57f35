//! [`ImageCalibration`]: batches of images.

use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

use super::{ImageSource, ImagesError, LabelledImage, Preprocess, decode};
use crate::{Batch, BatchIter, Calibration};

/// Calibration data from a source of images: batches `[N, 3, H, W]` on a device, one at a time in memory, in the source's order.
///
/// ```
/// use burn::tensor::Device;
/// use burn_sfp_core::Calibration;
/// use burn_sfp_core::images::{CifarFiles, ImageCalibration, Preprocess};
///
/// // Two images of CIFAR-10: a label and 3072 values each.
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("test_batch.bin");
/// std::fs::write(&path, [vec![3; 3073], vec![5; 3073]].concat())?;
///
/// let preprocess = Preprocess::new().normalize([0.5; 3], [0.5; 3]);
/// let data = ImageCalibration::new(CifarFiles::cifar10([&path]), preprocess, 64, &Device::flex());
/// let batch = data.batches().next().unwrap()?;
/// assert_eq!((batch.input.dims(), batch.labels), ([2, 3, 32, 32], vec![3, 5]));
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
///
/// # Errors
/// In the place of a batch: [`ImagesError`], as a [`DataError`](crate::DataError), where one of its images cannot be read or has
/// another size than the first.
#[derive(Clone, Debug)]
pub struct ImageCalibration<S> {
    source: S,
    preprocess: Preprocess,
    batch_size: usize,
    device: Device,
}

impl<S: ImageSource> ImageCalibration<S> {
    /// Batches of `batch_size` images, at least one; the last batch may be smaller.
    pub fn new(source: S, preprocess: Preprocess, batch_size: usize, device: &Device) -> Self {
        Self { source, preprocess, batch_size: batch_size.max(1), device: device.clone() }
    }

    fn batch(&self, images: &[LabelledImage]) -> Result<Batch<Tensor<4>>, ImagesError> {
        let preprocess = &self.preprocess;
        let decoded: Vec<_> = images.par_iter().map(|image| decode::planes(image, preprocess)).collect();
        let (mut values, mut size) = (Vec::new(), None);
        // One after the other, so that the first one's error counts.
        for (image, decoded) in images.iter().zip(decoded) {
            let (planes, found) = decoded?;
            let first = *size.get_or_insert(found);
            if found != first {
                return Err(ImagesError::Sizes { name: image.name.clone(), found, first });
            }
            values.reserve_exact(if values.is_empty() { images.len() * planes.len() } else { 0 });
            values.extend(planes);
        }
        let [height, width] = size.unwrap_or_default();
        let data = TensorData::new(values, [images.len(), 3, height, width]);
        let labels = images.iter().map(|image| image.label).collect();
        Ok(Batch { input: Tensor::from_data(data, &self.device), labels })
    }
}

impl<S: ImageSource> Calibration<Tensor<4>> for ImageCalibration<S> {
    fn batches(&self) -> BatchIter<'_, Tensor<4>> {
        let mut images = self.source.images();
        Box::new(std::iter::from_fn(move || {
            let next: Result<Vec<_>, _> = images.by_ref().take(self.batch_size).collect();
            match next {
                Ok(images) if images.is_empty() => None,
                Ok(images) => Some(self.batch(&images).map_err(Into::into)),
                Err(error) => Some(Err(error.into())),
            }
        }))
    }

    fn samples(&self) -> Option<usize> {
        self.source.samples()
    }
}
