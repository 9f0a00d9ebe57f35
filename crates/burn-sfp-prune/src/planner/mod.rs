//! From a ranking to a plan that is closed under the network's dependencies, a file for each step.

mod also;
mod bias;
mod check;
mod close;
mod exclude;
mod held;
mod layer_rule;
mod masks;
mod ranked;
mod scoring;
mod settings;
mod trainable;
mod write;

pub use bias::BiasCorrection;
pub use layer_rule::{Amount, LayerRule};
pub(crate) use ranked::{Ranked, rank};
pub use settings::Planner;
