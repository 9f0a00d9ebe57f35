//! Means of the inputs of layers, which stand in for removed channels in the biases of the layers that read them.

use std::collections::{BTreeMap, HashMap};

use burn::backend::ir::TensorId;
use burn::tensor::Tensor;
use burn_sfp_graph::{Layer, Network, OutputTap};
use ndarray::{Array3, ArrayView3, Axis};

use super::probe::Probe;
use super::target::AnalysisTarget;
use crate::SfpError;
use crate::labels::BatchLabels;
use crate::readout::TapLayout;
use crate::sums::ClassSums;

/// Sums of a layer's input over all samples, from a probe of its own.
pub(super) struct InputSums {
    layer: usize,
    path: String,
    sums: Option<ClassSums>,
}

impl InputSums {
    /// Adds the input `[N, F, S]` of a batch, all of whose samples have one label.
    pub fn receive(&mut self, acts: &Tensor<3>, alike: &BatchLabels<'_>) -> Result<(), SfpError> {
        ClassSums::add(&mut self.sums, acts, alike, &self.path)
    }

    /// Module path of the layer.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The sums where they are on the host.
    pub fn host(&self) -> Option<&Array3<f64>> {
        self.sums.as_ref().and_then(ClassSums::host)
    }

    /// Takes the sums, after which they begin at zero again.
    pub fn take(&mut self) -> Result<Option<Array3<f64>>, SfpError> {
        self.sums.take().map(|sums| sums.into_host(&self.path)).transpose()
    }

    /// Adds the sums of another part of the data.
    pub fn merge(&mut self, part: Option<Array3<f64>>) -> Result<(), SfpError> {
        ClassSums::merge(&mut self.sums, part, &self.path)
    }
}

/// Where the mean of each layer's input comes from.
pub(super) struct InputMeans {
    /// For each layer the target whose class sums also give the mean of its input.
    shared: Vec<Option<usize>>,
    /// Layers whose input has a probe of its own.
    pub own: Vec<InputSums>,
}

impl InputMeans {
    pub fn choose(network: &Network, targets: &[AnalysisTarget]) -> Self {
        let by_tensor = ByTensor::of(network, targets);
        let shared: Vec<Option<usize>> =
            network.layers().iter().map(|layer| by_tensor.shared_target(network, layer, targets)).collect();
        let own = network.layers().iter().enumerate();
        let own = own.filter(|(k, layer)| shared[*k].is_none() && has_mean(network, layer));
        let own = own.map(|(layer, Layer { path, .. })| InputSums { layer, path: path.clone(), sums: None }).collect();
        Self { shared, own }
    }

    pub fn probes(&self) -> impl Iterator<Item = Probe> {
        self.own.iter().map(|input| Probe::Input(input.layer))
    }

    /// The means by layer path: of each channel, or of each feature where a layer reads a flattened map.
    pub fn finish(
        self,
        network: &Network,
        targets: &[AnalysisTarget],
        samples: u64,
    ) -> Result<BTreeMap<String, Vec<f32>>, SfpError> {
        let mut means: Vec<Option<Vec<f32>>> = vec![None; network.layers().len()];
        for (k, target) in self.shared.iter().enumerate() {
            let Some(target) = target.map(|target| &targets[target]) else { continue };
            let (layer, tap) = (&network.layers()[k], target.probe.tap(network));
            let is_flattened = layer.kind.is_matrix() && layer.inputs != tap.shape[tap.filter_axis];
            let layout = is_flattened.then(|| TapLayout::of(&tap));
            means[k] = match &target.sums {
                Some(sums) => Some(mean(sums.on_host(&target.path)?.view(), layout, samples)),
                None => None,
            };
        }
        for input in self.own {
            if let Some(sums) = input.sums {
                means[input.layer] = Some(mean(sums.into_host(&input.path)?.view(), None, samples));
            }
        }
        let paths = network.layers().iter().map(|layer| layer.path.clone());
        Ok(paths.zip(means).filter_map(|(path, mean)| Some((path, mean?))).collect())
    }
}

/// Targets by the tensor that they tap, ascending.
#[derive(Default)]
struct ByTensor {
    taps: HashMap<TensorId, Vec<usize>>,
    /// Those that feed the classifier.
    feeding: Vec<usize>,
}

impl ByTensor {
    fn of(network: &Network, targets: &[AnalysisTarget]) -> Self {
        let mut all = Self::default();
        for (index, target) in targets.iter().enumerate() {
            let Probe::Layer(producer) = target.probe else { continue };
            let producer = &network.layers()[producer];
            all.taps.entry(producer.tap.tensor).or_default().push(index);
            if producer.feeds_classifier {
                all.feeding.push(index);
            }
        }
        all
    }

    /// The first target whose tap is the input of a layer and whose class sums give the mean of that input.
    fn shared_target(&self, network: &Network, layer: &Layer, targets: &[AnalysisTarget]) -> Option<usize> {
        let input = OutputTap::of_input(layer);
        let serves = |index: &usize| {
            let target = &targets[*index];
            let Probe::Layer(producer) = target.probe else { return false };
            let producer = &network.layers()[producer];
            let same = producer.tap.tensor == input.tensor && producer.tap.filter_axis == input.filter_axis;
            let flattened = layer.is_classifier && producer.feeds_classifier;
            match &target.pooled {
                None => same || flattened,
                Some(pooled) => same && pooled.is_even() && !layer.kind.is_matrix(),
            }
        };
        let tapped = self.taps.get(&input.tensor).into_iter().flatten();
        let feeding = self.feeding.iter().filter(|_| layer.is_classifier);
        tapped.chain(feeding).copied().filter(serves).min()
    }
}

/// Whether a probe can determine the mean of a layer's input: the indices of an embedding have no mean, and an input that does not
/// count the samples along its first axis cannot be assigned to samples.
fn has_mean(network: &Network, layer: &Layer) -> bool {
    !layer.kind.reads_indices() && layer.input_shape().first() == Some(&network.batch())
}

/// Mean over labels and positions of each filter, or, for a layer that reads the flattened tap, of each of its elements in their
/// order there.
fn mean(sums: ArrayView3<'_, f64>, flattened: Option<TapLayout>, samples: u64) -> Vec<f32> {
    let total = sums.sum_axis(Axis(0)) / samples as f64;
    match flattened {
        Some(layout) => (0..layout.elements()).map(|k| total[layout.locate(k)] as f32).collect(),
        None => {
            let positions = total.ncols().max(1) as f64;
            total.sum_axis(Axis(1)).iter().map(|&mean| (mean / positions) as f32).collect()
        }
    }
}
