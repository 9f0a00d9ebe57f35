//! Which body of a kernel ran: that of the CPU, that of a GPU, or the portable one made of Burn's own operations.
//!
//! A kernel is chosen by what its tensors are. A device without kernels of this library, or a tensor of another element type, still
//! gives the right result, by Burn's operations and more slowly; the first time that happens in a process, a warning says so
//! (through `tracing`, or `log`). [`runs`] counts.
//!
//! ```
//! use std::sync::Arc;
//! use burn::tensor::{Device, Tensor};
//! use burn_sfp_nn::SparseLinearConfig;
//! use burn_sfp_nn::bodies::{Body, Task, runs};
//! use burn_sfp_nn::sparse::{KernelPattern, WeightFormat};
//!
//! let device = Device::flex();
//! let format = WeightFormat::Kernels(Arc::new(KernelPattern::from_fn(4, 8, |output, input| input / 2 == output)));
//! let layer = SparseLinearConfig::new(8, 4).init(&device).with_format(Some(format))?;
//! let before = runs(Task::SparseForward, Body::Host);
//! layer.forward(Tensor::<2>::ones([3, 8], &device));
//! assert_eq!(runs(Task::SparseForward, Body::Host), before + 1);
//! # Ok::<(), burn_sfp_nn::NnError>(())
//! ```

use std::cell::Cell;
use std::fmt;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use burn::tensor::Device;

/// What a kernel computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Task {
    /// The sums of a layer's activations by label.
    ClassSums,
    /// The performance matrices of a layer's filters.
    FilterPerformances,
    /// A sparse layer's forward pass.
    SparseForward,
    /// The gradient by a sparse layer's input.
    SparseGradInput,
    /// The gradient by a sparse layer's kernels.
    SparseGradValues,
    /// A dense convolution of a training step.
    DenseForward,
    /// The gradient by a dense convolution's input.
    DenseGradInput,
    /// The gradient by a dense convolution's weight.
    DenseGradWeight,
    /// A batch normalisation of a training step.
    NormForward,
    /// The gradients of a batch normalisation of a training step.
    NormGradients,
}

/// An implementation of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Body {
    /// On the CPU, in the memory of a tensor of flex or ndarray.
    Host,
    /// On a GPU, by CubeCL: wgpu, Vulkan, CUDA.
    Device,
    /// On the server of a remote device, which hosts it.
    Hosted,
    /// Burn's own operations.
    Portable,
}

const TASKS: usize = 10;
const BODIES: usize = 4;

static RUNS: [[AtomicU64; BODIES]; TASKS] = [const { [const { AtomicU64::new(0) }; BODIES] }; TASKS];
static WARNED: [Once; TASKS] = [const { Once::new() }; TASKS];

thread_local! {
    static FORCED: Cell<bool> = const { Cell::new(false) };
}

/// How often a body has run in this process. Where Burn fuses operations, a GPU's body counts once it has left the queue.
pub fn runs(task: Task, body: Body) -> u64 {
    RUNS[task as usize][body as usize].load(Ordering::Relaxed)
}

/// Calls `work`, in which this thread's tensors on GPUs are handled by the portable bodies: to measure against them, or to find out
/// whether a kernel is to blame for a result.
///
/// ```
/// use burn_sfp_nn::bodies::with_portable;
///
/// let answer = with_portable(|| 42);
/// assert_eq!(answer, 42);
/// ```
pub fn with_portable<R>(work: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            FORCED.set(self.0);
        }
    }
    let _restore = Restore(FORCED.replace(true));
    work()
}

/// Whether [`with_portable`] is running on this thread.
#[doc(hidden)]
pub fn portable_forced() -> bool {
    FORCED.get()
}

/// Counts a run.
#[doc(hidden)]
pub fn ran(task: Task, body: Body) {
    RUNS[task as usize][body as usize].fetch_add(1, Ordering::Relaxed);
}

/// Counts a run of the CPU's kernel, where there was one.
pub(crate) fn ran_on_host<R>(task: Task, found: Option<R>) -> Option<R> {
    if found.is_some() {
        ran(task, Body::Host);
    }
    found
}

/// Counts a run of the portable body on a device, and says why it ran, once a task.
#[doc(hidden)]
pub fn ran_portable(task: Task, device: &Device, why: impl fmt::Display) {
    // A capture records operations and runs none. Whether Burn has that device at all is up to other crates, so it is known by its name.
    if format!("{device:?}").contains("Capture(") {
        return;
    }
    ran(task, Body::Portable);
    if !portable_forced() {
        WARNED[task as usize].call_once(|| {
            tracing::warn!("{task:?} runs by Burn's own operations, not by a kernel of burn-sfp: {why}");
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_has_a_counter_of_its_own() {
        let tasks = [
            Task::ClassSums,
            Task::FilterPerformances,
            Task::SparseForward,
            Task::SparseGradInput,
            Task::SparseGradValues,
            Task::DenseForward,
            Task::DenseGradInput,
            Task::DenseGradWeight,
            Task::NormForward,
            Task::NormGradients,
        ];
        let bodies = [Body::Host, Body::Device, Body::Hosted, Body::Portable];
        assert_eq!((tasks.len(), bodies.len()), (TASKS, BODIES));
        for (row, task) in tasks.into_iter().enumerate() {
            for (column, body) in bodies.into_iter().enumerate() {
                assert_eq!((task as usize, body as usize), (row, column));
                let before = runs(task, body);
                ran(task, body);
                assert!(runs(task, body) > before);
            }
        }
    }

    #[test]
    fn a_panic_ends_the_force() {
        assert!(std::panic::catch_unwind(|| with_portable(|| panic!("on purpose"))).is_err());
        assert!(!portable_forced());
        assert!(with_portable(|| with_portable(portable_forced) && portable_forced()));
    }
}
