//! Sparse convolutions of a captured forward pass, by the tensors that they read and return.
//!
//! A capture records what a device without sparse kernels runs. Whoever runs the recorded operations later takes the calls from here, and
//! runs each of them as the layer itself would.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use burn::tensor::Tensor;
use burn_sfp_ndarray::{ConvGeometry, KernelPattern};

use super::call::SparseConv;
use super::op;

thread_local! {
    static RECORDED: RefCell<Option<Vec<RecordedCall>>> = const { RefCell::new(None) };
}

/// A sparse convolution that ran by Burn's own operations.
#[derive(Clone, Debug)]
pub struct RecordedCall {
    /// Its input, `[samples, channels, height, width]`.
    pub x: Tensor<4>,
    /// The kernels that stay, `[kernels, height, width]`.
    pub values: Tensor<3>,
    /// Its output, without a bias.
    pub out: Tensor<4>,
    /// What it does.
    pub call: SparseCall,
}

/// A sparse convolution without its tensors. It runs on the sparse kernels of the device where there are some, with gradients.
#[derive(Clone)]
pub struct SparseCall(SparseConv);

impl fmt::Debug for SparseCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SparseCall").field("kernels", &self.0.pattern.kept()).finish_non_exhaustive()
    }
}

impl SparseCall {
    /// Which kernels stay.
    pub fn pattern(&self) -> &Arc<KernelPattern> {
        &self.0.pattern
    }

    /// Stride, padding, dilation and groups.
    pub fn geometry(&self) -> &ConvGeometry {
        &self.0.geometry
    }

    /// Convolves `x`, `[samples, channels, height, width]`, with the kernels `values`, `[kernels, height, width]`.
    ///
    /// # Panics
    /// Where the input does not fit the layer, as Burn's convolution does.
    pub fn run(&self, x: Tensor<4>, values: Tensor<3>) -> Tensor<4> {
        op::convolve(x, values, &self.0)
    }
}

/// Runs `work` and returns its result, and the sparse convolutions in it that ran by Burn's own operations, as in a capture.
///
/// ```
/// use burn_sfp_nn::sparse::recorded_calls;
///
/// let (result, calls) = recorded_calls(|| "no sparse layer");
/// assert_eq!((result, calls.len()), ("no sparse layer", 0));
/// ```
pub fn recorded_calls<R>(work: impl FnOnce() -> R) -> (R, Vec<RecordedCall>) {
    /// Puts the calls of an outer recording back, also after a panic.
    struct Outer(Option<Vec<RecordedCall>>);
    impl Drop for Outer {
        fn drop(&mut self) {
            RECORDED.set(self.0.take());
        }
    }
    let _outer = Outer(RECORDED.replace(Some(Vec::new())));
    let result = work();
    (result, RECORDED.take().unwrap_or_default())
}

/// Takes a call down, inside of [`recorded_calls`].
pub(super) fn record(x: Tensor<4>, values: Tensor<3>, out: &Tensor<4>, call: &SparseConv) {
    RECORDED.with_borrow_mut(|recorded| {
        if let Some(calls) = recorded {
            calls.push(RecordedCall { x, values, out: out.clone(), call: SparseCall(call.clone()) });
        }
    });
}

/// Whether calls are taken down.
pub(super) fn is_recording() -> bool {
    RECORDED.with_borrow(Option::is_some)
}
