//! What the examples share.
//!
//! | what | where |
//! | --- | --- |
//! | devices by name, for command lines | [`DeviceName`] |
//! | progress bars | [`Bars`] |

mod device;
mod progress;

pub use device::{DeviceName, MissingBackend};
pub use progress::Bars;
