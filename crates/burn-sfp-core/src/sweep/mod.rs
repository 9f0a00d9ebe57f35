//! The passes over the samples: each batch runs once per pass and feeds the sums and readouts of all layers.

mod accuracy;
mod driver;
mod finish;
mod grid;
mod input_mean;
mod partial;
mod pass;
mod probe;
mod run;
mod runner;
mod saved;
mod target;

pub(crate) use accuracy::{Fitted, measure};
pub(crate) use grid::Pooled;
pub(crate) use probe::Probe;
pub(crate) use run::{sweep, sweep_on};
pub(crate) use runner::{Runner, device_of};
