//! What the examples share.
//!
//! | what | where |
//! | --- | --- |
//! | devices by name, for command lines | [`DeviceName`] |
//! | files of measured rows | [`read_rows`], [`write_rows`] |
//! | servers in processes of their own | [`ChildServer`] |

mod device;
mod results;
mod server;

pub use device::{DeviceName, MissingBackend};
pub use results::{read_rows, write_rows};
pub use server::ChildServer;
