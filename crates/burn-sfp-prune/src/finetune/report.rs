//! [`EpochReport`].

use serde::{Deserialize, Serialize};

use super::held_out::HeldOut;

/// What an epoch of fine-tuning came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochReport {
    /// Number of the epoch, from 0.
    pub epoch: usize,
    /// Learning rate of its last step.
    pub learning_rate: f64,
    /// Mean loss of its batches, by samples.
    pub loss: f64,
    /// Share of its samples whose largest logit was at the label when they were trained on.
    pub accuracy: f64,
    /// The model on the held-out data after the epoch, where there is some.
    pub held_out: Option<HeldOut>,
}
