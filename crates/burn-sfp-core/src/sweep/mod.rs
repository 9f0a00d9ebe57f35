//! One pass over the samples feeds every layer: class sums, normal equations, gradient readouts, accuracy.

mod accuracy;
mod check;
mod config;
mod grid;
mod input_mean;
mod parts;
mod readout;
mod run;
mod runner;
mod subject;

pub use config::{AnalyzeConfig, GradientConfig, Grid, Readout};
pub(crate) use readout::ridge_readout;
pub(crate) use run::sweep;
