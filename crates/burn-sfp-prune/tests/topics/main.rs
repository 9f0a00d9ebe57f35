//! What pruning has to get right, a file each: ways in which channels run through a network, kinds of layers, errors.
//!
//! Every test compares the smaller model with the original in which the removed channels are zero, and the channels that
//! stay with those expected by hand.

mod attention;
mod burn_attention;
mod centered;
mod concat;
mod custom;
mod deformable;
mod dense;
mod derive;
mod ends;
mod errors;
mod fold_norms;
mod groups;
#[path = "../common/inspect.rs"]
mod inspect;
mod narrow;
mod others;
mod parameters;
mod reads;
mod recurrent;
mod reshape;
mod saving;
mod selection;
mod shared;
mod split;
mod streams;
mod support;
mod tokens;
mod two_outputs;
mod two_passes;
mod uncentered;
