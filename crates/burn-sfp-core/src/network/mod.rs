//! The captured network as plain data: operations, parameters by module path, layers, and which channels
//! are one and the same.
//!
//! [`Network::capture`] records one forward pass without running it. From then on nothing needs the user's
//! module: the [`Replay`] runs the operations on any device, [`Flow`] says which indices of which tensors
//! carry the same channel, [`Layer`] describes each convolution and linear layer, and [`Heads`] each attention.

mod capture;
mod compare;
mod constants;
mod context;
mod cost;
mod fields;
mod flow;
mod heads;
mod index;
mod labels;
mod layer;
mod neighbours;
mod norms;
mod op;
mod replay;
mod sources;

pub use capture::{Network, Parameter};
pub use compare::ScalarChange;
pub use cost::Cost;
pub use flow::{Flow, ParamAxis};
pub use heads::Heads;
pub use labels::ChannelId;
pub use layer::{Layer, LayerKind, Tap};
pub use norms::BatchNormalization;
pub use replay::Replay;
pub use sources::Sources;
