//! A call of a sparse convolution.

use std::sync::Arc;

use burn_sfp_ndarray::{ConvGeometry, KernelPattern};

/// What a sparse convolution needs to know beside its tensors.
#[derive(Clone, Debug)]
pub(crate) struct SparseConv {
    pub pattern: Arc<KernelPattern>,
    pub geometry: ConvGeometry,
    pub kernel: [usize; 2],
}

/// What happens to each filter's sum before it is stored; only without gradients.
#[derive(Clone, Debug, Default)]
pub(crate) struct Finish {
    pub scale: Option<Vec<f32>>,
    pub shift: Option<Vec<f32>>,
    pub relu: bool,
}
