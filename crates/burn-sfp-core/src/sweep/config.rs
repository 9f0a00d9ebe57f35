//! Settings of an analysis.

use burn::tensor::TensorData;
use serde::{Deserialize, Serialize};

use crate::{Analysis, SfpError};

/// How the readouts of the layers are fitted (METHOD section 1). A layer that feeds the network's own linear
/// classifier uses that classifier, whatever is chosen here.
#[derive(Clone, Debug)]
pub enum Readout {
    /// Ridge regression on the centred class indicators: the fast default. `strength` is the ridge parameter as a
    /// multiple of the mean diagonal element of the Gram matrix.
    Ridge {
        /// Ridge parameter over the mean diagonal element of the Gram matrix; above 0.
        strength: f64,
    },
    /// The paper's recipe: cross-entropy by stochastic gradient descent, several passes over the data.
    Gradient(GradientConfig),
    /// The readouts of another analysis that kept its state, for a share of the data that will be merged with it.
    Given(Box<Analysis>),
}

impl Default for Readout {
    fn default() -> Self {
        Self::Ridge { strength: 0.01 }
    }
}

/// Stochastic gradient descent with Nesterov momentum (METHOD section 1; the defaults are the paper's).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GradientConfig {
    /// Passes over the calibration data.
    pub epochs: usize,
    /// Learning rate of the first epoch.
    pub learning_rate: f64,
    /// The learning rate is multiplied by this after each epoch.
    pub decay: f64,
    /// Nesterov momentum.
    pub momentum: f64,
    /// L2 penalty on the readout's weights.
    pub weight_decay: f64,
}

impl Default for GradientConfig {
    fn default() -> Self {
        Self { epochs: 10, learning_rate: 0.01, decay: 0.975, momentum: 0.975, weight_decay: 1e-3 }
    }
}

/// The positions that the readout sees (METHOD section 1, "not from the paper").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grid {
    /// Average-pooled so far that a layer has at most 2,048 features (F·S) where that is possible. Maps are pooled along their
    /// position axes, nodes of linear layers and heads of attentions along their tokens; the numbers that a head gives each
    /// token stay apart.
    #[default]
    Auto,
    /// Every position counts, as in the paper.
    Full,
    /// Average-pooled to at most this many positions along each of these axes.
    AtMost(usize),
}

/// Settings of an analysis.
///
/// ```
/// use burn_sfp_core::{AnalyzeConfig, Grid};
/// let config = AnalyzeConfig::new().with_threshold(0.45).with_grid(Grid::Full);
/// assert_eq!(config.threshold, 0.45);
/// ```
#[derive(Clone, Debug)]
pub struct AnalyzeConfig {
    /// Threshold of the Boolean matrices, in (0, 1). Default 0.3.
    pub threshold: f64,
    /// How readouts are fitted.
    pub readout: Readout,
    /// The positions that readouts see.
    pub grid: Grid,
    /// Module paths of the layers (and paths of the [heads](crate::network::Heads)) to analyse. All where `None`, but those whose
    /// output does not count the samples along its first axis (samples folded with windows or steps).
    pub layers: Option<Vec<String>>,
    /// Keeps class sums, normal equations and readouts in the result, for saving and merging.
    pub keep_state: bool,
    /// Walks over the data once more to measure the accuracy of fitted readouts.
    pub accuracy: bool,
    /// Seed of the gradient readouts' start.
    pub seed: u64,
}

impl Default for AnalyzeConfig {
    fn default() -> Self {
        Self {
            threshold: 0.3,
            readout: Readout::default(),
            grid: Grid::default(),
            layers: None,
            keep_state: false,
            accuracy: false,
            seed: 0,
        }
    }
}

impl AnalyzeConfig {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the threshold of the Boolean matrices.
    pub fn with_threshold(mut self, threshold: f64) -> Self {
        self.threshold = threshold;
        self
    }

    /// Sets how readouts are fitted.
    pub fn with_readout(mut self, readout: Readout) -> Self {
        self.readout = readout;
        self
    }

    /// Sets the positions that readouts see.
    pub fn with_grid(mut self, grid: Grid) -> Self {
        self.grid = grid;
        self
    }

    /// Analyses only these layers and heads.
    pub fn with_layers<S: Into<String>>(mut self, layers: impl IntoIterator<Item = S>) -> Self {
        self.layers = Some(layers.into_iter().map(Into::into).collect());
        self
    }

    /// Keeps what merging needs.
    pub fn with_state(mut self, keep: bool) -> Self {
        self.keep_state = keep;
        self
    }

    /// Measures the accuracy of fitted readouts with one more pass.
    pub fn with_accuracy(mut self, measure: bool) -> Self {
        self.accuracy = measure;
        self
    }

    /// Seeds the gradient readouts.
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    pub(crate) fn check(&self) -> Result<(), SfpError> {
        let error = |name, found: f64, expected| Err(SfpError::Config { name, found: found.to_string(), expected });
        if !(self.threshold > 0.0 && self.threshold < 1.0) {
            return error("threshold", self.threshold, "above 0 and below 1");
        }
        if let Grid::AtMost(0) = self.grid {
            return error("grid", 0.0, "at least 1");
        }
        match &self.readout {
            Readout::Ridge { strength } if !(*strength > 0.0 && strength.is_finite()) => {
                error("ridge strength", *strength, "finite and above 0")
            }
            Readout::Gradient(config) if config.epochs == 0 => error("readout epochs", 0.0, "at least 1"),
            Readout::Gradient(config) if !(config.learning_rate > 0.0 && config.learning_rate.is_finite()) => {
                error("readout learning rate", config.learning_rate, "finite and above 0")
            }
            Readout::Gradient(config) if !(0.0..1.0).contains(&config.momentum) => {
                error("readout momentum", config.momentum, "at least 0 and below 1")
            }
            _ => Ok(()),
        }
    }
}

/// Row-major numbers of a float tensor's data, where it holds floats.
pub(crate) fn floats(data: &TensorData) -> Option<Vec<f32>> {
    data.clone().convert::<f32>().try_into_vec::<f32>().ok()
}
