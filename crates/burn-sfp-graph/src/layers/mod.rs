//! Layers with weights, attention heads, and the layers of Burn that need care.

pub(crate) mod behind;
pub(crate) mod burn;
pub(crate) mod computed;
pub(crate) mod find;
pub(crate) mod heads;
pub(crate) mod index;
pub(crate) mod kind;
pub(crate) mod layer;
pub(crate) mod mean_factor;
pub(crate) mod mean_square;
pub(crate) mod rescale;
pub(crate) mod stream;
pub(crate) mod written_out;
