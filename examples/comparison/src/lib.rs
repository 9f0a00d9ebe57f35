//! Measured comparisons, each a subcommand that prints a table and writes its rows into a JSON file.
//!
//! | what | where |
//! | --- | --- |
//! | top-1 of every policy at the same multiply-adds | [`policies`] |
//! | latency as a budget against multiply-adds | [`latency`] |
//! | what planning costs | [`planning`] |
//! | whole residual blocks against channels | [`depth`] |
//! | a ResNet-18 on the quickstart's images | [`resnet18`] |
//! | networks in their published sizes | [`networks`] |
//! | Markdown tables | [`table`] |
//!
//! `cargo run --release -p comparison -- policies results.json`

pub mod depth;
pub mod latency;
pub mod networks;
pub mod planning;
pub mod policies;
pub mod resnet18;
pub mod table;
