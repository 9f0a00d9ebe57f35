//! Pruning in several rounds, the search for the largest cut that an accuracy allows, and the check of a latency on the whole model.

mod iterative;
mod latency;
mod search;

pub use iterative::{Curve, Iterative, Round};
pub use latency::{LatencySearch, Timed};
pub use search::{CutSearch, Found, Probe};
