//! Statistics of activations for policies that rank by other things than labels: one pass over the calibration data.
//!
//! | what | where |
//! | --- | --- |
//! | the pass | `gather` |
//! | means and zeros of the outputs of filters | `outputs` |
//! | Gram matrices of the inputs of layers | `gram` |
//! | the same on devices with memory of their own | `patches` |
//! | which input position each element of a kernel reads | `window` |
//! | the least-squares loss of removed inputs | `loss` |
//! | the same, one input after the other | `elimination` |
//! | what residual blocks do to their streams: two passes of their own | `streams` |
//! | which inputs explain an output best | `pursuit` |

mod elimination;
mod gather;
mod gram;
mod loss;
mod outputs;
pub(crate) mod patches;
mod pursuit;
mod streams;
pub(crate) mod window;

pub use elimination::Elimination;
pub use gather::{ActivationEvidence, ActivationNeeds, gather_activations, gather_activations_on};
pub use gram::{InputGram, MOST_CHANNELS};
pub use loss::RemovedInputs;
pub use outputs::OutputStatistics;
pub use pursuit::{Explained, Pursuit};
pub use streams::{BlockStream, gather_streams, gather_streams_on};
