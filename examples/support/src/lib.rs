//! What the examples share.
//!
//! | what | where |
//! | --- | --- |
//! | devices by name, for command lines | [`DeviceName`] |
//! | files of measured rows | [`read_rows`], [`write_rows`] |

mod device;
mod results;

pub use device::{DeviceName, MissingBackend};
pub use results::{read_rows, write_rows};
