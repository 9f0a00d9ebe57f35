//! Training on the stored outputs of the frozen layers.
//!
//! | what | where |
//! | --- | --- |
//! | the settings | [`StoreConfig`], [`StorePrecision`] |
//! | how a sample is laid out in bytes | `layout` |
//! | the bytes, in memory or in a file | `store` |
//! | the head of a file, and whether it is of this model and data | `head` |
//! | the frozen part, run over all copies | `fill` |
//! | the part that learns, for batches of any size | `tail` |
//! | whether both parts together compute what the model computes | `check` |
//! | the order of the samples in each epoch | [`epoch_order`] |

mod check;
mod config;
mod fill;
mod head;
mod layout;
mod order;
mod store;
mod tail;

pub use config::{StoreConfig, StorePrecision};
pub(super) use fill::{Copies, fill};
pub use order::epoch_order;
