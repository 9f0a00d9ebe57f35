//! Calibration data shared out among many devices.

mod devices;
mod dispatch;
mod queue;

pub use devices::DevicePool;
pub use dispatch::{Chunk, ChunkError, ChunkWork, Members, Merged, in_chunks};
