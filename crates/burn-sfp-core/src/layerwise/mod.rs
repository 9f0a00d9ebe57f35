//! A model that runs over all calibration batches layer by layer, and what is measured at a layer on the way: for corrections of a
//! pruned model, in which each layer is to see what the corrected layers before it return.
//!
//! | what | where |
//! | --- | --- |
//! | the batches, step by step | `pass` |
//! | mean and variance of each channel | `moments` |
//! | sums of what a layer reads and of what it is to return, and the weights that follow | `regression` |
//! | the same sums on devices with memory of their own | `on_device` |
//! | sums of parts of the data, put together | `merge` |
//! | the solution for one group of a layer | `solve` |
//! | which rows of a batch are taken | `sample` |

mod merge;
mod moments;
mod on_device;
mod pass;
mod regression;
mod sample;
mod solve;

pub use moments::ChannelMoments;
pub use pass::Layerwise;
pub use regression::{Regression, Solution};
pub use solve::Ridge;
