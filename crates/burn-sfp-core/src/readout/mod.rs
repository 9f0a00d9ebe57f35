//! The three ways to get the readout of a layer (docs/method.md, section 1): from the network's own classifier, by ridge
//! regression, by gradient descent.

mod classifier;
mod gradient;
mod ridge;

pub(crate) use classifier::{TapLayout, classifier_readout};
pub use gradient::GradientConfig;
pub(crate) use gradient::GradientReadout;
pub(crate) use ridge::ridge_readout;
