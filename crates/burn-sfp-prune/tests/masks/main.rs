//! Masks: soft pruning on random graphs, training with every optimiser of Burn, connections that move.

#[path = "../common/draw.rs"]
mod draw;
#[allow(dead_code)]
#[path = "../common/graph/mod.rs"]
mod graph;
#[allow(dead_code)]
#[path = "../recover/net.rs"]
mod net;
mod regrow;
mod soft;
mod training;
