//! [`ReadoutInfo`], the provenance of a readout.

use serde::{Deserialize, Serialize};

use crate::readout::GradientConfig;

/// How the readout of a layer was made.
///
/// ```
/// use burn_sfp_core::ReadoutInfo;
///
/// fn describe(readout: &ReadoutInfo) -> String {
///     match readout {
///         ReadoutInfo::Classifier { .. } => "the network's own classifier".into(),
///         ReadoutInfo::Ridge { strength, .. } => format!("ridge regression of strength {strength}"),
///         other => format!("{other:?}"),
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReadoutInfo {
    /// The network's own linear classifier.
    Classifier {
        /// Top-1 of the network on the calibration data.
        accuracy: f64,
    },
    /// Ridge regression on the centered class indicators.
    Ridge {
        /// Ridge parameter as a multiple of the mean diagonal element of the Gram matrix.
        strength: f64,
        /// Top-1 of the readout on the calibration data, where it was measured.
        accuracy: Option<f64>,
    },
    /// Gradient descent, as in the paper.
    Gradient {
        /// Settings of the descent.
        config: GradientConfig,
        /// Seed of the start.
        seed: u64,
        /// Top-1 during the last epoch; each sample is counted before its own step.
        accuracy: Option<f64>,
    },
    /// Taken from another analysis.
    Given {
        /// How it was made there.
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

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Classifier { .. } => "classifier",
            Self::Ridge { .. } => "ridge",
            Self::Gradient { .. } => "gradient",
            Self::Given { .. } => "given",
        }
    }
}
