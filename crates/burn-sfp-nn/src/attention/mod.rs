//! Multi-head attention whose heads can be removed.

mod cache;
mod head_attention;
mod input;

pub use burn::nn::attention::MhaOutput;
pub use cache::MhaCache;
pub use head_attention::{HeadAttention, HeadAttentionConfig};
pub use input::MhaInput;
