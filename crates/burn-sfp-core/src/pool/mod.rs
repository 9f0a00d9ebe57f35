//! Calibration data shared out among many devices.
//!
//! | what | where |
//! | --- | --- |
//! | the devices, how the data is cut up for them | [`DevicePool`] |
//! | a chunk of the data | `chunk` |
//! | what devices do with chunks | `work` |
//! | who takes which chunk, and whose turn it is | `queue` |
//! | the thread of a device | `serve` |
//! | handing out, merging, and what happens when a device fails | `dispatch` |
//! | devices that each keep something from one job to the next | `crew` |

mod chunk;
mod crew;
mod devices;
mod dispatch;
mod queue;
mod serve;
mod work;

pub use crew::{Crew, JobOutcome};
pub use devices::DevicePool;
pub use dispatch::{Members, Merged, in_chunks};
pub use work::{ChunkError, ChunkWork};
