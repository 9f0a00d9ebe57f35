//! Copies that leave the original as it is.

use burn::module::Module;
use burn::tensor::Tensor;
use burn_sfp_graph::{GraphError, attempt};
use burn_sfp_nn::walk::{ParamPath, ParamVisitor, visit_params};

use crate::PruneError;

/// Calls `work` with a copy of the model in evaluation mode, which shares no running statistics with it, and returns the result in
/// the mode of the model: in training (with autodiff) if the model was.
pub(crate) fn on_copy<M: Module>(model: &M, work: impl FnOnce(M) -> Result<M, PruneError>) -> Result<M, PruneError> {
    let result = guarded(|| work(model.valid()))?;
    Ok(if in_training(model) { result.train() } else { result })
}

/// Whether any float parameter is on a device with autodiff.
fn in_training<M: Module>(model: &M) -> bool {
    struct Seek(bool);
    impl ParamVisitor for Seek {
        fn float<const D: usize>(&mut self, _: ParamPath<'_>, param: &burn::module::Param<Tensor<D>>) {
            self.0 |= param.lazy_device().is_autodiff();
        }
    }
    let mut seek = Seek(false);
    visit_params(model, &mut seek);
    seek.0
}

/// Does a part of the rewriting; what Burn panics with becomes a typed error.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T, PruneError>) -> Result<T, PruneError> {
    attempt(work).unwrap_or_else(|message| {
        Err(GraphError::Replay { operation: None, name: "rewriting the parameters".into(), message }.into())
    })
}
