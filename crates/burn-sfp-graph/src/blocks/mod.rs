//! Residual blocks that can be left out whole.
//!
//! A block is a part of the module that [`Shrink`](burn_sfp_nn::Shrink) can leave out: an element of a `Vec` or what an `Option` holds. It can go if
//! everything that it computes is added to a stream and is zero once its parameters are. What is left of it then is the stream itself, so
//! that the network without the block equals the network with the block's parameters at zero.
//!
//! | what | where |
//! | --- | --- |
//! | finding the blocks of a network | `find` |
//! | one part of the module, followed through the operations | `scan` |
//! | whether what a block adds is zero with its parameters | `silence` |
//! | a network without some of its blocks | `omitted` |

mod find;
mod omitted;
mod scan;
mod silence;

pub use find::Block;
pub use omitted::Omitted;
