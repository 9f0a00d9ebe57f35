//! What happens around the steps of the training loop.

use burn::module::Module;
use burn::optim::ModuleOptimizer;

use super::rate::Position;
use super::step::Stepper;
use crate::PruneError;

/// Where training stands, after a step.
pub(super) struct At<'a, M> {
    pub model: &'a M,
    pub optimizer: &'a ModuleOptimizer,
    pub position: Position,
    /// The learning rate of the last step.
    pub learning_rate: f64,
}

/// Called by the training loop. By default nothing is done.
pub(super) trait Hooks<M: Module> {
    /// Before the first step: may put in another state to go on from.
    fn begin(&mut self, model: M, _stepper: &mut Stepper, _position: &mut Position) -> Result<M, PruneError> {
        Ok(model)
    }
    /// Whether the state that `begin` put in is that of a training that is over.
    fn is_done(&self) -> bool {
        false
    }
    /// Before each step.
    fn before_step(&mut self, _position: Position) {}
    /// After each step, with its mean loss, the samples whose largest logit is at the label, and all samples.
    fn after_step(&mut self, _at: &At<'_, M>, _loss: f64, _hits: usize, _samples: usize) -> Result<(), PruneError> {
        Ok(())
    }
    /// After each epoch, with the number of epochs in the position. Training stops where it returns true.
    fn after_epoch(&mut self, _at: &At<'_, M>) -> Result<bool, PruneError> {
        Ok(false)
    }
    /// Where training was cancelled.
    fn cancelled(&mut self, _at: &At<'_, M>) -> Result<(), PruneError> {
        Ok(())
    }
    /// After the last step: may return another model.
    fn end(&mut self, model: M) -> Result<M, PruneError> {
        Ok(model)
    }
}

/// Nothing around the steps.
pub(super) struct NoHooks;

impl<M: Module> Hooks<M> for NoHooks {}
