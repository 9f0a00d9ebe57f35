//! Weights from elsewhere: what the programs of this package share with their tests.
//!
//! | program | what it does |
//! | --- | --- |
//! | `from-pytorch` | loads a ResNet's weights from a `.pt` or `.safetensors` file of PyTorch, prunes it, writes an .onnx file |
//! | `from-onnx` | takes the network that burn-onnx generates from an .onnx file, prunes it, writes an .onnx file again |

mod generated;
mod torchvision;

pub use generated::Classifier;
pub use torchvision::{WeightsError, load};
