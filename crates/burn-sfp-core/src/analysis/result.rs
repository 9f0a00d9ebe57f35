//! [`Analysis`], the result.

use std::collections::BTreeMap;

use burn_sfp_graph::{Fingerprint, ParameterShape};
use ndarray::Array3;
use serde::{Deserialize, Serialize};

use super::index::EntryIndex;
use super::info::ReadoutInfo;
use super::layer::LayerAnalysis;

/// Version of the file format of [`Analysis::save`].
pub const ANALYSIS_VERSION: u32 = 3;

/// Wall-clock seconds of each stage of an analysis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Seconds {
    /// Capturing the graph and loading it on the device.
    pub capture: f64,
    /// Forward passes with class sums, normal equations and gradient steps.
    pub sweep: f64,
    /// Solving for the readouts.
    pub readout: f64,
    /// Performance matrices and clusters.
    pub performance: f64,
    /// The additional pass for the accuracy of readouts.
    pub accuracy: f64,
}

/// The result of an analysis: plain data that can be printed, saved, loaded and merged.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::GraphModule;
/// # use burn_sfp_core::{AnalyzeConfig, TensorCalibration, analyze};
/// use burn_sfp_core::Analysis;
/// # #[derive(Module, Debug)]
/// # struct Mlp { a: Linear, b: Linear }
/// # impl GraphModule for Mlp {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<2>) -> Tensor<2> { self.b.forward(burn::tensor::activation::relu(self.a.forward(x))) }
/// # }
/// # let device = Device::flex();
/// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 2).init(&device) };
/// # let samples = Tensor::<2>::from_floats([[1., 0., 0., 1.], [0., 1., 1., 0.]], &device);
/// # let calibration = TensorCalibration::new(samples, vec![0, 1], 2);
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("analysis.json");
/// let analysis = analyze(&mlp, &calibration, &AnalyzeConfig::new())?;
/// analysis.save(&path)?;
/// let loaded = Analysis::load(&path)?;
/// println!("{loaded}");
/// assert_eq!(loaded.layer("a").unwrap().performance, analysis.layers[0].performance);
/// # Ok::<(), burn_sfp_core::SfpError>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Analysis {
    /// Version of the file format, [`ANALYSIS_VERSION`].
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
    /// The analyzed layers and heads in the order in which they run.
    pub layers: Vec<LayerAnalysis>,
    /// By the path of a layer, the mean of each of its input channels (convolutions: over samples and positions) or features
    /// (linear layers). Multiplied by the layer's weight it replaces a removed channel in the layer's bias.
    pub input_means: BTreeMap<String, Vec<f32>>,
    /// Shapes of the model's parameters.
    pub model: Vec<ParameterShape>,
    /// Which values the model's parameters had. Analyses of other checkpoints of the model are not merged with this one.
    pub fingerprint: Fingerprint,
    /// Time spent, for reports; 0 in a merged analysis.
    #[serde(default)]
    pub seconds: Seconds,
    #[serde(skip)]
    index: EntryIndex,
}

impl Analysis {
    pub(crate) fn new(
        threshold: f64,
        counts: Vec<u64>,
        top1: f64,
        layers: Vec<LayerAnalysis>,
        input_means: BTreeMap<String, Vec<f32>>,
        (model, fingerprint): (Vec<ParameterShape>, Fingerprint),
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
            fingerprint,
            seconds,
            index: EntryIndex::default(),
        }
    }

    /// Returns the analysis of the layer or the heads at a path.
    pub fn layer(&self, path: &str) -> Option<&LayerAnalysis> {
        self.index.find(&self.layers, path).map(|at| &self.layers[at])
    }

    /// Whether the analysis keeps what [`merge`](Self::merge) and [`performance_matrix`](Self::performance_matrix) need.
    pub fn has_state(&self) -> bool {
        self.layers.iter().all(|layer| layer.state.is_some())
    }

    /// The kept readout of a layer and its provenance, as another analysis records it that uses it.
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
