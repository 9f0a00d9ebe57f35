//! The files of this library: written whole or not at all, and read only if nothing in them has changed.
//!
//! | what | where |
//! | --- | --- |
//! | replacing a file by a temporary one that is renamed | `replace` |
//! | format, version, length and checksum at the head of a file | `head` |
//! | writing and reading files with such a head | `sealed` |
//! | safetensors files with such a head | `tensors` |
//! | the errors | `error` |

mod error;
mod head;
mod replace;
mod sealed;
mod tensors;

pub use error::FileError;
pub use head::Format;
pub use replace::replace;
pub use sealed::{
    Opened, begins_with, checksum_around, digest, load_json, open, open_regular, save_json, write_json, write_sealed,
};
pub use tensors::{TensorEntry, WriteElements, save_tensors};
