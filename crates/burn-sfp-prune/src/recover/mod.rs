//! Accuracy brought back without training: what is left of a network is fitted to what the original returned, layer after layer, on
//! calibration samples.
//!
//! Let x' be what a layer of the pruned network reads, given by the corrected layers before it, X its rows (a patch of the input for each
//! sample and position), and y what the original returned there before normalisation, for the filters that stay.
//!
//! | step | what is set | source |
//! | --- | --- | --- |
//! | [`RecoveryStep::LeastSquares`] | the weights that stay: those with the least `‖X W + b - Y‖² + λ ‖W - W₀‖²` | He, Zhang and Sun, "Channel Pruning for Accelerating Very Deep Neural Networks", ICCV 2017, section 3.1 |
//! | [`RecoveryStep::Means`] | the bias, so that the mean of each filter is the original's | Nagel and others, "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, section 4.2, here with samples |
//! | [`RecoveryStep::Statistics`] | mean and variance of each batch normalisation: those of what reaches it | Li and others, "EagleEye: Fast Sub-net Evaluation for Efficient Neural Network Pruning", ECCV 2020, section 3.3 |
//!
//! | what | where |
//! | --- | --- |
//! | settings | `config` |
//! | what was corrected, what was left out and why | `report` |
//! | which layer of the original a layer stands for | `counterpart` |
//! | which layers return something else than in the original | `affected` |
//! | what is done at each layer, decided before any sample is read | `tasks` |
//! | the corrections themselves | `correct` |
//! | what a device holds and sums | `share` |
//! | one device with all batches, or many that share them | `passes` |
//! | the whole, from the graphs to the new model | `run` |

mod affected;
mod config;
mod correct;
mod counterpart;
mod passes;
mod report;
mod run;
mod share;
mod tasks;

pub use config::{Recover, RecoveryStep};
pub use report::{Corrected, NotCorrected, Recovered, RecoveryReport};
pub(crate) use run::recover_by;
pub use run::{recover, recover_on};
