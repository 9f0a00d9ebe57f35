//! Fine-tuning after pruning: a short training of the pruned layers, in which removed connections stay zero.
//!
//! | what | where |
//! | --- | --- |
//! | the settings | [`FineTuneConfig`], [`Schedule`], [`OptimizerConfig`] |
//! | the learning rate of each step, by Burn's schedulers | `rate` |
//! | which parameters learn, and learned before | `freeze` |
//! | whether the model is the plan's, and the masks to enforce | `fits` |
//! | the gradients of a step, and those that masks take away | `gradients` |
//! | the loss, with distillation | [`Distillation`] |
//! | the checks of batches and passes, and of values | `pass`, `finite` |
//! | what is trained on, and how logits are computed | `source` |
//! | the step on one batch, the logits of a teacher | `step`, `teacher` |
//! | the training loop, the only one | [`fine_tune`] |
//! | what happens around its steps | `hooks` |
//! | reports, held-out data, early stop, checkpoints | `observe`, `held_out`, `checkpoint`, `values` |
//! | all of it together | [`FineTune`] |
//! | the same as a model of burn-train's `Learner`, with the feature `train` | `learner` |
//! | logits by the recorded forward pass, and whether they are those of the model | `recorded`, `same_step` |
//! | training on the stored outputs of the frozen layers | [`fine_tune_stored`], `stored/` |

mod builder;
mod checkpoint;
mod config;
mod finite;
mod fits;
mod freeze;
mod gradients;
mod held_out;
mod hooks;
#[cfg(feature = "train")]
mod learner;
mod loss;
mod observe;
mod pass;
mod rate;
mod recorded;
mod report;
mod same_step;
mod simple;
mod source;
mod step;
mod stored;
mod teacher;
mod train;
mod values;

pub use builder::{FineTune, FineTuned};
pub use config::{FineTuneConfig, OptimizerConfig, Schedule};
pub use held_out::HeldOut;
#[cfg(feature = "train")]
pub use learner::Trainable;
pub use loss::Distillation;
pub(crate) use loss::cross_entropy;
pub use report::EpochReport;
pub use simple::fine_tune_stored;
pub(crate) use step::run;
pub use stored::{StoreConfig, StorePrecision, epoch_order};
pub use train::fine_tune;
