//! What pruning has to get right, a file each: ways in which channels run through a network, kinds of layers, errors.
//!
//! Every test compares the smaller model with the original in which the removed channels are zero, and the channels that
//! stay with those expected by hand.

mod advice;
mod asked;
mod attention;
mod burn_attention;
mod centered;
mod computed_kernels;
mod concat;
mod custom;
mod deep;
mod deformable;
mod dense;
mod derive;
mod ends;
mod errors;
mod extremes;
mod fold_norms;
mod groups;
#[path = "../common/inspect.rs"]
mod inspect;
mod narrow;
mod normed_kernels;
mod optimizer;
mod others;
mod parameters;
mod partial;
mod precision;
mod reads;
mod recurrent;
mod reshape;
mod saving;
mod selection;
mod shared;
mod split;
mod streams;
mod sums;
mod support;
mod tokens;
mod training;
mod two_outputs;
mod two_passes;
mod uncentered;
mod uneven;
mod unreached;
