//! Means of the layers' inputs: what a removed channel leaves behind in the layers that read it.

use ndarray::{ArrayView3, Axis};

use super::subject::Subject;
use crate::SfpError;
use crate::backend::ClassSums;
use crate::network::{Layer, LayerKind, Network};

/// The mean of a layer's input: from the sums of a tap that is that input, or from a probe of its own.
pub(super) struct InputMean {
    pub layer: usize,
    pub sums: Option<ClassSums>,
}

/// The subject whose tap is this layer's input, where its sums give the input's mean.
pub(super) fn direct_mean(network: &Network, layer: &Layer, subjects: &[Subject]) -> Option<usize> {
    subjects.iter().position(|subject| {
        let producer = &network.layers()[subject.layer];
        let same = producer.tap.tensor == layer.input;
        let flattened = layer.is_classifier && producer.feeds_classifier;
        match &subject.pooled {
            None => same || flattened,
            Some(pooled) => same && pooled.even() && layer.kind != LayerKind::Linear,
        }
    })
}

pub(super) fn input_means(
    network: &Network,
    direct: &[Option<usize>],
    subjects: &[Subject],
    inputs: Vec<InputMean>,
    samples: u64,
) -> Result<Vec<Option<Vec<f32>>>, SfpError> {
    let mut means: Vec<Option<Vec<f32>>> = vec![None; network.layers().len()];
    let mean_of = |sums: ArrayView3<f64>, each_position: bool| -> Vec<f32> {
        let total = sums.sum_axis(Axis(0)) / samples as f64;
        if each_position {
            total.iter().map(|&mean| mean as f32).collect()
        } else {
            let positions = total.ncols().max(1) as f64;
            total.sum_axis(Axis(1)).iter().map(|&mean| (mean / positions) as f32).collect()
        }
    };
    for (k, source) in direct.iter().enumerate() {
        let Some(source) = source else { continue };
        let layer = &network.layers()[k];
        let each_position =
            layer.kind == LayerKind::Linear && layer.inputs != network.layers()[subjects[*source].layer].filters;
        means[k] = match &subjects[*source].sums {
            Some(ClassSums::Host(sums)) => Some(mean_of(sums.view(), each_position)),
            Some(ClassSums::Device(sums)) => {
                Some(mean_of(crate::backend::to_array3(sums)?.mapv(f64::from).view(), each_position))
            }
            None => None,
        };
    }
    for input in inputs {
        if let Some(sums) = input.sums {
            means[input.layer] = Some(mean_of(sums.into_host()?.view(), false));
        }
    }
    Ok(means)
}
