//! Pruned models as files: they come back bit for bit, and what does not fit is refused.

mod again;
#[path = "../common/inspect.rs"]
mod inspect;
mod killed;
mod net;
mod refused;
mod whole;
