//! The networks: one file a family.

mod conformer;
mod mobilenet;
mod nanochat;
mod onnx;
mod qwen3;
mod resnet;
mod silero;
mod sortformer;
mod swin;
mod whisper;

use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_sfp::prelude::GraphModule;

use crate::random::{Noise, vary};

/// Which variant of each network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// As wide and as deep as networks of its kind are, at the lower end: a forward pass takes at most a second or two on a CPU.
    Standard,
    /// Narrow, for tests.
    Small,
}

/// What is known of a network before it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// The crate that it is from, or that generated it.
    pub source: &'static str,
    /// What it is and does, in a few words.
    pub about: &'static str,
}

/// What is done with each network.
pub trait Visit {
    /// Receives a network that is made, with an input for it, when `make` is called.
    fn visit<M: GraphModule>(&mut self, entry: Entry, make: impl FnOnce() -> (M, M::Inputs));
}

/// Shows every network to the visitor, one after the other.
///
/// ```
/// use burn::tensor::Device;
/// use burn_sfp::prelude::GraphModule;
/// use zoo_elsewhere::networks::{Entry, Size, Visit, visit_all};
///
/// struct Names(Vec<&'static str>);
/// impl Visit for Names {
///     fn visit<M: GraphModule>(&mut self, entry: Entry, _make: impl FnOnce() -> (M, M::Inputs)) {
///         self.0.push(entry.name);
///     }
/// }
/// let mut names = Names(Vec::new());
/// visit_all(Size::Small, &Device::flex(), &mut names);
/// assert_eq!(names.0[0], "ResNet-18");
/// ```
pub fn visit_all(size: Size, device: &Device, visit: &mut impl Visit) {
    let make = Make { size, device };
    resnet::visit(&make, visit);
    mobilenet::visit(&make, visit);
    swin::visit(&make, visit);
    nanochat::visit(&make, visit);
    qwen3::visit(&make, visit);
    whisper::visit(&make, visit);
    silero::visit(&make, visit);
    conformer::visit(&make, visit);
    sortformer::visit(&make, visit);
    onnx::visit(&make, visit);
}

/// The variant that is asked for, and where it is made.
struct Make<'a> {
    size: Size,
    device: &'a Device,
}

impl Make<'_> {
    fn pick<T>(&self, standard: T, small: T) -> T {
        match self.size {
            Size::Standard => standard,
            Size::Small => small,
        }
    }

    /// A network of `bunsen` as it is made, with weights that are the same in every run, and its biases and scales varied.
    fn network<M: GraphModule>(&self, make: impl FnOnce(&Device) -> M) -> M {
        self.device.seed(1);
        vary(make(self.device), 2)
    }

    /// Numbers between -1 and 1.
    fn floats<const D: usize>(&self, shape: [usize; D]) -> Tensor<D> {
        let mut noise = Noise::new(3);
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| noise.next()).collect();
        Tensor::from_data(TensorData::new(values, shape), self.device)
    }

    /// Indices of tokens, all different ones as far as the vocabulary goes.
    fn tokens<const D: usize>(&self, shape: [usize; D], vocabulary: usize) -> Tensor<D, Int> {
        let values: Vec<i64> = (0..shape.iter().product()).map(|k: usize| (7 * k % vocabulary) as i64).collect();
        Tensor::from_data(TensorData::new(values, shape), self.device)
    }
}

/// An entry of `bunsen`.
const fn bunsen(name: &'static str, about: &'static str) -> Entry {
    Entry { name, source: "bunsen 0.41.0", about }
}
