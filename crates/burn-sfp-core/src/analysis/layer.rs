//! [`LayerAnalysis`], the entry of an analysis for one layer or attention, and what is kept of it for merging.

use burn_sfp_graph::LayerKind;
use ndarray::{Array2, Array3};
use serde::{Deserialize, Serialize};

use super::info::ReadoutInfo;
use crate::performance::{FilterPerformance, LayerSummary};

/// The kind of units that an entry of an analysis lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum UnitKind {
    /// The heads of an attention, see [`Heads`](burn_sfp_graph::Heads); `"heads"` in files.
    Heads,
    /// The filters or nodes of a layer of this kind; the kind alone in files, for example `"linear"`.
    #[serde(untagged)]
    Layer(LayerKind),
}

/// The analysis of one layer, or of the heads of one attention.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LayerAnalysis {
    /// Module path of the layer, or [`Heads::path`](burn_sfp_graph::Heads::path).
    pub path: String,
    /// The kind of its units.
    pub kind: UnitKind,
    /// F: number of filters, nodes or heads.
    pub filters: usize,
    /// S: positions that the readout saw; for heads the tokens times the width of a head.
    pub positions: usize,
    /// The grid that positions were pooled to, `None` where every position counted.
    pub grid: Option<Vec<usize>>,
    /// C: number of classes.
    pub classes: usize,
    /// N: calibration samples.
    pub samples: u64,
    /// How its readout was made.
    pub readout: ReadoutInfo,
    /// One entry per filter, node or head.
    pub performance: Vec<FilterPerformance>,
    /// Means over its units.
    pub summary: LayerSummary,
    #[serde(skip)]
    pub(crate) state: Option<LayerState>,
}

impl LayerAnalysis {
    /// Units whose performance matrix holds an element so near to the threshold that another device may find other clusters for
    /// them ([`FilterPerformance::near`]).
    ///
    /// ```
    /// # use burn_sfp_core::Analysis;
    /// fn report(analysis: &Analysis) {
    ///     for layer in &analysis.layers {
    ///         println!("{}: check units {:?} on another device", layer.path, layer.near_threshold());
    ///     }
    /// }
    /// ```
    pub fn near_threshold(&self) -> Vec<usize> {
        (0..self.performance.len()).filter(|&unit| self.performance[unit].near > 0).collect()
    }
}

/// What an analysis keeps of a layer for merging.
#[derive(Clone, Debug)]
pub(crate) struct LayerState {
    pub path: String,
    pub kind: UnitKind,
    pub grid: Option<Vec<usize>>,
    /// Class sums `[C, F, S]`.
    pub sums: Array3<f64>,
    /// Lower triangle of the Gram matrix, for ridge readouts.
    pub gram: Option<Array2<f64>>,
    /// The readout `[F, S, C]`; `None` until a ridge readout has been solved for.
    pub readout: Option<Array3<f32>>,
    pub info: ReadoutInfo,
}
