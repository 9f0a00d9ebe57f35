//! Well-known networks, written for Burn from the papers: to prune, to compare, to test with.
//!
//! | what | where |
//! | --- | --- |
//! | the list of all networks with their published sizes, and a way to visit each | [`zoo`], [`figure`] |
//! | parameters and multiply-adds | [`size`] |
//! | random weights and running statistics, for tests | [`random`] |
//! | convolutional classifiers | [`vgg`], [`resnet`], [`preact_resnet`], [`densenet`], [`googlenet`] |
//! | with depthwise convolutions | [`mobilenet`], [`efficientnet`], [`shufflenet`], [`convnext`] |
//! | on tokens | [`vit`], [`cct`], [`mixer`], [`gpt`] |
//! | on sound, segmentation, several inputs and outputs | [`audio`], [`unet`], [`two_streams`] |
//! | what many of them are made of | [`blocks`] |
//!
//! `cargo run --release -p models -- --list` prints the list.

pub mod audio;
pub mod blocks;
pub mod cct;
pub mod convnext;
pub mod densenet;
pub mod efficientnet;
pub mod figure;
pub mod googlenet;
pub mod gpt;
pub mod mixer;
pub mod mobilenet;
pub mod preact_resnet;
pub mod random;
pub mod report;
pub mod resnet;
pub mod shufflenet;
pub mod size;
#[cfg(test)]
mod testing;
pub mod transformer;
pub mod two_streams;
pub mod unet;
pub mod values;
pub mod vgg;
pub mod vit;
pub mod zoo;
