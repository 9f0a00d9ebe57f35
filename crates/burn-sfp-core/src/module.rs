//! [`GraphModule`] and [`SfpModule`], the traits over Burn modules, and what their inputs have to offer.

use burn::module::Module;
use burn::tensor::{Bool, Device, Int, Tensor};

use crate::{Analysis, AnalyzeConfig, Calibration, SfpError, Shrink};

/// A Burn module whose graph can be captured and pruned, whatever it takes and returns.
///
/// Every [`SfpModule`] is one. A network that is no classifier (segmentation, several outputs) implements this directly; it
/// can be pruned by every policy that asks for no analysis.
///
/// ```
/// use burn::prelude::*;
/// use burn::nn::conv::{Conv2d, Conv2dConfig};
/// use burn_sfp_core::GraphModule;
/// use burn_sfp_core::network::Network;
///
/// #[derive(Module, Debug)]
/// struct TwoMaps { stem: Conv2d, a: Conv2d, b: Conv2d }
///
/// impl GraphModule for TwoMaps {
///     type Inputs = Tensor<4>;
///     type Outputs = (Tensor<4>, Tensor<4>);
///     fn run(&self, x: Tensor<4>) -> Self::Outputs {
///         let x = self.stem.forward(x);
///         (self.a.forward(x.clone()), self.b.forward(x))
///     }
/// }
/// let device = Device::flex();
/// let conv = |from, to| Conv2dConfig::new([from, to], [3, 3]).init(&device);
/// let model = TwoMaps { stem: conv(3, 8), a: conv(8, 2), b: conv(8, 4) };
/// let network = Network::capture(&model, &Tensor::zeros([1, 3, 8, 8], &device))?;
/// assert!(network.layer("a").is_some_and(|layer| layer.not_prunable.is_some()));
/// # Ok::<(), burn_sfp_core::SfpError>(())
/// ```
pub trait GraphModule: Module {
    /// What the forward pass takes.
    type Inputs: ModuleInput;
    /// What it returns; the channels of outputs stay.
    type Outputs: ModuleInput;

    /// The forward pass.
    fn run(&self, inputs: Self::Inputs) -> Self::Outputs;

    /// The module as something whose plain fields can follow; see [`Shrink`]. `Some(self)` where it derives that.
    fn shrinkable(&mut self) -> Option<&mut dyn Shrink> {
        None
    }
}

impl<M: SfpModule> GraphModule for M {
    type Inputs = M::Input;
    type Outputs = Tensor<2>;

    fn run(&self, inputs: M::Input) -> Tensor<2> {
        self.logits(inputs)
    }

    fn shrinkable(&mut self) -> Option<&mut dyn Shrink> {
        SfpModule::shrinkable(self)
    }
}

/// A classifier that can be analysed and pruned: a Burn module that turns an input into logits.
///
/// Nothing else is described by hand: the network's graph is captured from one call of
/// [`logits`](SfpModule::logits).
///
/// ```
/// use burn::prelude::*;
/// use burn::nn::{Linear, LinearConfig};
/// use burn_sfp_core::SfpModule;
///
/// #[derive(Module, Debug)]
/// struct Classifier { fc: Linear }
///
/// impl SfpModule for Classifier {
///     type Input = Tensor<2>;
///     fn logits(&self, x: Tensor<2>) -> Tensor<2> { self.fc.forward(x) }
/// }
/// let model = Classifier { fc: LinearConfig::new(4, 3).init(&Device::flex()) };
/// assert_eq!(model.logits(Tensor::zeros([2, 4], &Device::flex())).dims(), [2, 3]);
/// ```
pub trait SfpModule: Module {
    /// What the forward pass takes: a tensor, a tuple of them, or a struct of the user's own that
    /// implements [`ModuleInput`].
    type Input: ModuleInput;

    /// The forward pass: `[samples, classes]`, before any softmax.
    fn logits(&self, input: Self::Input) -> Tensor<2>;

    /// The module as something whose plain fields can follow; see [`Shrink`]. `Some(self)` where it derives that: needed by
    /// networks with depthwise convolutions, group normalisations and the like, whose pruning otherwise ends in an error that
    /// says so.
    fn shrinkable(&mut self) -> Option<&mut dyn Shrink> {
        None
    }

    /// What every filter recognises: [`analyze`](crate::analyze) as a method.
    ///
    /// # Errors
    /// As [`analyze`](crate::analyze).
    fn analyze<C: Calibration<Self::Input> + ?Sized>(
        &self,
        calibration: &C,
        config: &AnalyzeConfig,
    ) -> Result<Analysis, SfpError> {
        crate::analyze(self, calibration, config)
    }
}

/// An input of a module: tensors whose first axis counts the samples.
///
/// Implemented for tensors, tuples, arrays, `Vec` and `Option`. A struct of one's own maps its fields
/// in a fixed order:
///
/// ```
/// use burn::tensor::Tensor;
/// use burn_sfp_core::{InputMapper, ModuleInput};
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
pub trait ModuleInput: Clone {
    /// Passes every tensor through the mapper, always in the same order.
    fn map_tensors<M: InputMapper>(self, mapper: &mut M) -> Self;

    /// Moves every tensor to the device.
    fn to_device(self, device: &Device) -> Self {
        struct Move<'a>(&'a Device);
        impl InputMapper for Move<'_> {
            fn float<const D: usize>(&mut self, tensor: Tensor<D>) -> Tensor<D> {
                tensor.to_device(self.0)
            }
            fn int<const D: usize>(&mut self, tensor: Tensor<D, Int>) -> Tensor<D, Int> {
                tensor.to_device(self.0)
            }
            fn bool<const D: usize>(&mut self, tensor: Tensor<D, Bool>) -> Tensor<D, Bool> {
                tensor.to_device(self.0)
            }
        }
        self.map_tensors(&mut Move(device))
    }

    /// The samples `start..end` of every tensor. The range must lie inside the batch.
    fn slice_samples(self, start: usize, end: usize) -> Self {
        struct Cut(usize, usize);
        impl InputMapper for Cut {
            fn float<const D: usize>(&mut self, tensor: Tensor<D>) -> Tensor<D> {
                tensor.slice_dim(0, self.0..self.1)
            }
            fn int<const D: usize>(&mut self, tensor: Tensor<D, Int>) -> Tensor<D, Int> {
                tensor.slice_dim(0, self.0..self.1)
            }
            fn bool<const D: usize>(&mut self, tensor: Tensor<D, Bool>) -> Tensor<D, Bool> {
                tensor.slice_dim(0, self.0..self.1)
            }
        }
        self.map_tensors(&mut Cut(start, end))
    }

    /// Shapes of all tensors, in the order of [`map_tensors`](ModuleInput::map_tensors).
    fn shapes(&self) -> Vec<Vec<usize>> {
        struct Shapes(Vec<Vec<usize>>);
        impl InputMapper for Shapes {
            fn float<const D: usize>(&mut self, tensor: Tensor<D>) -> Tensor<D> {
                self.0.push(tensor.dims().to_vec());
                tensor
            }
            fn int<const D: usize>(&mut self, tensor: Tensor<D, Int>) -> Tensor<D, Int> {
                self.0.push(tensor.dims().to_vec());
                tensor
            }
            fn bool<const D: usize>(&mut self, tensor: Tensor<D, Bool>) -> Tensor<D, Bool> {
                self.0.push(tensor.dims().to_vec());
                tensor
            }
        }
        let mut shapes = Shapes(Vec::new());
        let _ = self.clone().map_tensors(&mut shapes);
        shapes.0
    }

    /// Number of samples: the first axis of the first tensor, 0 where there is no tensor.
    fn samples(&self) -> usize {
        self.shapes().first().and_then(|shape| shape.first().copied()).unwrap_or(0)
    }
}

/// What can be done with each tensor of a [`ModuleInput`].
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
