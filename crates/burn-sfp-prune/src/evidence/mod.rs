//! Evidence: what policies read besides the analysis and the weights, from passes over the calibration data.
//!
//! | what | where |
//! | --- | --- |
//! | what a policy asks for | [`Needs`] |
//! | the result, and the passes | [`Evidence`] |
//! | the pass over the gradients | `gradients` |
//! | which elements of a weight belong to a filter | `layout` |
//!
//! The pass over the activations is that of [`gather_activations`](burn_sfp_core::gather_activations).

mod gathered;
mod gradients;
mod layout;
mod needs;
mod on_device;
mod part;
mod sums;

pub use gathered::Evidence;
pub(crate) use layout::FilterLayout;
pub use needs::Needs;
pub use part::{FilterGradients, ParameterGradients};
