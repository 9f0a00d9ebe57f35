//! The whole analysis of activations that are there, over a plain forward pass.

use burn::tensor::Device;
use burn_sfp::graph::{Network, Replay};
use burn_sfp::prelude::{Calibration, GraphError};
use burn_sfp_ndarray::{FilterPerformance, class_sums, filter_performances};
use ndarray::{Array3, Axis};

use crate::Result;
use crate::measure::{Kind, Pairs, Row, Unit, seconds};
use crate::subject::{IMAGES, Session, Subject};

/// Name of the row.
pub const NAME: &str = "analysis_vs_forward";
/// What it measures.
pub const ABOUT: &str = "class sums, performance matrices and clusters of the VGG-11's ten layers (every position), their \
                         activations given, over a plain forward pass; at most 0.10";

const THRESHOLD: f64 = 0.3;

/// Measures the row.
///
/// # Errors
/// As the replay and the kernels.
pub fn run(session: &Session) -> Result<Row> {
    let subject = session.subject()?;
    let mut held = Held::of(subject)?;
    held.average()?;
    let readouts: Vec<Array3<f32>> = held.layers.iter().map(|layer| differences(&layer.means)).collect();
    let mut filters = Vec::new();
    let ours = || {
        seconds(|| {
            held.average()?;
            filters = held
                .layers
                .iter()
                .zip(&readouts)
                .map(|(layer, readout)| filter_performances(layer.means.view(), readout.view(), THRESHOLD))
                .collect::<std::result::Result<Vec<_>, _>>()?
                .concat();
            Ok(())
        })
    };
    let pairs = Pairs::in_turn(session.pairs, ours, || subject.forward())?;
    let classes = held.counts.len() as f64;
    let features: f64 = readouts.iter().map(|readout| readout.len() as f64).sum::<f64>() / classes;
    let note = format!(
        "class sums in double precision, means, performance matrices, thresholds and clusters of all layers (every position), of \
         activations that a replay tapped before and that lie in memory batch by batch (sums and means are allocated once, as in a \
         sweep, and cleared in the time), over the forward pass alone: {}; readouts: \
         a label's mean activations less those of all labels; {} of {} filters silent; wanted: at most 0.10; floor: {:.2} G \
         multiply-adds of the matrices and {:.2} GB of activations read",
        subject.about(),
        filters.iter().filter(|filter: &&FilterPerformance| filter.clusters.is_empty()).count(),
        filters.len(),
        1e-9 * features * classes * classes,
        4e-9 * features * IMAGES as f64
    );
    Ok(pairs.row(NAME, Kind::Cost, Unit::Seconds, note))
}

/// Labels and every layer's activations, batch by batch.
struct Held {
    labels: Vec<Vec<usize>>,
    /// Samples of each label.
    counts: Vec<f64>,
    layers: Vec<Layer>,
}

struct Layer {
    /// For each batch `[samples, F, S]`.
    acts: Vec<Array3<f32>>,
    /// `[C, F, S]`.
    sums: Array3<f64>,
    /// `[C, F, S]`.
    means: Array3<f32>,
}

impl Held {
    fn of(subject: &Subject) -> Result<Self> {
        let batches = subject.calibration().batches().collect::<std::result::Result<Vec<_>, _>>()?;
        let labels: Vec<Vec<usize>> = batches.iter().map(|batch| batch.labels.clone()).collect();
        let mut counts = vec![0.0; labels.iter().flatten().max().map_or(0, |label| label + 1)];
        labels.iter().flatten().for_each(|&label| counts[label] += 1.0);
        let first = batches.first().ok_or("there are no images")?;
        let network = Network::capture(subject.model(), &first.input)?;
        let taps: Vec<_> =
            network.layers().iter().filter(|layer| !layer.is_classifier).map(|layer| &layer.tap).collect();
        let mut replay = Replay::new(&network, &Device::flex(), &taps)?;
        let mut acts = vec![Vec::new(); taps.len()];
        for batch in batches {
            replay.run(batch.input, |layer, tensor| {
                acts[layer].push((tensor.dims(), tensor.into_data().iter::<f32>().collect::<Vec<_>>()));
                Ok::<(), GraphError>(())
            })?;
        }
        let layers = acts.into_iter().map(|acts| {
            let acts = acts.into_iter().map(|([n, f, s], values)| Array3::from_shape_vec((n, f, s), values));
            let acts = acts.collect::<std::result::Result<Vec<_>, _>>()?;
            let (_, filters, positions) = acts[0].dim();
            let shape = (counts.len(), filters, positions);
            Ok(Layer { acts, sums: Array3::zeros(shape), means: Array3::zeros(shape) })
        });
        let layers = layers.collect::<Result<Vec<_>>>()?;
        Ok(Self { labels, counts, layers })
    }

    /// Mean activations of every label.
    fn average(&mut self) -> Result<()> {
        for Layer { acts, sums, means } in &mut self.layers {
            sums.fill(0.0);
            for (acts, labels) in acts.iter().zip(&self.labels) {
                class_sums(acts.view(), labels, sums.view_mut())?;
            }
            for ((mut mean, sum), count) in means.outer_iter_mut().zip(sums.outer_iter()).zip(&self.counts) {
                mean.zip_mut_with(&sum, |mean, sum| *mean = (sum / count) as f32);
            }
        }
        Ok(())
    }
}

/// A readout that needs no fitting, `[F, S, C]`: what a label's mean activations have above those of all labels.
fn differences(means: &Array3<f32>) -> Array3<f32> {
    let (classes, filters, positions) = means.dim();
    let all = means.sum_axis(Axis(0)) / classes as f32;
    Array3::from_shape_fn((filters, positions, classes), |(f, s, c)| means[[c, f, s]] - all[[f, s]])
}
