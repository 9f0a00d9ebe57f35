//! VGG-11 on CIFAR-100: analysed, pruned by its filters' clusters, fine-tuned and reported.
//!
//! | what | where |
//! | --- | --- |
//! | the network, a Burn module | [`model`] |
//! | the images: CIFAR-100's binary files, calibration, augmented epochs, top-1 | [`cifar`] |
//! | trained weights from PyTorch | [`weights`] |
//! | the command line | [`options`] |
//! | the run from the weights to the report | [`run`] |
//! | what the run writes and prints | [`report`] |
//! | the run as a page to look at | [`page`] |
//! | the paper's experiment: all policies at the same shares, row by row | [`experiment`] |
//! | everything that can go wrong | [`error`] |

pub mod cifar;
pub mod error;
pub mod experiment;
pub mod model;
pub mod options;
pub mod page;
pub mod report;
pub mod run;
pub mod weights;
