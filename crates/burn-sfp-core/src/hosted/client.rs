//! [`enable`], and the operations as the analysis calls them: [`Hosted`].

use std::sync::{Mutex, PoisonError};

use burn::backend::ir::{CustomOpIr, TensorIr};
use burn::backend::{DispatchDevice, Remote};
use burn::remote::CustomOpClient;
use burn::tensor::{DType, Device, Shape, Tensor};

use super::ops;
use crate::SfpError;
use crate::labels::BatchLabels;

/// A remote device whose server hosts the kernels.
type RemoteDevice = <Remote as burn::backend::BackendTypes>::Device;

static ENABLED: Mutex<Vec<(RemoteDevice, bool)>> = Mutex::new(Vec::new());

/// Has the analysis' kernels run on the server of a remote device, which must host them (`server`). The server is asked at once.
///
/// Then sums on the server's CPU are in double precision, as on the CPU of this machine: where both compute alike, the analysis there is
/// that of this machine, bit for bit. A device that is not remote has kernels of its own, and is left alone.
///
/// ```no_run
/// use burn::remote::RemoteHost;
/// use burn::tensor::Device;
///
/// let device = Device::remote_options(&RemoteHost::websocket("ws://127.0.0.1:3000")).init()?;
/// burn_sfp_core::hosted::enable(&device)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`SfpError::NoServerKernels`] where the server hosts no kernels, or those of another version. Burn ends the session of a client that asks for an
/// operation that a server does not know, and keeps one session for each server: that device is lost to this process.
pub fn enable(device: &Device) -> Result<(), SfpError> {
    let device = device.clone().without_autodiff();
    let DispatchDevice::Remote(remote) = device.as_dispatch() else { return Ok(()) };
    let asked = run(remote, ops::KERNELS, Vec::new(), Shape::from([2]), DType::F32);
    let answer = Tensor::<1>::from_primitive::<Remote>(asked).try_into_data();
    let refused = |found: String| SfpError::NoServerKernels { device: format!("{device:?}"), found };
    let answer: Vec<f32> = answer.map_err(|error| refused(format!("{error:?}")))?.iter::<f32>().collect();
    let [version, doubles] = answer[..] else { return Err(refused(format!("an answer of {} numbers", answer.len()))) };
    if version != ops::VERSION {
        return Err(refused(format!("version {version}, here it is {}", ops::VERSION)));
    }
    let mut enabled = ENABLED.lock().unwrap_or_else(PoisonError::into_inner);
    enabled.retain(|(other, _)| other != remote);
    enabled.push((remote.clone(), doubles == 1.0));
    Ok(())
}

/// The kernels of a server.
pub(crate) struct Hosted {
    device: RemoteDevice,
    /// Whether they sum in double precision.
    doubles: bool,
}

impl Hosted {
    /// The kernels of the server of this device, where they are [enabled](enable).
    pub(crate) fn of(device: &Device) -> Option<Self> {
        let DispatchDevice::Remote(remote) = device.as_dispatch() else { return None };
        let enabled = ENABLED.lock().unwrap_or_else(PoisonError::into_inner);
        let (device, doubles) = enabled.iter().find(|(other, _)| other == remote)?.clone();
        Some(Self { device, doubles })
    }

    /// Adds the activations `[N, F, S]` of a batch, in single precision, to class sums.
    pub(crate) fn class_sums(
        &self,
        acts: Tensor<3>,
        labels: &BatchLabels<'_>,
        before: Option<Tensor<3>>,
    ) -> Result<Tensor<3>, SfpError> {
        let dtype = if self.doubles { DType::F64 } else { DType::F32 };
        let [_, filters, positions] = acts.dims();
        let shape = Shape::from([labels.classes, filters, positions]);
        let labels = labels.tensor(&acts.device()).try_into_primitive::<Remote>().map_err(|_| self.elsewhere())?;
        self.add(ops::CLASS_SUMS, acts, Some(labels.into_ir()), before, shape, dtype)
    }

    /// Whether there is a kernel for Gram matrices: on a server's CPU.
    pub(crate) fn has_grams(&self) -> bool {
        self.doubles
    }

    /// Adds X'X of the activations `[N, F]` of a batch, in single precision, to the lower triangle of a matrix.
    pub(crate) fn gram(&self, acts: Tensor<2>, before: Option<Tensor<2>>) -> Result<Tensor<2>, SfpError> {
        let features = acts.dims()[1];
        self.add(ops::GRAM, acts, None, before, Shape::from([features, features]), DType::F64)
    }

    fn add<const D: usize>(
        &self,
        name: &'static str,
        acts: Tensor<D>,
        beside: Option<TensorIr>,
        before: Option<Tensor<D>>,
        shape: Shape,
        dtype: DType,
    ) -> Result<Tensor<D>, SfpError> {
        let before = before.map(|before| if before.dtype() == dtype { before } else { before.cast(dtype) });
        let input = |tensor: Tensor<D>| {
            Ok::<_, SfpError>(tensor.try_into_primitive::<Remote>().map_err(|_| self.elsewhere())?.into_ir())
        };
        let mut inputs = vec![input(acts)?];
        inputs.extend(beside);
        if let Some(before) = before {
            inputs.push(input(before)?);
        }
        let made = run(&self.device, name, inputs, shape, dtype);
        Ok(Tensor::from_primitive::<Remote>(made))
    }

    fn elsewhere(&self) -> SfpError {
        let device = format!("{:?}", self.device);
        SfpError::NoServerKernels { device, found: "tensors of another device".into() }
    }
}

/// Sends an operation with one result.
fn run(
    device: &RemoteDevice,
    name: &'static str,
    inputs: Vec<TensorIr>,
    shape: Shape,
    dtype: DType,
) -> burn::backend::tensor::FloatTensor<Remote> {
    let client = CustomOpClient::new(device);
    let out = TensorIr::uninit(client.create_empty_handle(), shape, dtype);
    let mut made = client.register(CustomOpIr::new(name, &inputs, &[out]));
    made.swap_remove(0)
}
