//! Sums over the gradients of batches: [`ParameterGradients`] and [`FilterGradients`].

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use burn_sfp_graph::Network;
use burn_sfp_nn::tensor::to_vec;
use rayon::prelude::*;

use super::layout::FilterLayout;

/// Gradients of a parameter, element by element in the order of its memory, row-major. `n` is the number of samples of
/// a batch, `g` the gradient of the batch's mean cross-entropy, N the number of all samples.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ParameterGradients {
    /// The gradient of the mean cross-entropy of all samples: sum of `n g / N` over the batches.
    pub mean: Vec<f64>,
    /// The diagonal of the empirical Fisher matrix, as batches estimate it: sum of `(n g)^2 / N` over the batches. For
    /// batches of one sample it is exact; for larger ones its expectation is, where the mean gradient is zero.
    pub fisher: Vec<f64>,
}

/// What gradients say of the filters of a layer. `n` is the number of samples of a batch, `g` the gradient of the
/// batch's mean cross-entropy, N the number of all samples; `w` and `g` run over the elements of the filter's weight,
/// without biases.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FilterGradients {
    /// For each filter the sum of `n / N (sum of g w)^2` over the batches.
    pub whole: Vec<f64>,
    /// For each filter the sum of `n / N (sum of (g w)^2)` over the batches.
    pub elements: Vec<f64>,
}

/// A layer whose weight is stored as it is applied.
struct LayerSums {
    path: String,
    /// Path of the weight.
    weight: String,
    values: Vec<f32>,
    layout: FilterLayout,
    sums: FilterGradients,
}

/// The sums over a part of the data.
pub(super) struct GradientPart {
    samples: u64,
    parameters: BTreeMap<String, ParameterGradients>,
    layers: Vec<FilterGradients>,
}

/// The running sums.
pub(super) struct GradientSums {
    pub samples: u64,
    parameters: BTreeMap<String, ParameterGradients>,
    layers: Vec<LayerSums>,
}

impl GradientSums {
    pub fn new(network: &Network) -> Self {
        let layer = |layer: &burn_sfp_graph::Layer| {
            let values = to_vec(network.parameter_data_at(layer.weight())?.clone()).ok()?;
            let layout = FilterLayout::of(layer, values.len())?;
            let sums = FilterGradients { whole: vec![0.0; layer.filters], elements: vec![0.0; layer.filters] };
            let weight = network.parameters()[layer.weight()].path.clone();
            Some(LayerSums { path: layer.path.clone(), weight, values, layout, sums })
        };
        let layers = network.layers().iter().filter_map(layer).collect();
        Self { samples: 0, parameters: BTreeMap::new(), layers }
    }

    /// Adds the gradients of a batch of `samples`, by the path of the parameter. Each element is summed by one thread,
    /// batch after batch.
    pub fn add(&mut self, samples: usize, gradients: &BTreeMap<String, Vec<f32>>) {
        let n = samples as f64;
        for (path, gradient) in gradients {
            let zeros = || vec![0.0; gradient.len()];
            let sums = self.parameters.entry(path.clone());
            let sums = sums.or_insert_with(|| ParameterGradients { mean: zeros(), fisher: zeros() });
            let both = sums.mean.par_iter_mut().zip(sums.fisher.par_iter_mut());
            both.zip(gradient.par_iter()).with_min_len(4096).for_each(|((mean, fisher), &g)| {
                let of_batch = n * f64::from(g);
                *mean += of_batch;
                *fisher += of_batch * of_batch;
            });
        }
        self.layers.par_iter_mut().for_each(|layer| {
            let gradient = gradients.get(&layer.weight).filter(|gradient| gradient.len() == layer.values.len());
            let Some(gradient) = gradient else { return };
            let product = |at: usize| f64::from(gradient[at]) * f64::from(layer.values[at]);
            let (whole, elements) = (layer.layout.sums(product), layer.layout.sums(|at| product(at).powi(2)));
            layer.sums.whole.iter_mut().zip(whole).for_each(|(sum, change)| *sum += n * change * change);
            layer.sums.elements.iter_mut().zip(elements).for_each(|(sum, own)| *sum += n * own);
        });
        self.samples += samples as u64;
    }

    /// Takes the sums, after which they begin at zero again.
    pub fn take(&mut self) -> GradientPart {
        let take = |layer: &mut LayerSums| {
            let zeros = || vec![0.0; layer.sums.whole.len()];
            let zeros = FilterGradients { whole: zeros(), elements: zeros() };
            std::mem::replace(&mut layer.sums, zeros)
        };
        GradientPart {
            samples: std::mem::take(&mut self.samples),
            parameters: std::mem::take(&mut self.parameters),
            layers: self.layers.iter_mut().map(take).collect(),
        }
    }

    /// Adds what was taken of another part of the data.
    pub fn merge(&mut self, part: GradientPart) {
        let add = |all: &mut [f64], own: &[f64]| all.iter_mut().zip(own).for_each(|(all, own)| *all += own);
        for (path, own) in part.parameters {
            match self.parameters.entry(path) {
                Entry::Vacant(entry) => {
                    entry.insert(own);
                }
                Entry::Occupied(mut entry) => {
                    add(&mut entry.get_mut().mean, &own.mean);
                    add(&mut entry.get_mut().fisher, &own.fisher);
                }
            }
        }
        for (layer, own) in self.layers.iter_mut().zip(part.layers) {
            add(&mut layer.sums.whole, &own.whole);
            add(&mut layer.sums.elements, &own.elements);
        }
        self.samples += part.samples;
    }

    /// The sums over all samples, by the path of the parameter and by that of the layer. Layers whose weight has no
    /// gradient are left out.
    pub fn finish(self) -> (BTreeMap<String, ParameterGradients>, BTreeMap<String, FilterGradients>) {
        let Self { samples, mut parameters, layers } = self;
        let all = samples.max(1) as f64;
        let divide = |values: &mut [f64]| values.iter_mut().for_each(|value| *value /= all);
        for sums in parameters.values_mut() {
            divide(&mut sums.mean);
            divide(&mut sums.fisher);
        }
        let reached = layers.into_iter().filter(|layer| parameters.contains_key(&layer.weight));
        let layers = reached.map(|mut layer| {
            divide(&mut layer.sums.whole);
            divide(&mut layer.sums.elements);
            (layer.path, layer.sums)
        });
        let layers = layers.collect();
        (parameters, layers)
    }
}
