//! Performance matrices, clusters and noise of every filter, and a layer's summary (METHOD sections 2 and 3).

mod matrix;
mod summary;

pub(crate) use matrix::performances;
pub use matrix::{FilterPerformance, device_filter_performances, filter_performances};
pub use summary::LayerSummary;
