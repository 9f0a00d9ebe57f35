//! Layers that a deployed model needs, and nothing else: they replace layers of Burn that cannot lose heads or connections.
//!
//! | job | where |
//! | --- | --- |
//! | attention whose heads can be removed | [`HeadAttention`] |
//! | batch normalisation that can be folded into the layer before it | [`FoldBatchNorm`] |
//! | layer normalisation whose channels can be removed | [`CenteredLayerNorm`] |
//! | convolution and linear layers that leave out removed connections | [`SparseConv2d`], [`SparseLinear`], [`sparse`] |
//! | operations of a training step by kernels of the CPU | [`training`] |
//! | plain fields that follow when a layer loses channels | [`Shrink`] |
//! | which layers of a module are of these types | [`recognize`](recognize()) |
//! | parameters together with their paths | [`walk`] |
//! | access to a tensor's memory, for kernels | [`tensor`] |
//! | which body of a kernel ran | [`bodies`] |
//!
//! Each layer has the parameter names of the layer of Burn that it replaces, a configuration with the same fields, and is made from it
//! with `into`, so that records fit both.
//!
//! # Example
//! ```
//! use burn::nn::{Linear, LinearConfig};
//! use burn::tensor::{Device, Tensor};
//! use burn_sfp_nn::SparseLinear;
//!
//! let device = Device::flex();
//! let dense: Linear = LinearConfig::new(4, 3).init(&device);
//! let layer: SparseLinear = dense.into();
//! assert_eq!(layer.forward(Tensor::<2>::zeros([2, 4], &device)).dims(), [2, 3]);
//! ```
//!
//! # Features
//! | feature | effect |
//! | --- | --- |
//! | `flex` (default) | sparse kernels on Burn's current CPU backend |
//! | `ndarray` (default) | sparse kernels on Burn's older CPU backend |
//! | `autodiff` (default) | gradients by sparse kernels; a model that only runs does without |
//! | `wgpu`, `vulkan`, `cuda` | sparse kernels on GPUs |
//! | `wasm_js` | random values from the browser, which Burn needs on `wasm32-unknown-unknown` |
//!
//! # wasm32
//! For the browser: `--no-default-features --features flex,wasm_js --target wasm32-unknown-unknown`. This combination has been
//! checked by its dependencies' manifests and sources, not by a build. Nothing of this project depends on the target: the CPU's sparse
//! kernels choose vector instructions through `pulp`, which knows `simd128`, and run on the calling thread, because rayon falls back
//! to it where threads cannot be started. Of Burn's dependencies one needs something: `getrandom` 0.4 does not compile for this target
//! without its feature `wasm_js`, which `wasm_js` turns on. The features `ndarray` and `wgpu` have not been checked.

mod attention;
#[cfg(feature = "autodiff")]
mod autodiff;
pub mod bodies;
mod centered_layer_norm;
mod error;
mod fold_batch_norm;
mod recognize;
mod shrink;
pub mod sparse;
mod sparse_conv2d;
mod sparse_linear;
pub mod tensor;
pub mod training;
mod values;
pub mod walk;

pub use attention::{HeadAttention, HeadAttentionConfig, MhaCache, MhaInput, MhaOutput};
pub use burn_sfp_derive::Shrink;
pub use centered_layer_norm::{CenteredLayerNorm, CenteredLayerNormConfig};
#[doc(hidden)]
pub use error::listed;
pub use error::{ConfigError, NnError};
pub use fold_batch_norm::{FoldBatchNorm, FoldBatchNormConfig};
pub use recognize::{Marker, NnLayer, recognize};
#[doc(hidden)]
pub use shrink::derive;
pub use shrink::{AxisChange, FieldEdit, Removable, Scope, Shrink};
pub use sparse_conv2d::{SparseConv2d, SparseConv2dConfig};
pub use sparse_linear::{SparseLinear, SparseLinearConfig};
pub use values::set_values;
