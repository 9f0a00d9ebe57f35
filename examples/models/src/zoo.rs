//! All networks with their published sizes, and a way to do something with each.

mod list;

use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_sfp::prelude::GraphModule;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::figure::Figure;
use crate::size::Macs;

/// Classes of every small classifier.
pub const SMALL_CLASSES: usize = 10;
/// Samples in the input of a small network; `slice_samples` makes a smaller batch of it.
pub const SMALL_BATCH: usize = 4;

/// What is known of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// Parameters without running statistics, as published.
    pub parameters: Option<Figure>,
    /// Multiply-adds for one sample, as published.
    pub macs: Option<Figure>,
    /// Multiply-adds as counted by tools that look at layers only and overlook the products inside attentions.
    pub layer_macs: Option<Figure>,
    /// Who published the sizes, and for which input.
    pub source: &'static str,
}

impl Entry {
    /// Whether counted parameters are the published ones; `None` where none are published.
    pub fn parameters_agree(&self, parameters: u64) -> Option<bool> {
        self.parameters.map(|published| published.agrees(parameters))
    }

    /// Whether counted multiply-adds are the published ones; `None` where none are published.
    pub fn macs_agree(&self, macs: Macs) -> Option<bool> {
        let all = self.macs.map(|published| published.agrees(macs.all));
        let layers = self.layer_macs.map(|published| published.agrees(macs.layers));
        [all, layers].into_iter().flatten().reduce(|a, b| a && b)
    }
}

/// Which variant of each network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// As published, with an input of one sample.
    Standard,
    /// Narrow, for small inputs, with [`SMALL_CLASSES`] and an input of [`SMALL_BATCH`] samples: a forward pass takes
    /// milliseconds.
    Small,
}

/// What is done with each network.
pub trait Visit {
    /// A network in the variant asked for, and an input for it.
    fn visit<M: GraphModule>(&mut self, entry: &Entry, model: M, input: M::Inputs);
}

/// Makes every network, one after the other, and shows it to the visitor.
///
/// ```
/// use burn::tensor::Device;
/// use burn_sfp::prelude::GraphModule;
/// use models::zoo::{Entry, Size, Visit, visit_all};
///
/// struct Names(Vec<&'static str>);
/// impl Visit for Names {
///     fn visit<M: GraphModule>(&mut self, entry: &Entry, _model: M, _input: M::Inputs) {
///         self.0.push(entry.name);
///     }
/// }
/// let mut names = Names(Vec::new());
/// visit_all(Size::Small, &Device::flex(), &mut names);
/// assert_eq!(names.0[0], "VGG-11");
/// ```
pub fn visit_all(size: Size, device: &Device, visit: &mut impl Visit) {
    let make = Make { size, device };
    list::classic(&make, visit);
    list::mobile(&make, visit);
    list::tokens(&make, visit);
    list::other(&make, visit);
}

/// The variant that is asked for.
struct Make<'a> {
    size: Size,
    device: &'a Device,
}

impl Make<'_> {
    fn pick<C>(&self, standard: C, small: C) -> C {
        match self.size {
            Size::Standard => standard,
            Size::Small => small,
        }
    }

    /// Square images.
    fn images(&self, channels: usize, standard: usize, small: usize) -> Tensor<4> {
        let side = self.pick(standard, small);
        self.noise([channels, side, side]).reshape([-1, channels as i32, side as i32, side as i32])
    }

    /// Samples of `standard` or `small` tokens each, numbers below `vocabulary`.
    fn words(&self, vocabulary: usize, standard: usize, small: usize) -> Tensor<2, Int> {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let (samples, length) = (self.pick(1, SMALL_BATCH), self.pick(standard, small));
        let values: Vec<i64> = (0..samples * length).map(|_| rng.random_range(0..vocabulary as i64)).collect();
        Tensor::from_data(TensorData::new(values, [samples, length]), self.device)
    }

    /// A batch of samples of this shape, flattened: numbers between -1 and 1, always the same ones.
    fn noise<const D: usize>(&self, shape: [usize; D]) -> Tensor<1> {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let size = self.pick(1, SMALL_BATCH) * shape.iter().product::<usize>();
        let values: Vec<f32> = (0..size).map(|_| rng.random_range(-1.0..1.0)).collect();
        Tensor::from_data(TensorData::new(values, [size]), self.device)
    }
}
