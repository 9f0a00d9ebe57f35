//! [`ModuleInput`]: tensors, and structures of tensors, that a module takes or returns.

use burn::tensor::{Bool, Device, Int, Tensor};

/// Implements [`InputMapper`] for a type that does the same with tensors of every kind.
macro_rules! map_every_kind {
    ($type:ty, $self:ident, $tensor:ident, $body:expr) => {
        impl $crate::InputMapper for $type {
            fn float<const D: usize>(&mut $self, $tensor: ::burn::tensor::Tensor<D>) -> ::burn::tensor::Tensor<D> {
                $body
            }
            fn int<const D: usize>(
                &mut $self,
                $tensor: ::burn::tensor::Tensor<D, ::burn::tensor::Int>,
            ) -> ::burn::tensor::Tensor<D, ::burn::tensor::Int> {
                $body
            }
            fn bool<const D: usize>(
                &mut $self,
                $tensor: ::burn::tensor::Tensor<D, ::burn::tensor::Bool>,
            ) -> ::burn::tensor::Tensor<D, ::burn::tensor::Bool> {
                $body
            }
        }
    };
}
pub(crate) use map_every_kind;

/// The input or output of a module: tensors whose first axis counts the samples.
///
/// Implemented for tensors, tuples, arrays, `Vec` and `Option`. An implementation for a struct of your own maps its fields in a fixed order:
///
/// ```
/// use burn::tensor::Tensor;
/// use burn_sfp_graph::{InputMapper, ModuleInput};
///
/// #[derive(Clone)]
/// struct Scan { image: Tensor<4>, age: Tensor<2> }
///
/// impl ModuleInput for Scan {
///     fn map_tensors<M: InputMapper>(self, mapper: &mut M) -> Self {
///         Self { image: self.image.map_tensors(mapper), age: self.age.map_tensors(mapper) }
///     }
/// }
/// ```
pub trait ModuleInput: Clone + Send + 'static {
    /// Passes every tensor through the mapper, always in the same order.
    fn map_tensors<M: InputMapper>(self, mapper: &mut M) -> Self;

    /// Moves every tensor to the device.
    fn to_device(self, device: &Device) -> Self {
        struct Move<'a>(&'a Device);
        map_every_kind!(Move<'_>, self, tensor, tensor.to_device(self.0));
        self.map_tensors(&mut Move(device))
    }

    /// The samples `start..end` of every tensor. The range must lie inside the batch.
    fn slice_samples(self, start: usize, end: usize) -> Self {
        struct Cut(usize, usize);
        map_every_kind!(Cut, self, tensor, tensor.slice_dim(0, self.0..self.1));
        self.map_tensors(&mut Cut(start, end))
    }

    /// Shapes of all tensors, in the order of [`map_tensors`](ModuleInput::map_tensors).
    fn shapes(&self) -> Vec<Vec<usize>> {
        struct Shapes(Vec<Vec<usize>>);
        map_every_kind!(Shapes, self, tensor, {
            self.0.push(tensor.dims().to_vec());
            tensor
        });
        let mut shapes = Shapes(Vec::new());
        let _ = self.clone().map_tensors(&mut shapes);
        shapes.0
    }

    /// Number of samples: the first axis of the first tensor, 0 where there is no tensor.
    fn samples(&self) -> usize {
        self.shapes().first().and_then(|shape| shape.first().copied()).unwrap_or(0)
    }
}

/// Maps each tensor of a [`ModuleInput`].
pub trait InputMapper {
    /// Maps a float tensor.
    fn float<const D: usize>(&mut self, tensor: Tensor<D>) -> Tensor<D>;
    /// Maps an integer tensor.
    fn int<const D: usize>(&mut self, tensor: Tensor<D, Int>) -> Tensor<D, Int>;
    /// Maps a boolean tensor.
    fn bool<const D: usize>(&mut self, tensor: Tensor<D, Bool>) -> Tensor<D, Bool>;
}

impl<const D: usize> ModuleInput for Tensor<D> {
    fn map_tensors<M: InputMapper>(self, mapper: &mut M) -> Self {
        mapper.float(self)
    }
}

impl<const D: usize> ModuleInput for Tensor<D, Int> {
    fn map_tensors<M: InputMapper>(self, mapper: &mut M) -> Self {
        mapper.int(self)
    }
}

impl<const D: usize> ModuleInput for Tensor<D, Bool> {
    fn map_tensors<M: InputMapper>(self, mapper: &mut M) -> Self {
        mapper.bool(self)
    }
}

impl<T: ModuleInput> ModuleInput for Vec<T> {
    fn map_tensors<M: InputMapper>(self, mapper: &mut M) -> Self {
        self.into_iter().map(|item| item.map_tensors(mapper)).collect()
    }
}

impl<T: ModuleInput> ModuleInput for Option<T> {
    fn map_tensors<M: InputMapper>(self, mapper: &mut M) -> Self {
        self.map(|item| item.map_tensors(mapper))
    }
}

impl<T: ModuleInput, const N: usize> ModuleInput for [T; N] {
    fn map_tensors<M: InputMapper>(self, mapper: &mut M) -> Self {
        self.map(|item| item.map_tensors(mapper))
    }
}

macro_rules! tuple_input {
    ($($name:ident),+) => {
        impl<$($name: ModuleInput),+> ModuleInput for ($($name,)+) {
            #[allow(non_snake_case)]
            fn map_tensors<Mapper: InputMapper>(self, mapper: &mut Mapper) -> Self {
                let ($($name,)+) = self;
                ($($name.map_tensors(mapper),)+)
            }
        }
    };
}
tuple_input!(A);
tuple_input!(A, B);
tuple_input!(A, B, C);
tuple_input!(A, B, C, D);
