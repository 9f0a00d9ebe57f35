//! Calibration data shared out among many devices.

mod devices;
mod dispatch;
mod queue;

pub use devices::DevicePool;
pub(crate) use dispatch::{Chunk, ChunkWork, Members, in_chunks};
