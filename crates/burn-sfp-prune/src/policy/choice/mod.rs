//! From scores of connections to keep masks: how many stay, of which layers, in which pattern.
//!
//! | what | where |
//! | --- | --- |
//! | a policy that scores connections | [`ConnectionPolicy`] |
//! | how many stay, and how they are spread | [`ConnectionChoice`], [`Spread`] |
//! | connections that stay or go together | [`Pattern`] |
//! | the choice | `choose` |

mod choose;
mod pattern;
mod policy;
mod settings;

pub(super) use choose::choose_among;
pub use choose::choose_connections;
pub use pattern::Pattern;
pub use policy::{ConnectionPolicy, Wanted};
pub(super) use settings::connection_settings;
pub use settings::{ConnectionChoice, Spread};
