//! Multiply-adds, parameters, bytes and memory of activations: of the whole network, without some channels, and while channels are removed
//! one by one.

pub(crate) mod activations;
pub(crate) mod macs;
pub(crate) mod model;
pub(crate) mod running;
pub(crate) mod shapes;
