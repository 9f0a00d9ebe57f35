//! [`Analysis`]: the result, plain data that can be printed, saved, loaded and merged.

mod file;
mod merge;
mod state;

use std::collections::BTreeMap;
use std::fmt;

use ndarray::Array3;
use serde::{Deserialize, Serialize};

pub(crate) use state::{LayerState, finish_layer};

use crate::network::{LayerKind, Network};
use crate::performance::{FilterPerformance, LayerSummary};
use crate::sweep::GradientConfig;

/// Version of the file format.
pub const ANALYSIS_VERSION: u32 = 2;

/// What made the readout of a layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case")]
pub enum ReadoutInfo {
    /// The network's own linear classifier.
    Classifier {
        /// Top-1 of the network on the calibration data.
        accuracy: f64,
    },
    /// Ridge regression on the centred class indicators.
    Ridge {
        /// Ridge parameter over the mean diagonal element of the Gram matrix.
        strength: f64,
        /// Top-1 of the readout on the calibration data, where it was measured.
        accuracy: Option<f64>,
    },
    /// The paper's gradient descent.
    Gradient {
        /// Its settings.
        config: GradientConfig,
        /// Seed of its start.
        seed: u64,
        /// Top-1 during the last epoch, each sample before its own step.
        accuracy: Option<f64>,
    },
    /// Handed over from another analysis.
    Given {
        /// What made it there.
        from: Box<ReadoutInfo>,
        /// Top-1 of the readout on this calibration data, where it was measured.
        accuracy: Option<f64>,
    },
}

impl ReadoutInfo {
    /// Top-1 of the readout on the calibration data, where it was measured.
    pub fn accuracy(&self) -> Option<f64> {
        match self {
            Self::Classifier { accuracy } => Some(*accuracy),
            Self::Ridge { accuracy, .. } | Self::Gradient { accuracy, .. } | Self::Given { accuracy, .. } => *accuracy,
        }
    }

    pub(crate) fn set_accuracy(&mut self, measured: f64) {
        match self {
            Self::Classifier { accuracy } => *accuracy = measured,
            Self::Ridge { accuracy, .. } | Self::Gradient { accuracy, .. } | Self::Given { accuracy, .. } => {
                *accuracy = Some(measured);
            }
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Classifier { .. } => "classifier",
            Self::Ridge { .. } => "ridge",
            Self::Gradient { .. } => "gradient",
            Self::Given { .. } => "given",
        }
    }
}

/// What the units of an entry of an analysis are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitKind {
    /// The heads of an attention, see [`Heads`](crate::network::Heads). In files `"heads"`.
    Heads,
    /// The filters or nodes of a layer of this kind. In files the kind alone, for example `"linear"`.
    #[serde(untagged)]
    Layer(LayerKind),
}

/// What was found in one layer, or among the heads of one attention.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LayerAnalysis {
    /// Module path, of heads their [`Heads::path`](crate::network::Heads::path).
    pub path: String,
    /// What its units are.
    pub kind: UnitKind,
    /// F: number of filters, nodes or heads.
    pub filters: usize,
    /// S: positions that the readout saw; of heads tokens times width.
    pub positions: usize,
    /// The grid that positions were pooled to, `None` where every position counted.
    pub grid: Option<Vec<usize>>,
    /// C: number of classes.
    pub classes: usize,
    /// N: calibration samples.
    pub samples: u64,
    /// What made the readout.
    pub readout: ReadoutInfo,
    /// One entry a filter, node or head.
    pub performance: Vec<FilterPerformance>,
    /// The layer in a few numbers.
    pub summary: LayerSummary,
    #[serde(skip)]
    pub(crate) state: Option<LayerState>,
}

impl LayerAnalysis {
    /// Units with an element of their performance matrix so near to the threshold that another device may find other clusters
    /// for them ([`FilterPerformance::near`]).
    pub fn near_threshold(&self) -> Vec<usize> {
        (0..self.performance.len()).filter(|&unit| self.performance[unit].near > 0).collect()
    }
}

/// A parameter of the analysed model: with it an analysis, and a plan made from it, know their model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParameterShape {
    /// Module path.
    pub path: String,
    /// Shape.
    pub shape: Vec<usize>,
}

/// Wall-clock seconds of each stage. Not part of an analysis's identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// Capture of the graph and loading it on the device.
    pub capture: f64,
    /// Forward passes with class sums, normal equations and gradient steps.
    pub sweep: f64,
    /// Solving for the readouts.
    pub readout: f64,
    /// Performance matrices and clusters.
    pub performance: f64,
    /// The extra pass for the accuracy of readouts.
    pub accuracy: f64,
}

/// The result of an analysis.
///
/// See [`analyze`](crate::analyze) for an example.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Analysis {
    /// Version of the format.
    pub version: u32,
    /// Threshold of the Boolean matrices.
    pub threshold: f64,
    /// C: number of classes.
    pub classes: usize,
    /// N: calibration samples.
    pub samples: u64,
    /// Samples of each label.
    pub counts: Vec<u64>,
    /// Top-1 of the network on the calibration data.
    pub top1: f64,
    /// The analysed layers and heads, in the order in which they run.
    pub layers: Vec<LayerAnalysis>,
    /// For each layer's path the mean of each of its input channels (convolution: over samples and positions) or
    /// features (linear): what a removed channel leaves behind in its consumer's bias.
    pub input_means: BTreeMap<String, Vec<f32>>,
    /// Shapes of the model's parameters.
    pub model: Vec<ParameterShape>,
    /// Time spent, for reports; not compared, not merged.
    #[serde(default)]
    pub seconds: Seconds,
}

impl Analysis {
    pub(crate) fn new(
        threshold: f64,
        counts: Vec<u64>,
        top1: f64,
        layers: Vec<LayerAnalysis>,
        input_means: BTreeMap<String, Vec<f32>>,
        model: Vec<ParameterShape>,
        seconds: Seconds,
    ) -> Self {
        Self {
            version: ANALYSIS_VERSION,
            threshold,
            classes: counts.len(),
            samples: counts.iter().sum(),
            counts,
            top1,
            layers,
            input_means,
            model,
            seconds,
        }
    }

    /// The analysis of the layer or the heads at a path.
    pub fn layer(&self, path: &str) -> Option<&LayerAnalysis> {
        self.layers.iter().find(|layer| layer.path == path)
    }

    /// Whether the analysis keeps what merging needs.
    pub fn has_state(&self) -> bool {
        self.layers.iter().all(|layer| layer.state.is_some())
    }

    pub(crate) fn readout(&self, path: &str) -> Option<(Array3<f32>, ReadoutInfo)> {
        let layer = self.layer(path)?;
        let readout = layer.state.as_ref()?.readout.clone()?;
        let mut from = layer.readout.clone();
        if let ReadoutInfo::Given { from: origin, .. } = from {
            from = *origin;
        }
        Some((readout, ReadoutInfo::Given { from: Box::new(from), accuracy: None }))
    }
}

impl Network {
    /// Paths and shapes of all parameters: what tells one model from another.
    pub fn model_shapes(&self) -> Vec<ParameterShape> {
        self.parameters()
            .iter()
            .map(|parameter| ParameterShape { path: parameter.path.clone(), shape: parameter.shape.clone() })
            .collect()
    }
}

impl fmt::Display for Analysis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} samples, {} classes, top-1 {:.2} %, threshold {}",
            self.samples,
            self.classes,
            100.0 * self.top1,
            self.threshold
        )?;
        writeln!(
            f,
            "{:<24} {:>7} {:>9} {:<10} {:>7} {:>7} {:>7} {:>7} {:>8} {:>7}",
            "layer", "filters", "positions", "readout", "acc %", "silent", "N_c", "C_s", "noise", "SNR"
        )?;
        for layer in &self.layers {
            let summary = &layer.summary;
            let optional =
                |value: Option<f64>, digits: usize| value.map_or("-".into(), |value| format!("{value:.digits$}"));
            writeln!(
                f,
                "{:<24} {:>7} {:>9} {:<10} {:>7} {:>7} {:>7.2} {:>7.2} {:>8.1} {:>7}",
                layer.path,
                layer.filters,
                layer.positions,
                layer.readout.name(),
                optional(layer.readout.accuracy().map(|accuracy| 100.0 * accuracy), 1),
                summary.silent,
                summary.clusters_per_filter,
                summary.cluster_size,
                summary.noise,
                optional(summary.snr, 2)
            )?;
        }
        let near: usize = self.layers.iter().map(|layer| layer.near_threshold().len()).sum();
        if near > 0 {
            writeln!(
                f,
                "{near} filters have elements within 1e-5 of the threshold: another device may decide them otherwise"
            )?;
        }
        Ok(())
    }
}
