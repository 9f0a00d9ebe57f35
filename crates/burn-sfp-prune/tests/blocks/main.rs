//! Whole residual blocks left out of modules of the user's own type.

#[path = "../common/draw.rs"]
mod draw;
#[path = "../common/inspect.rs"]
mod inspect;

mod net;
mod random;
mod scores;
mod stays;
mod tokens;
mod whole;
