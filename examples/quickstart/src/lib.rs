//! Pruning in two minutes, without a download: a small VGG on letters that are drawn on the fly.
//!
//! | stage | where |
//! | --- | --- |
//! | the data: 24 letters, drawn from a seed and an index | [`glyphs`], [`font`], [`canvas`] |
//! | the networks: a VGG and a linear one | [`model`] |
//! | training, top-1 | [`train`] |
//! | ways to recover without training, compared | [`recovery`] |
//! | what is printed | [`table`] |
//!
//! The binary trains, analyses, prunes, fine-tunes and prints a table: `cargo run --release -p quickstart`.

pub mod canvas;
pub mod font;
pub mod glyphs;
pub mod model;
pub mod recovery;
pub mod table;
pub mod train;
