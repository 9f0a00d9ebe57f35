//! Means of the layers' inputs: what a removed channel leaves behind in the layers that read it.

use ndarray::{ArrayView3, Axis};

use super::runner::Probe;
use super::subject::{Subject, around};
use crate::SfpError;
use crate::backend::ClassSums;
use crate::network::{Layer, LayerKind, Network, Tap};

/// The mean of a layer's input: from the sums of a tap that is that input, or from a probe of its own.
pub(super) struct InputMean {
    pub layer: usize,
    pub sums: Option<ClassSums>,
}

/// The subject whose tap is this layer's input, where its sums give the input's mean.
pub(super) fn direct_mean(network: &Network, layer: &Layer, subjects: &[Subject]) -> Option<usize> {
    subjects.iter().position(|subject| {
        let Probe::Layer(producer) = subject.probe else { return false };
        let producer = &network.layers()[producer];
        let same = producer.tap.tensor == layer.input && producer.tap.filter_axis == Tap::of_input(layer).filter_axis;
        let flattened = layer.is_classifier && producer.feeds_classifier;
        match &subject.pooled {
            None => same || flattened,
            Some(pooled) => same && pooled.even() && layer.kind != LayerKind::Linear,
        }
    })
}

/// Whether a probe can find the mean of a layer's input: indices of an embedding have none, and what does not count the samples
/// along its first axis cannot be told apart by sample.
pub(super) fn has_mean(network: &Network, layer: &Layer) -> bool {
    layer.kind != LayerKind::Embedding && layer.input_shape().first() == Some(&network.batch())
}

pub(super) fn input_means(
    network: &Network,
    direct: &[Option<usize>],
    subjects: &[Subject],
    inputs: Vec<InputMean>,
    samples: u64,
) -> Result<Vec<Option<Vec<f32>>>, SfpError> {
    let mut means: Vec<Option<Vec<f32>>> = vec![None; network.layers().len()];
    // Of each position where the layer reads the flattened tap, whose elements lie as they do there.
    let mean_of = |sums: ArrayView3<f64>, flattened: Option<&Tap>| -> Vec<f32> {
        let total = sums.sum_axis(Axis(0)) / samples as f64;
        match flattened.map(around) {
            Some((before, filters, after)) => (0..before * filters * after)
                .map(|k| {
                    let (row, filter, column) = (k / (filters * after), k / after % filters, k % after);
                    total[[filter, row * after + column]] as f32
                })
                .collect(),
            None => {
                let positions = total.ncols().max(1) as f64;
                total.sum_axis(Axis(1)).iter().map(|&mean| (mean / positions) as f32).collect()
            }
        }
    };
    for (k, source) in direct.iter().enumerate() {
        let Some(source) = source else { continue };
        let (layer, tap) = (&network.layers()[k], subjects[*source].probe.tap(network));
        let flattened = layer.kind == LayerKind::Linear && layer.inputs != tap.shape[tap.filter_axis];
        let tap = flattened.then_some(&tap);
        means[k] = match &subjects[*source].sums {
            Some(ClassSums::Host(sums)) => Some(mean_of(sums.view(), tap)),
            Some(ClassSums::Device(sums)) => {
                Some(mean_of(crate::backend::to_array3(sums)?.mapv(f64::from).view(), tap))
            }
            None => None,
        };
    }
    for input in inputs {
        if let Some(sums) = input.sums {
            means[input.layer] = Some(mean_of(sums.into_host()?.view(), None));
        }
    }
    Ok(means)
}
