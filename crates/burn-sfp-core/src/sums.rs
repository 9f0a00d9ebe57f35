//! Sums over samples, kept on the device of the activations.
//!
//! On flex and ndarray the kernels of `burn-sfp-ndarray` read a tensor's memory without a copy and sum in double precision. On the
//! CubeCL runtimes (wgpu, Vulkan, CUDA) the kernels of `burn-sfp-wgpu` work on the device's memory, whether Burn fuses operations there
//! or not; a server that hosts kernels runs them for its clients. Every other device runs the portable body made of Burn's own operations, which
//! sums in the device's `f32`, as GPUs do.
//! docs/architecture.md says why this is an enum and not Burn's `#[backend_extension]`.

use std::borrow::Cow;

use burn::tensor::{DType, IndexingUpdateOp, Tensor};
use burn_sfp_nn::NnError;
#[cfg(feature = "wgpu")]
use burn_sfp_nn::bodies::portable_forced;
use burn_sfp_nn::bodies::{Body, Task, ran, ran_portable};
#[cfg(feature = "wgpu")]
use burn_sfp_nn::tensor::on_cube;
use burn_sfp_nn::tensor::{on_host, to_array3, to_vec};
#[cfg(feature = "wgpu")]
use burn_sfp_wgpu::{CubeTensor, GpuError};
use ndarray::{Array2, Array3, Axis};

use crate::SfpError;
#[cfg(feature = "remote")]
use crate::hosted::Hosted;
use crate::labels::{BatchLabels, one_hot};

#[cfg(feature = "wgpu")]
pub(crate) fn device_error(path: &str, error: &GpuError) -> SfpError {
    let out_of_memory = matches!(error, GpuError::OutOfMemory { .. });
    SfpError::Device { path: path.to_string(), out_of_memory, message: error.to_string() }
}

/// Class sums `[C, F, S]`: the activations of a layer, summed over the samples of each label (docs/method.md, section 2).
#[allow(clippy::large_enum_variant)] // one per layer
pub(crate) enum ClassSums {
    Host(Array3<f64>),
    #[cfg(feature = "wgpu")]
    Cube(CubeTensor),
    Device(Tensor<3>),
}

impl ClassSums {
    /// Adds a batch `[N, F, S]`.
    pub(crate) fn add(
        this: &mut Option<Self>,
        acts: &Tensor<3>,
        labels: &BatchLabels<'_>,
        path: &str,
    ) -> Result<(), SfpError> {
        let [_, filters, positions] = acts.dims();
        let (list, classes) = (&*labels.list, labels.classes);
        let host = on_host(acts, |view| {
            let state = this.get_or_insert_with(|| Self::Host(Array3::zeros((classes, filters, positions))));
            match state {
                Self::Host(sums) => Some(burn_sfp_ndarray::class_sums(view, list, sums.view_mut())),
                _ => None,
            }
        });
        if let Some(Some(done)) = host {
            ran(Task::ClassSums, Body::Host);
            return done.map_err(|source| SfpError::Kernel { path: path.to_string(), source });
        }
        #[cfg(feature = "wgpu")]
        if !portable_forced()
            && !matches!(this, Some(Self::Host(_) | Self::Device(_)))
            && let Some(cube) = on_cube(acts)
        {
            // Moved, so that the kernel adds in place.
            let before = match this.take() {
                Some(Self::Cube(sums)) => Some(sums),
                _ => None,
            };
            let sums = cube.and_then(|acts| burn_sfp_wgpu::class_sums(acts, list, classes, before));
            *this = Some(Self::Cube(sums.map_err(|error| device_error(path, &error))?));
            ran(Task::ClassSums, Body::Device);
            return Ok(());
        }
        let device = acts.device();
        #[cfg(feature = "remote")]
        if let Some(hosted) = Hosted::of(&device) {
            // Moved, so that the server adds in place.
            let (before, host) = match this.take() {
                Some(Self::Device(sums)) => (Some(sums), None),
                other => (None, other),
            };
            let sums = Self::Device(hosted.class_sums(single(acts.clone()), labels, before)?);
            *this = Some(match host {
                Some(host) => Self::Host(host.into_host(path)? + sums.into_host(path)?),
                None => sums,
            });
            ran(Task::ClassSums, Body::Hosted);
            return Ok(());
        }
        ran_portable(Task::ClassSums, &device, format_args!("there is none for {device:?} in this build"));
        let sums = match this.take() {
            None => Tensor::zeros([classes, filters, positions], (&device, DType::F32)),
            Some(Self::Device(sums)) => sums,
            Some(other) => {
                let batch = portable_class_sums(acts, labels);
                *this = Some(Self::Host(other.into_host(path)? + to_array3(&batch)?.mapv(f64::from)));
                return Ok(());
            }
        };
        // Touches the rows of the batch's labels alone, in the order of its samples.
        let (labels, acts) = (labels.tensor(&device), single(acts.clone()));
        *this = Some(Self::Device(sums.select_assign(0, labels, acts, IndexingUpdateOp::Add)));
        Ok(())
    }

    /// The sums where they are on the host.
    pub(crate) fn host(&self) -> Option<&Array3<f64>> {
        match self {
            Self::Host(sums) => Some(sums),
            _ => None,
        }
    }

    /// Adds the sums of another part of the data.
    pub(crate) fn merge(this: &mut Option<Self>, part: Option<Array3<f64>>, path: &str) -> Result<(), SfpError> {
        let Some(part) = part else { return Ok(()) };
        *this = Some(Self::Host(match this.take() {
            None => part,
            Some(sums) => sums.into_host(path)? + &part,
        }));
        Ok(())
    }

    /// The sums, read from the device where they are on one.
    pub(crate) fn on_host(&self, path: &str) -> Result<Cow<'_, Array3<f64>>, SfpError> {
        #[cfg(not(feature = "wgpu"))]
        let _ = path;
        match self {
            Self::Host(sums) => Ok(Cow::Borrowed(sums)),
            #[cfg(feature = "wgpu")]
            Self::Cube(sums) => Ok(Cow::Owned(read_back(sums.clone()).map_err(|error| device_error(path, &error))?)),
            Self::Device(sums) => Ok(Cow::Owned(to_doubles(sums.clone())?)),
        }
    }

    pub(crate) fn into_host(self, path: &str) -> Result<Array3<f64>, SfpError> {
        match self {
            Self::Host(sums) => Ok(sums),
            other => Ok(other.on_host(path)?.into_owned()),
        }
    }
}

#[cfg(feature = "wgpu")]
fn read_back(sums: CubeTensor) -> Result<Array3<f64>, GpuError> {
    let shape = sums.meta.shape();
    let shape = (shape[0], shape[1], shape[2]);
    let values = burn_sfp_wgpu::read(sums)?.into_iter().map(f64::from).collect();
    // As many values as the shape says, which `read` makes sure of.
    Array3::from_shape_vec(shape, values).map_err(|error| GpuError::Device { message: error.to_string(), lost: false })
}

/// Activations in single precision, in which everything here reads them, whatever the model computes in.
pub(crate) fn single(acts: Tensor<3>) -> Tensor<3> {
    if acts.dtype() == DType::F32 { acts } else { acts.cast(DType::F32) }
}

/// A tensor of sums in double precision, whatever its type.
fn to_doubles(sums: Tensor<3>) -> Result<Array3<f64>, SfpError> {
    let shape = sums.dims();
    Array3::from_shape_vec(shape, doubles(sums)?).map_err(|error| NnError::Read { message: error.to_string() }.into())
}

/// The values of a tensor of sums, row by row, read from its device.
pub(crate) fn doubles<const D: usize>(sums: Tensor<D>) -> Result<Vec<f64>, SfpError> {
    let data = sums.into_data();
    if data.dtype() != DType::F64 {
        return Ok(to_vec(data)?.into_iter().map(f64::from).collect());
    }
    data.try_into_vec().map_err(|error| NnError::Read { message: format!("{error:?}") }.into())
}

/// Class sums of one batch by Burn's operations alone: the product of the one-hot labels with the activations.
pub(crate) fn portable_class_sums(acts: &Tensor<3>, labels: &BatchLabels<'_>) -> Tensor<3> {
    let classes = labels.classes;
    let [samples, filters, positions] = acts.dims();
    let device = acts.device();
    let of_label = one_hot(&labels.tensor(&device), classes).transpose();
    let acts = single(acts.clone()).reshape([samples, filters * positions]);
    of_label.matmul(acts).reshape([classes, filters, positions])
}

/// The Gram matrix X'X of a layer's activations, `[F S, F S]` (docs/method.md, section 1).
#[allow(clippy::large_enum_variant)] // one per layer
pub(crate) enum Gram {
    /// The lower triangle in double precision.
    Host(Array2<f64>),
    /// All of it, or the lower triangle where a server's kernel made it.
    Device(Tensor<2>),
}

impl Gram {
    /// Adds a batch `[N, F, S]`.
    pub(crate) fn add(this: &mut Option<Self>, acts: &Tensor<3>, path: &str) -> Result<(), SfpError> {
        let [samples, filters, positions] = acts.dims();
        let features = filters * positions;
        let host = on_host(acts, |view| {
            let state = this.get_or_insert_with(|| Self::Host(Array2::zeros((features, features))));
            let flat = view.to_shape((samples, features));
            match (state, flat) {
                (Self::Host(gram), Ok(flat)) => Some(burn_sfp_ndarray::gram_update(flat.view(), gram.view_mut())),
                _ => None,
            }
        });
        if let Some(Some(done)) = host {
            return done.map_err(|source| SfpError::Kernel { path: path.to_string(), source });
        }
        let flat = single(acts.clone()).reshape([samples, features]);
        #[cfg(feature = "remote")]
        if let Some(hosted) = Hosted::of(&flat.device()).filter(Hosted::has_grams) {
            let (before, host) = match this.take() {
                Some(Self::Device(gram)) => (Some(gram), None),
                other => (None, other),
            };
            let gram = Self::Device(hosted.gram(flat, before)?);
            *this = Some(match host {
                Some(host) => Self::Host(host.into_host()? + gram.into_host()?),
                None => gram,
            });
            return Ok(());
        }
        let batch = flat.clone().transpose().matmul(flat);
        *this = Some(match this.take() {
            None => Self::Device(batch),
            Some(Self::Device(gram)) => Self::Device(gram + batch),
            Some(Self::Host(gram)) => Self::Host(gram + Self::Device(batch).into_host()?),
        });
        Ok(())
    }

    /// The matrix where it is on the host.
    pub(crate) fn host(&self) -> Option<&Array2<f64>> {
        match self {
            Self::Host(gram) => Some(gram),
            Self::Device(_) => None,
        }
    }

    /// Adds the matrix of another part of the data.
    pub(crate) fn merge(this: &mut Option<Self>, part: Option<Array2<f64>>) -> Result<(), SfpError> {
        let Some(part) = part else { return Ok(()) };
        *this = Some(Self::Host(match this.take() {
            None => part,
            Some(gram) => gram.into_host()? + &part,
        }));
        Ok(())
    }

    pub(crate) fn into_host(self) -> Result<Array2<f64>, SfpError> {
        match self {
            Self::Host(gram) => Ok(gram),
            Self::Device(gram) => {
                let host = to_doubles(gram.unsqueeze::<3>())?;
                Ok(host.index_axis_move(Axis(0), 0))
            }
        }
    }
}

#[cfg(test)]
#[allow(deprecated)] // burn-ndarray is supported as long as it exists
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    #[test]
    #[cfg(feature = "wgpu")]
    fn sums_on_the_gpu_agree() {
        let Some(device) = crate::gpu::gpu() else { return };
        let acts = Tensor::<3>::random([6, 5, 3], burn::tensor::Distribution::Default, &device);
        let labels = BatchLabels::new(&[2, 0, 2, 1, 2, 0], 4);
        let mut sums = None;
        ClassSums::add(&mut sums, &acts, &labels, "layer").unwrap();
        ClassSums::add(&mut sums, &acts, &labels, "layer").unwrap();
        let found = sums.unwrap().into_host("layer").unwrap();
        let portable = to_array3(&portable_class_sums(&acts, &labels)).unwrap();
        assert!(found.iter().zip(&portable).all(|(a, b)| (a - 2.0 * f64::from(*b)).abs() < 1e-5));
    }

    #[test]
    fn portable_and_host_bodies_agree() {
        for device in [Device::flex(), Device::ndarray()] {
            let values: Vec<f32> = (0..5 * 3 * 4).map(|k| ((k * 37 % 19) as f32).sin()).collect();
            let acts = Tensor::<3>::from_data(TensorData::new(values.clone(), [5, 3, 4]), &device);
            let labels = BatchLabels::new(&[1, 0, 1, 2, 1], 4);
            let mut sums = None;
            ClassSums::add(&mut sums, &acts, &labels, "layer").unwrap();
            assert!(matches!(sums, Some(ClassSums::Host(_))), "no copy-free view on {device:?}");
            let host = sums.unwrap().into_host("layer").unwrap();
            let portable = to_array3(&portable_class_sums(&acts, &labels)).unwrap();
            for ((c, f, s), &sum) in host.indexed_iter() {
                let reference: f64 =
                    (0..5).filter(|&n| labels.list[n] == c).map(|n| f64::from(values[(n * 3 + f) * 4 + s])).sum();
                assert!((sum - reference).abs() < 1e-12);
                assert!((f64::from(portable[[c, f, s]]) - reference).abs() < 1e-5);
            }
        }
    }
}
