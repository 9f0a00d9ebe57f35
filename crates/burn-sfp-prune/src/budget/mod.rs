//! How much is removed: the [`StopRule`] trait and the rules that come with the library, a file each.

mod channels;
mod rule;
mod state;

pub use channels::Budget;
pub use rule::{RemovalOrder, StopRule};
pub use state::RemovalState;
pub(crate) use state::RunningTotals;
