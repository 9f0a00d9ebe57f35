//! Multiply-adds, parameters and bytes: of the whole network, without some channels, and while channels are removed one by one.

pub(crate) mod macs;
pub(crate) mod model;
pub(crate) mod running;
