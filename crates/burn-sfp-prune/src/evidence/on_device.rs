//! [`DeviceSums`]: the sums over gradients on a device whose memory the host does not see, where they are computed.

use std::collections::BTreeMap;

use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_sfp_nn::NnError;
use burn_sfp_nn::tensor::to_vec;

use super::layout::FilterLayout;
use super::part::{FilterGradients, GradientPart, ParameterGradients};

/// The running sums, in single precision.
#[derive(Default)]
pub(super) struct DeviceSums {
    /// Sums of `n g` and of `(n g)^2`, by the path of the parameter.
    parameters: BTreeMap<String, [Tensor<1>; 2]>,
    /// Of each layer by its place: the weight, and for each filter the sums of `n (sum of g w)^2` and of `n (sum of (g w)^2)`.
    layers: BTreeMap<usize, (Tensor<1>, [Tensor<1>; 2])>,
}

impl DeviceSums {
    /// Adds the gradient of a parameter of a batch of `samples`.
    pub fn add(&mut self, path: &str, gradient: Tensor<1>, samples: usize) {
        let of_batch = gradient * samples as f64;
        let squared = of_batch.clone() * of_batch.clone();
        let sums = match self.parameters.remove(path) {
            Some([mean, fisher]) => [mean + of_batch, fisher + squared],
            None => [of_batch, squared],
        };
        self.parameters.insert(path.to_string(), sums);
    }

    /// Adds what the gradient of a layer's weight says of its filters.
    pub fn add_filters(
        &mut self,
        layer: usize,
        values: &[f32],
        layout: &FilterLayout,
        gradient: Tensor<1>,
        samples: usize,
    ) {
        let n = samples as f64;
        let (weight, before) = match self.layers.remove(&layer) {
            Some((weight, sums)) => (weight, Some(sums)),
            None => (on(&gradient.device(), values), None),
        };
        let product = gradient * weight.clone();
        let (whole, elements) =
            (layout.sums_on_device(product.clone()), layout.sums_on_device(product.clone() * product));
        let (whole, elements) = (whole.clone() * whole * n, elements * n);
        let sums = match before {
            Some([all, each]) => [all + whole, each + elements],
            None => [whole, elements],
        };
        self.layers.insert(layer, (weight, sums));
    }

    /// Reads the sums, after which they begin at zero again; the samples are counted elsewhere. `layers` are all of them, at zero.
    pub fn take(&mut self, mut layers: Vec<FilterGradients>) -> Result<GradientPart, NnError> {
        let read = |sums: Tensor<1>| Ok::<_, NnError>(to_vec(sums.into_data())?.into_iter().map(f64::from).collect());
        let parameters = std::mem::take(&mut self.parameters).into_iter();
        let parameters = parameters
            .map(|(path, [mean, fisher])| Ok((path, ParameterGradients { mean: read(mean)?, fisher: read(fisher)? })));
        let parameters = parameters.collect::<Result<_, NnError>>()?;
        for (place, (_, [whole, elements])) in std::mem::take(&mut self.layers) {
            layers[place] = FilterGradients { whole: read(whole)?, elements: read(elements)? };
        }
        Ok(GradientPart { samples: 0, parameters, layers })
    }
}

fn on(device: &Device, values: &[f32]) -> Tensor<1> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), (device, DType::F32))
}
