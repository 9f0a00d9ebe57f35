//! Settings of an analysis.

use burn::config::Config;
use burn_sfp_nn::ConfigError;
use serde::{Deserialize, Serialize};

use crate::analysis::Analysis;
use crate::readout::GradientConfig;

/// How the readouts of the layers are fitted (docs/method.md, section 1).
///
/// A layer that feeds the network's own linear classifier uses that classifier, whatever is chosen here.
///
/// ```
/// use burn_sfp_core::{AnalyzeConfig, GradientConfig, Readout};
///
/// let ridge = AnalyzeConfig::new().with_readout(Readout::Ridge { strength: 0.1 });
/// let paper = AnalyzeConfig::new().with_readout(Readout::Gradient(GradientConfig::new()));
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Readout {
    /// Ridge regression on the centered class indicators: the fast default.
    Ridge {
        /// Ridge parameter as a multiple of the mean diagonal element of the Gram matrix; finite and above 0.
        strength: f64,
    },
    /// The paper's recipe: cross-entropy by stochastic gradient descent, in several passes over the data.
    Gradient(GradientConfig),
    /// The readouts of another analysis that kept its state, for a share of the data that will be merged with it. A saved
    /// configuration holds that analysis without its state.
    Given(Box<Analysis>),
}

impl Default for Readout {
    fn default() -> Self {
        Self::Ridge { strength: 0.01 }
    }
}

/// The positions that a readout sees (docs/method.md, section 1).
///
/// ```
/// use burn_sfp_core::{AnalyzeConfig, Grid};
///
/// let config = AnalyzeConfig::new().with_grid(Grid::AtMost(4)); // a map of 32 x 32 is pooled to 4 x 4
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Grid {
    /// Positions are average-pooled so far that a layer has at most 2,048 features (F·S) where that is possible. Maps are pooled
    /// along their position axes, nodes of linear layers and heads of attentions along their tokens; the elements that a head
    /// returns for each token are not pooled.
    #[default]
    Auto,
    /// Every position counts, as in the paper.
    Full,
    /// Positions are average-pooled to at most this many along each of these axes; at least 1.
    AtMost(usize),
}

/// Settings of an analysis.
///
/// ```
/// use burn_sfp_core::{AnalyzeConfig, Grid};
///
/// let config = AnalyzeConfig::new().with_threshold(0.45).with_grid(Grid::Full).with_layers(["convs.8", "convs.9"]);
/// assert_eq!(config.threshold, 0.45);
/// ```
#[derive(Config, Debug)]
pub struct AnalyzeConfig {
    /// Threshold of the Boolean matrices, above 0 and below 1.
    #[config(default = 0.3)]
    pub threshold: f64,
    /// How readouts are fitted.
    #[config(default = "Readout::default()")]
    pub readout: Readout,
    /// The positions that readouts see.
    #[config(default = "Grid::default()")]
    pub grid: Grid,
    /// Module paths of the layers (and paths of the [heads](burn_sfp_graph::Heads)) to analyze; see
    /// [`with_layers`](Self::with_layers). `None` analyzes all but those whose output does not count the samples along its first
    /// axis (samples folded with windows or time steps).
    pub layer_paths: Option<Vec<String>>,
    /// Whether the result keeps class sums, normal equations and readouts, for saving, merging and
    /// [`Analysis::performance_matrix`].
    #[config(default = false)]
    pub state: bool,
    /// Whether one more pass over the data measures the accuracy of fitted readouts.
    #[config(default = false)]
    pub accuracy: bool,
    /// Seed of the start of gradient readouts.
    #[config(default = 0)]
    pub seed: u64,
}

impl Default for AnalyzeConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl AnalyzeConfig {
    /// Analyzes only the layers and heads at these paths.
    pub fn with_layers<S: Into<String>>(self, layers: impl IntoIterator<Item = S>) -> Self {
        self.with_layer_paths(Some(layers.into_iter().map(Into::into).collect()))
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let error = |name, found: f64, expected| Err(ConfigError { name, found: found.to_string(), expected });
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
            Readout::Gradient(config) => config.check(),
            _ => Ok(()),
        }
    }
}
