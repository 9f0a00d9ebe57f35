//! Channels: which indices of which tensors and parameters can only be removed together.
//!
//! `ids` holds the union-find of channel ids, `pins` why channels must stay,
//! `ties` which operations tie them, `context` what the description of an operation works on, `left` shapes without the removed
//! channels, `flow` the result ([`Flow`](crate::Flow)), and `follow` the pass over the recorded operations that makes it.

pub(crate) mod context;
pub(crate) mod flow;
pub(crate) mod follow;
pub(crate) mod ids;
pub(crate) mod left;
pub(crate) mod pins;
pub(crate) mod ties;
