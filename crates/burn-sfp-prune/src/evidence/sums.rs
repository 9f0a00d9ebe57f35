//! [`GradientSums`]: sums over the gradients of batches.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use burn::tensor::Tensor;
use burn_sfp_graph::Network;
use burn_sfp_nn::tensor::to_vec;
use rayon::prelude::*;

use super::layout::FilterLayout;
use super::on_device::DeviceSums;
use super::part::{FilterGradients, GradientPart, ParameterGradients};
use crate::PruneError;

/// A layer whose weight is stored as it is applied.
struct LayerSums {
    path: String,
    /// Path of the weight.
    weight: String,
    values: Vec<f32>,
    layout: FilterLayout,
    sums: FilterGradients,
}

/// The running sums.
pub(super) struct GradientSums {
    pub samples: u64,
    parameters: BTreeMap<String, ParameterGradients>,
    layers: Vec<LayerSums>,
    /// What has not been read of a device yet.
    on_device: DeviceSums,
}

impl GradientSums {
    pub fn new(network: &Network) -> Self {
        let layer = |layer: &burn_sfp_graph::Layer| {
            let values = to_vec(network.parameter_data_at(layer.weight())?.clone()).ok()?;
            let layout = FilterLayout::of(layer, values.len())?;
            let sums = FilterGradients::zeros(layer.filters);
            let weight = network.parameters()[layer.weight()].path.clone();
            Some(LayerSums { path: layer.path.clone(), weight, values, layout, sums })
        };
        let layers = network.layers().iter().filter_map(layer).collect();
        Self { samples: 0, parameters: BTreeMap::new(), layers, on_device: DeviceSums::default() }
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

    /// The same with gradients on a device, whose sums stay there until they are [gathered](GradientSums::gather).
    pub fn add_on_device(&mut self, samples: usize, gradients: BTreeMap<String, Tensor<1>>) {
        for (place, layer) in self.layers.iter().enumerate() {
            let gradient = gradients.get(&layer.weight).filter(|gradient| gradient.dims()[0] == layer.values.len());
            if let Some(gradient) = gradient {
                self.on_device.add_filters(place, &layer.values, &layer.layout, gradient.clone(), samples);
            }
        }
        for (path, gradient) in gradients {
            self.on_device.add(&path, gradient, samples);
        }
        self.samples += samples as u64;
    }

    /// Reads the sums of the device and adds them.
    pub fn gather(&mut self) -> Result<(), PruneError> {
        let zeros = self.layers.iter().map(|layer| FilterGradients::zeros(layer.layout.filters)).collect();
        let part = self.on_device.take(zeros)?;
        self.merge(part);
        Ok(())
    }

    /// Takes the sums, after which they begin at zero again.
    pub fn take(&mut self) -> Result<GradientPart, PruneError> {
        self.gather()?;
        let take =
            |layer: &mut LayerSums| std::mem::replace(&mut layer.sums, FilterGradients::zeros(layer.layout.filters));
        Ok(GradientPart {
            samples: std::mem::take(&mut self.samples),
            parameters: std::mem::take(&mut self.parameters),
            layers: self.layers.iter_mut().map(take).collect(),
        })
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
        let Self { samples, mut parameters, layers, on_device: _ } = self;
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

#[cfg(test)]
mod tests {
    use burn::nn::conv::{Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig};
    use burn::nn::{Linear, LinearConfig};
    use burn::prelude::*;
    use burn_sfp_graph::GraphModule;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Every layout of a weight.
    #[derive(Module, Debug)]
    struct Net {
        conv: Conv2d,
        grouped: Conv2d,
        transposed: ConvTranspose2d,
        linear: Linear,
    }

    impl GraphModule for Net {
        type Inputs = Tensor<4>;
        type Outputs = Tensor<2>;
        fn run(&self, x: Tensor<4>) -> Tensor<2> {
            let x = self.transposed.forward(self.grouped.forward(self.conv.forward(x)));
            self.linear.forward(x.flatten(1, 3))
        }
    }

    #[test]
    fn sums_on_a_device_are_those_of_the_host() {
        let device = Device::flex();
        let net = Net {
            conv: Conv2dConfig::new([2, 6], [3, 3]).init(&device),
            grouped: Conv2dConfig::new([6, 4], [1, 1]).with_groups(2).init(&device),
            transposed: ConvTranspose2dConfig::new([4, 6], [2, 2]).with_groups(2).init(&device),
            linear: LinearConfig::new(6 * 5 * 5, 3).init(&device),
        };
        let network = Network::capture(&net, &Tensor::zeros([1, 2, 6, 6], &device)).unwrap();
        let (mut host, mut there) = (GradientSums::new(&network), GradientSums::new(&network));
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for samples in [4, 4, 2] {
            let gradients: BTreeMap<String, Vec<f32>> = (network.parameters().iter())
                .map(|parameter| {
                    let length = parameter.shape.iter().product();
                    (parameter.path.clone(), (0..length).map(|_| rng.random_range(-1.0..1.0)).collect())
                })
                .collect();
            let tensor = |values: &Vec<f32>| Tensor::<1>::from_floats(values.as_slice(), &device);
            there.add_on_device(samples, gradients.iter().map(|(path, of)| (path.clone(), tensor(of))).collect());
            host.add(samples, &gradients);
            if samples == 2 {
                there.gather().unwrap();
            }
        }
        let (host, there) = (host.take().unwrap(), there.take().unwrap());
        assert_eq!((host.samples, there.samples), (10, 10));
        let near = |a: &[f64], b: &[f64]| {
            assert_eq!(a.len(), b.len());
            assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-5 * b.abs().max(1.0)), "{a:?} {b:?}");
        };
        assert!(host.parameters.keys().eq(there.parameters.keys()) && host.parameters.len() == 8);
        for (found, expected) in there.parameters.values().zip(host.parameters.values()) {
            near(&found.mean, &expected.mean);
            near(&found.fisher, &expected.fisher);
        }
        assert_eq!(host.layers.len(), 4);
        for (found, expected) in there.layers.iter().zip(&host.layers) {
            near(&found.whole, &expected.whole);
            near(&found.elements, &expected.elements);
        }
    }
}
