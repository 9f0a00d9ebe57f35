//! Layers that take the place of Burn's where those cannot shrink.

mod attention;

pub use attention::{AttentionInput, HeadAttention, HeadAttentionConfig};
