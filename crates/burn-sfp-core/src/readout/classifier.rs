//! The network's own classifier as the readout of the layer that it reads.

use burn_sfp_graph::{Network, OutputTap};
use burn_sfp_nn::tensor::to_vec;
use ndarray::{Array3, Array4};

use crate::SfpError;

/// How the elements of one sample of a tapped tensor lie in memory: `[before, filters, after]`, where `before` and `after`
/// count the positions on either side of the filter axis.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TapLayout {
    pub before: usize,
    pub filters: usize,
    pub after: usize,
}

impl TapLayout {
    pub(crate) fn of(tap: &OutputTap) -> Self {
        let product = |axes: &[usize]| axes.iter().product();
        Self {
            before: product(&tap.shape[1..tap.filter_axis]),
            filters: tap.shape[tap.filter_axis],
            after: product(&tap.shape[tap.filter_axis + 1..]),
        }
    }

    /// Filter and position of the element with this index in a flattened sample.
    pub(crate) fn locate(self, index: usize) -> (usize, usize) {
        let (row, filter, column) =
            (index / (self.filters * self.after), index / self.after % self.filters, index % self.after);
        (filter, row * self.after + column)
    }

    pub(crate) fn elements(self) -> usize {
        self.before * self.filters * self.after
    }
}

/// The weight of the network's classifier, `[features, C]`, as the readout `[F, S, C]` of the layer tapped. Its rows are in the
/// order of the tap's elements, in which the filters may be the last axis.
pub(crate) fn classifier_readout(network: &Network, tap: &OutputTap) -> Result<Array3<f32>, SfpError> {
    let layer = network.layers().iter().find(|layer| layer.is_classifier);
    let weight = layer.and_then(|layer| network.weight_data(layer).ok());
    let weight = weight.and_then(|data| to_vec(data.into_owned()).ok());
    let classes = network.classes();
    let TapLayout { before, filters, after } = TapLayout::of(tap);
    weight
        .and_then(|weight| Array4::from_shape_vec((before, filters, after, classes), weight).ok())
        .map(|weight| weight.permuted_axes([1, 0, 2, 3]).as_standard_layout().into_owned())
        .and_then(|weight| weight.into_shape_with_order((filters, before * after, classes)).ok())
        .ok_or_else(|| SfpError::Readout {
            path: layer.map(|layer| layer.path.clone()).unwrap_or_default(),
            message: "the classifier's weight could not be read as [features, classes]".into(),
        })
}
