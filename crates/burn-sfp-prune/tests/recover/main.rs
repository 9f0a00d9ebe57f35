//! Recovery without training: each step against plain loops in double precision, exact cases, what is left out, errors, determinism.

mod choice;
#[path = "../common/draw.rs"]
mod draw;
#[allow(dead_code)]
#[path = "../common/graph/mod.rs"]
mod graph;
mod limits;
mod net;
mod plain;
mod pool;
mod random;
mod steps;
mod transposed;
