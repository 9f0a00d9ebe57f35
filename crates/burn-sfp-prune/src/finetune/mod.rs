//! Fine-tuning after pruning: a short training of the pruned layers, in which removed connections stay zero.
//!
//! | what | where |
//! | --- | --- |
//! | the settings | [`FineTuneConfig`], [`Schedule`], [`OptimizerConfig`] |
//! | the learning rate of each step, by Burn's schedulers | `rate` |
//! | which parameters learn | `freeze` |
//! | the step on one batch | `step` |
//! | the training loop | [`fine_tune`] |
//! | training on the stored outputs of the frozen layers | [`SplitModule`], [`fine_tune_split`] |

mod config;
mod freeze;
mod rate;
mod split;
mod step;
mod train;

pub use config::{FineTuneConfig, OptimizerConfig, Schedule};
pub use split::{SplitModule, fine_tune_split};
pub use train::fine_tune;
