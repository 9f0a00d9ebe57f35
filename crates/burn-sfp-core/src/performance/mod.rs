//! Performance matrices, Boolean matrices, clusters and noise of filters, and the summary of a layer (docs/method.md, sections 2
//! and 3).

mod filter;
mod filters;
mod matrix;
mod summary;

pub use filter::FilterPerformance;
pub(crate) use filters::performances;
pub use filters::{device_filter_performances, filter_performances};
pub use matrix::{boolean_matrix, performance_matrix};
pub use summary::LayerSummary;
