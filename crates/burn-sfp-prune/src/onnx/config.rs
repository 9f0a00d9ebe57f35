//! [`OnnxConfig`].

/// Settings of an export to ONNX.
///
/// ```
/// use burn_sfp_prune::OnnxConfig;
///
/// assert!(!OnnxConfig::new().has_fixed_batch());
/// assert!(OnnxConfig::new().fixed_batch().has_fixed_batch());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OnnxConfig {
    fixed_batch: bool,
}

impl OnnxConfig {
    /// Returns the defaults: the file takes batches of any size.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes the batch size of the example input into the file, which then takes no other. Needed by networks whose operations depend on
    /// the batch size; [`OnnxError::DynamicBatch`](crate::OnnxError::DynamicBatch) names them.
    pub fn fixed_batch(mut self) -> Self {
        self.fixed_batch = true;
        self
    }

    /// Whether the file takes only batches of the example input's size.
    pub fn has_fixed_batch(&self) -> bool {
        self.fixed_batch
    }
}
