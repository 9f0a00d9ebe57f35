//! What the command line prints.

mod list;
mod prune;

pub use list::listed;
pub use prune::pruned;
