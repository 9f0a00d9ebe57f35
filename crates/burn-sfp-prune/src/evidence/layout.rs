//! [`FilterLayout`]: which elements of a layer's weight belong to a filter.

use std::ops::Range;

use burn::tensor::Tensor;
use burn_sfp_graph::Layer;

/// Where the kernels of each filter lie in a stored weight, row-major: `[filters, inputs, kernel]`, or of transposed
/// convolutions, linear layers and embeddings `[groups * inputs, filters of a group, kernel]`.
pub(crate) struct FilterLayout {
    pub filters: usize,
    /// Inputs of a group.
    inputs: usize,
    kernel: usize,
    per_group: usize,
    is_inputs_first: bool,
}

impl FilterLayout {
    /// Reads the layout of a layer whose weight has so many elements; `None` if the weight is not stored as it is
    /// applied.
    pub fn of(layer: &Layer, elements: usize) -> Option<Self> {
        let groups = layer.groups.max(1);
        let (filters, inputs, kernel) = (layer.filters, layer.inputs / groups, layer.kernel_elements());
        let found = Self {
            filters,
            inputs,
            kernel,
            per_group: (filters / groups).max(1),
            is_inputs_first: layer.kind.output_axis() == 1,
        };
        (layer.is_stored() && filters * inputs * kernel == elements && elements > 0).then_some(found)
    }

    /// The elements of a filter: a range for each of its kernels.
    pub fn kernels(&self, filter: usize) -> impl Iterator<Item = Range<usize>> + '_ {
        let (group, member) = (filter / self.per_group, filter % self.per_group);
        (0..self.inputs).map(move |input| {
            let at = match self.is_inputs_first {
                true => (group * self.inputs + input) * self.per_group + member,
                false => filter * self.inputs + input,
            };
            at * self.kernel..(at + 1) * self.kernel
        })
    }

    /// [`sums`](FilterLayout::sums) of a quantity on a device.
    pub fn sums_on_device(&self, term: Tensor<1>) -> Tensor<1> {
        if self.is_inputs_first {
            let groups = self.filters / self.per_group;
            let term = term.reshape([groups, self.inputs, self.per_group, self.kernel]);
            return term.sum_dim(3).sum_dim(1).reshape([self.filters]);
        }
        term.reshape([self.filters, self.inputs * self.kernel]).sum_dim(1).reshape([self.filters])
    }

    /// Sums a quantity over the elements of each filter, in their order.
    pub fn sums(&self, term: impl Fn(usize) -> f64) -> Vec<f64> {
        (0..self.filters).map(|filter| self.kernels(filter).flatten().map(&term).sum()).collect()
    }
}
