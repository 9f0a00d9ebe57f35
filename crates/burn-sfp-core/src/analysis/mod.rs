//! The result of an analysis: plain data that can be printed, saved, loaded and merged.

mod check;
mod display;
mod file;
mod finish;
mod index;
mod info;
mod layer;
mod matrices;
mod merge;
mod result;
mod state_file;
mod threshold;

pub(crate) use finish::finish_layer;
pub use info::ReadoutInfo;
pub(crate) use layer::LayerState;
pub use layer::{LayerAnalysis, UnitKind};
pub use result::{ANALYSIS_VERSION, Analysis, Seconds};
pub(crate) use state_file::{doubles, entry, shape3};
