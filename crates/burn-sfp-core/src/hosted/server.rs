//! [`server`]: the kernels as custom operations.

use burn::backend::ir::{BackendIr, CustomOpIr, HandleContainer, TensorIr};
use burn::backend::{DispatchDevice, DispatchKindConversion};
use burn::server::RemoteServer;
use burn::tensor::{DType, Device, DispatchTensor, Int, Tensor, TensorData};
use burn_sfp_nn::tensor::on_host;
use ndarray::{Array2, Array3};

use super::ops;
use crate::sums::doubles;

/// A server of these devices that hosts the kernels of this library besides Burn's operations, for clients that call [`enable`](super::enable). To
/// others it is a [`RemoteServer`] like any other.
///
/// ```no_run
/// use burn::server::WebSocketTransport;
/// use burn::tensor::Device;
///
/// burn_sfp_core::hosted::server([Device::flex()]).serve(WebSocketTransport::new(3000))?;
/// # Ok::<(), burn::server::ServeError>(())
/// ```
pub fn server(devices: impl IntoIterator<Item = Device>) -> RemoteServer {
    let devices: Vec<Device> = devices.into_iter().map(Device::without_autodiff).collect();
    let server = RemoteServer::new(devices.clone());
    match devices.first().map(Device::as_dispatch) {
        #[cfg(feature = "flex")]
        Some(DispatchDevice::Flex(_)) => hosting::<burn::backend::Flex>(server, true),
        #[cfg(feature = "ndarray")]
        #[allow(deprecated)] // burn-ndarray is supported as long as it exists
        Some(DispatchDevice::NdArray(_)) => hosting::<burn::backend::NdArray>(server, true),
        #[cfg(feature = "wgpu")]
        Some(DispatchDevice::Cube(_)) => hosting::<burn::backend::Cube>(server, false),
        _ => server,
    }
}

/// Registers the operations for a backend whose sums are in double precision, or not.
fn hosting<B: BackendIr>(server: RemoteServer, doubles: bool) -> RemoteServer
where
    DispatchTensor: DispatchKindConversion<B>,
{
    let server = server.with_custom_op::<B, _>(ops::KERNELS, move |handles, op, device| {
        let answer = [ops::VERSION, f32::from(u8::from(doubles))];
        let made = B::float_from_data(TensorData::new(answer.to_vec(), [2]), device);
        handles.register_float_tensor::<B>(&op.outputs[0].id, made);
    });
    let server = server.with_custom_op::<B, _>(ops::CLASS_SUMS, |handles, op, _| {
        let labels = Tensor::<1, Int>::from_primitive::<B>(handles.get_int_tensor::<B>(&op.inputs[1]));
        let labels: Vec<usize> = labels.into_data().iter::<i64>().map(|label| label as usize).collect();
        let (acts, before) = inputs::<B, 3>(handles, op, 2);
        made::<B, 3>(handles, op, class_sums(acts, before, &labels, op.outputs[0].shape[0]));
    });
    if !doubles {
        return server;
    }
    server.with_custom_op::<B, _>(ops::GRAM, |handles, op, _| {
        let (acts, before) = inputs::<B, 2>(handles, op, 1);
        made::<B, 2>(handles, op, gram(acts, before));
    })
}

/// The activations and, where input `before` is there, the sums so far. Those that the client does not hold any more are handed over, and
/// written to in place.
fn inputs<B: BackendIr, const D: usize>(
    handles: &mut HandleContainer<B::Handle>,
    op: &CustomOpIr,
    before: usize,
) -> (Tensor<D>, Option<Tensor<D>>)
where
    DispatchTensor: DispatchKindConversion<B>,
{
    let mut get = |tensor: &TensorIr| Tensor::from_primitive::<B>(handles.get_float_tensor::<B>(tensor));
    (get(&op.inputs[0]), op.inputs.get(before).map(get))
}

/// Hands a result out. What is wrong ends the client's session with this message: an operation cannot return an error.
fn made<B: BackendIr, const D: usize>(
    handles: &mut HandleContainer<B::Handle>,
    op: &CustomOpIr,
    made: Result<Tensor<D>, String>,
) where
    DispatchTensor: DispatchKindConversion<B>,
{
    let made = made.and_then(|made| made.try_into_primitive::<B>().map_err(|_| "another backend's tensor".into()));
    match made {
        Ok(made) => handles.register_float_tensor::<B>(&op.outputs[0].id, made),
        Err(error) => panic!("{}: {error}", op.id),
    }
}

fn class_sums(
    acts: Tensor<3>,
    before: Option<Tensor<3>>,
    labels: &[usize],
    classes: usize,
) -> Result<Tensor<3>, String> {
    #[cfg(feature = "wgpu")]
    if let Some(acts) = burn_sfp_nn::tensor::cube_primitive(&acts) {
        return on_cube(acts, before, labels, classes);
    }
    let [_, filters, positions] = acts.dims();
    let shape = (classes, filters, positions);
    let mut sums = match before {
        Some(before) => Array3::from_shape_vec(shape, values(before)?).map_err(|error| error.to_string())?,
        None => Array3::zeros(shape),
    };
    let done = on_host(&acts, |acts| burn_sfp_ndarray::class_sums(acts, labels, sums.view_mut()));
    done.ok_or("the activations are not in memory")?.map_err(|error| error.to_string())?;
    let (made, _) = sums.into_raw_vec_and_offset();
    Ok(Tensor::from_data(TensorData::new(made, [classes, filters, positions]), (&acts.device(), DType::F64)))
}

#[cfg(feature = "wgpu")]
fn on_cube(
    acts: burn_sfp_nn::tensor::CubePrimitive,
    before: Option<Tensor<3>>,
    labels: &[usize],
    classes: usize,
) -> Result<Tensor<3>, String> {
    use burn::backend::{Cube, TensorMetadata};
    use burn_sfp_wgpu::KernelBackend;

    let labels = labels.to_vec();
    let [_, filters, positions] = acts.shape().dims();
    let shape = [classes, filters, positions].into();
    let made = match before {
        None => Cube::launch([acts], shape, DType::F32, move |[acts]| {
            burn_sfp_wgpu::class_sums(acts, &labels, classes, None)
        }),
        Some(before) => {
            // Moved, so that the kernel adds in place.
            let before = before.try_into_primitive::<Cube>().map_err(|_| "the sums are on another device")?;
            Cube::launch([acts, before], shape, DType::F32, move |[acts, before]| {
                burn_sfp_wgpu::class_sums(acts, &labels, classes, Some(before))
            })
        }
    };
    Ok(Tensor::from_primitive::<Cube>(made.map_err(|error| error.to_string())?))
}

fn gram(acts: Tensor<2>, before: Option<Tensor<2>>) -> Result<Tensor<2>, String> {
    let features = acts.dims()[1];
    let mut gram = match before {
        Some(before) => {
            Array2::from_shape_vec((features, features), values(before)?).map_err(|error| error.to_string())?
        }
        None => Array2::zeros((features, features)),
    };
    let done = on_host(&acts, |acts| burn_sfp_ndarray::gram_update(acts, gram.view_mut()));
    done.ok_or("the activations are not in memory")?.map_err(|error| error.to_string())?;
    let (made, _) = gram.into_raw_vec_and_offset();
    Ok(Tensor::from_data(TensorData::new(made, [features, features]), (&acts.device(), DType::F64)))
}

/// The values of sums, without a copy where nobody else holds them.
fn values<const D: usize>(sums: Tensor<D>) -> Result<Vec<f64>, String> {
    doubles(sums).map_err(|error| error.to_string())
}
