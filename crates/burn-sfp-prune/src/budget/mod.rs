//! How much is removed: the [`StopRule`] trait and the rules that come with the library, a file each.

mod channels;
mod keep;
mod latency;
mod rule;
mod short;
mod state;

pub use channels::Budget;
pub(crate) use channels::share_of;
pub use keep::{CostUnit, Keep};
pub use latency::KeepLatency;
pub use rule::{RemovalOrder, StopRule};
pub use state::RemovalState;
pub(crate) use state::RunningTotals;
