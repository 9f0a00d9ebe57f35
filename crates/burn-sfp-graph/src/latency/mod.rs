//! Latency of forward passes, and bytes of parameters.
//!
//! Every run starts on a synchronised device and ends with the whole output on the host, so that no device can answer before it is
//! done. Models that are compared are measured in turn (A B A B): a machine that slows down meanwhile slows all of them down.

mod bytes;
mod file;
mod in_place;
mod layers;
mod measure;
mod running;
mod single;
mod smooth;
mod table;

pub use bytes::{fetch, parameter_bytes};
pub use layers::{LayerLatencies, LayerLatency};
pub use measure::{Latency, LatencyConfig, compare, forward, measure_module};
pub use running::RunningLatency;
pub use single::Single;
pub use table::{LatencyRow, LatencyTable};
