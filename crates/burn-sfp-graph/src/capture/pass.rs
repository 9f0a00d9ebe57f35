//! [`ForwardPass`]: a forward pass of a module and an example of its input.

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use burn::backend::ir::TensorId;
use burn::tensor::{Device, Tensor};
use burn_capture::CaptureBackend;

use crate::ModuleInput;
use crate::input::map_every_kind;

/// The tensors that forward passes take and return on the capture device.
#[derive(Default)]
pub(super) struct Boundary {
    pub inputs: Vec<TensorId>,
    pub outputs: Vec<TensorId>,
    pub output_shapes: Vec<Vec<usize>>,
}

impl Boundary {
    /// Puts an input on the capture device.
    pub fn put<I: ModuleInput>(&mut self, input: &I, device: &Device) -> I {
        let mut ids = Ids::default();
        // A capture device takes no tensor with autodiff.
        let input = input.clone().map_tensors(&mut Plain).to_device(device).map_tensors(&mut ids);
        self.inputs.extend(ids.0);
        input
    }
}

/// A forward pass that can be recorded.
pub(super) trait Pass<M> {
    fn input_shapes(&self) -> Vec<Vec<usize>>;
    /// Number of samples of the input.
    fn samples(&self) -> usize;
    /// Runs the pass on the capture device.
    fn run(&self, model: &M, device: &Device, boundary: &mut Boundary);
}

/// A pass over an input that is borrowed or owned.
pub(super) struct Borrowed<B, I, O, F> {
    input: B,
    forward: F,
    of: PhantomData<fn(I) -> O>,
}

impl<B: Borrow<I>, I, O, F> Borrowed<B, I, O, F> {
    pub fn new<M>(input: B, forward: F) -> Self
    where
        F: Fn(&M, I) -> O,
    {
        Self { input, forward, of: PhantomData }
    }
}

impl<M, B: Borrow<I>, I: ModuleInput, O: ModuleInput, F: Fn(&M, I) -> O> Pass<M> for Borrowed<B, I, O, F> {
    fn input_shapes(&self) -> Vec<Vec<usize>> {
        self.input.borrow().shapes()
    }

    fn samples(&self) -> usize {
        self.input.borrow().samples()
    }

    fn run(&self, model: &M, device: &Device, boundary: &mut Boundary) {
        let input = boundary.put(self.input.borrow(), device);
        let outputs = (self.forward)(model, input);
        boundary.output_shapes.extend(outputs.shapes());
        let mut ids = Ids::default();
        let _outputs = outputs.map_tensors(&mut ids);
        boundary.outputs.extend(ids.0);
    }
}

/// One more forward pass of a module, which is captured into the same network as its main one: of a training path, of an auxiliary head, of
/// another combination of inputs.
///
/// See [`Network::capture_passes`](crate::Network::capture_passes) for an example.
pub struct ForwardPass<M>(Arc<dyn Pass<M> + Send + Sync>);

impl<M: 'static> ForwardPass<M> {
    /// Creates a pass that calls `forward` with an example input, whose values are not used.
    pub fn new<I, O>(input: I, forward: impl Fn(&M, I) -> O + Send + Sync + 'static) -> Self
    where
        I: ModuleInput + Send + Sync + 'static,
        O: ModuleInput + 'static,
    {
        Self(Arc::new(Borrowed::<I, I, O, _>::new(input, forward)))
    }
}

impl<M> ForwardPass<M> {
    pub(super) fn pass(&self) -> &dyn Pass<M> {
        &*self.0
    }
}

impl<M> Clone for ForwardPass<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M> fmt::Debug for ForwardPass<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ForwardPass({:?})", self.0.input_shapes())
    }
}

pub(super) fn id_of<const D: usize>(tensor: &Tensor<D>) -> Option<TensorId> {
    tensor.clone().try_into_primitive::<CaptureBackend>().ok().map(|primitive| primitive.id())
}

/// Takes autodiff off.
struct Plain;

map_every_kind!(Plain, self, tensor, tensor.without_autodiff());

#[derive(Default)]
struct Ids(Vec<TensorId>);

map_every_kind!(Ids, self, tensor, {
    self.0.extend(tensor.clone().try_into_primitive::<CaptureBackend>().ok().map(|primitive| primitive.id()));
    tensor
});
