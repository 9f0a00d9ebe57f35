//! Networks that others wrote for Burn, pruned as they are: `bunsen`'s, and what `burn-onnx` generates.
//!
//! No line of theirs is changed, and none of them implements `Shrink`. A network of another crate is put in a struct of our own, because
//! [`GraphModule`](burn_sfp::prelude::GraphModule) cannot be implemented for a foreign type; generated code is part of this crate and needs
//! nothing of the kind.
//!
//! | what | where |
//! | --- | --- |
//! | the networks, and a way to visit each | [`networks`] |
//! | pruning one of them: sizes, seconds, exactness | [`measure`] |
//! | parameters that a freshly made network does not have: random biases and scales | [`random`] |
//! | the table | [`report`] |
//!
//! `cargo run --release -p zoo-elsewhere` prints the table.

pub mod measure;
pub mod networks;
pub mod random;
pub mod report;
