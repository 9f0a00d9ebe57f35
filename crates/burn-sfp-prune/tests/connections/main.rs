//! Policies over connections: scores, spreads, patterns and restrictions, each against plain loops in double precision.

mod among;
mod edges;
mod fields;
mod net;
mod patterns;
mod pursuit;
mod spreads;
mod zeros;
