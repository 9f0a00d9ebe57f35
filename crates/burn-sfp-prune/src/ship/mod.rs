//! Shipping a pruned model: one file that holds its weights and how it came to its shapes.
//!
//! | what | where |
//! | --- | --- |
//! | [`save_pruned`], and `save` of [`Pruned`](crate::Pruned) and [`PrunedModule`](crate::PrunedModule) | `save` |
//! | [`load_pruned`] | `load` |
//! | the plan in a file | `plan_bytes` |
//! | weights in half precision | `precision` |
//! | the two containers | `safetensors`, `burnpack` |

mod burnpack;
mod load;
mod plan_bytes;
mod precision;
mod safetensors;
mod save;

pub use load::load_pruned;
pub use precision::Precision;
pub use save::{SaveConfig, save_pruned};

use burn_sfp_graph::file::Format;

/// The version of the files of pruned models.
pub const MODEL_VERSION: u32 = 1;

/// What is at the head of a file, in either container.
const FORMAT: Format = Format {
    name: "burn-sfp pruned model",
    what: "a pruned model",
    version: MODEL_VERSION,
    advice: "save the model again with this version of the library",
};

/// Name of the tensor that holds the plan. No module path has a slash.
const PLAN: &str = "burn-sfp/plan";
