//! One pass over the samples feeds every layer: class sums, normal equations, gradient readouts, accuracy.

mod config;
mod grid;
mod readout;
mod run;
mod runner;

pub use config::{AnalyzeConfig, GradientConfig, Grid, Readout};
pub(crate) use readout::ridge_readout;
pub(crate) use run::sweep;
