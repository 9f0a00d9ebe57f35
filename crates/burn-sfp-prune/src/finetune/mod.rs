//! Fine-tuning after pruning: a short training of the pruned layers, in which removed connections stay zero.
//!
//! | what | where |
//! | --- | --- |
//! | the settings | [`FineTuneConfig`], [`Schedule`], [`OptimizerConfig`] |
//! | the learning rate of each step, by Burn's schedulers | `rate` |
//! | which parameters learn, and learned before | `freeze` |
//! | whether the model is the plan's, and the masks to enforce | `fits` |
//! | the gradients of a step, and those that masks take away | `gradients` |
//! | the checks of batches and passes, and of values | `pass`, `finite` |
//! | the step on one batch | `step` |
//! | the training loop | [`fine_tune`] |
//! | training on the stored outputs of the frozen layers | [`SplitModule`], [`fine_tune_split`] |

mod config;
mod finite;
mod fits;
mod freeze;
mod gradients;
mod pass;
mod rate;
mod split;
mod step;
mod train;

pub use config::{FineTuneConfig, OptimizerConfig, Schedule};
pub use split::{SplitModule, fine_tune_split};
pub(crate) use step::{cross_entropy, run};
pub use train::fine_tune;
