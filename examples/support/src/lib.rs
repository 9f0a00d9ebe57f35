//! What the examples share.
//!
//! | what | where |
//! | --- | --- |
//! | devices by name, for command lines | [`DeviceName`] |

mod device;

pub use device::{DeviceName, MissingBackend};
