//! [`StopRule`], the trait of all budgets.

use std::fmt;
use std::sync::Arc;

use super::state::RemovalState;
use crate::PruneError;

/// Which candidates are compared with each other when channels are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RemovalOrder {
    /// Each group of tied layers by itself. The rule is asked for every group anew.
    PerGroup,
    /// All channels of the network together, the lowest score anywhere first.
    Global,
    /// Groups of the same role in repeated blocks together, each such class by itself: groups that are made by, and read by, layers of the
    /// same kinds and kernels (isomorphic groups: Fang et al., "Isomorphic Pruning for Vision Models", ECCV 2024, arXiv 2407.04616). The
    /// rule is asked for every class anew.
    PerClass,
    /// All groups of tied layers lose the same share, each its own lowest scores.
    EvenPerGroup,
    /// All classes ([`PerClass`](RemovalOrder::PerClass)) lose the same share, each its own lowest scores.
    EvenPerClass,
}

impl RemovalOrder {
    /// Whether groups or classes lose the same share, whatever their scores are beside those of others.
    pub(crate) fn is_even(self) -> bool {
        matches!(self, Self::EvenPerGroup | Self::EvenPerClass)
    }
}

/// Decides when enough channels are removed.
///
/// Channels are offered one by one, the lowest score first. Before each removal the rule sees how far the removal has come and
/// what the smaller network would cost. What is removed together, what has to stay and in which order channels are offered is no
/// concern of the rule. [`Budget`](crate::Budget) holds the rules by shares of channels.
///
/// This rule removes channels until at most so many parameters are left:
///
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::prelude::*;
/// use burn_sfp_graph::GraphModule;
/// use burn_sfp_prune::{Magnitude, Planner, PruneError, RemovalState, StopRule};
///
/// struct AtMostParameters(u64);
///
/// impl StopRule for AtMostParameters {
///     fn name(&self) -> String { format!("at most {} parameters", self.0) }
///     fn stop(&self, state: &RemovalState<'_>) -> Result<bool, PruneError> { Ok(state.parameters() <= self.0) }
///     fn exhausted(&self, state: &RemovalState<'_>) -> Result<(), PruneError> {
///         Err(PruneError::policy(self.name(), format!("{} are left", state.parameters())))
///     }
/// }
/// # #[derive(Module, Debug)]
/// # struct Mlp { a: Linear, b: Linear }
/// # impl GraphModule for Mlp {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<2>) -> Tensor<2> {
/// #         self.b.forward(burn::tensor::activation::relu(self.a.forward(x)))
/// #     }
/// # }
/// # let device = Device::flex();
/// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 3).init(&device) };
/// # let x = Tensor::zeros([1, 4], &device);
/// // `a` maps 4 features to 8 and `b` those to 3: 67 parameters. Each channel between them has 4 + 1 + 3 of them.
/// let smaller = Planner::new().budget(AtMostParameters(50)).prune(&mlp, &x, &Magnitude::l2())?;
/// assert_eq!((smaller.model.a.weight.dims(), smaller.plan.parameters_after), ([4, 5], 43));
///
/// let error = Planner::new().budget(AtMostParameters(5)).prune(&mlp, &x, &Magnitude::l2()).unwrap_err();
/// assert_eq!(error.to_string(), "at most 5 parameters: 11 are left");
/// # Ok::<(), PruneError>(())
/// ```
pub trait StopRule: Send + Sync {
    /// Returns the name of the rule for messages.
    fn name(&self) -> String;

    /// Returns which candidates are compared with each other; by default all of the network.
    fn order(&self) -> RemovalOrder {
        RemovalOrder::Global
    }

    /// Returns how many of so many channels the rule asks for, if that follows from their number. Plans report it beside what was
    /// removed ([`GroupPlan::asked`](crate::GroupPlan::asked)); nothing is decided by it. By default the rule does not say.
    fn asked(&self, channels: usize) -> Option<usize> {
        let _ = channels;
        None
    }

    /// Checks the settings of the rule, before anything else is done.
    ///
    /// # Errors
    /// [`PruneError::Config`] if a setting is out of range.
    fn check(&self) -> Result<(), PruneError> {
        Ok(())
    }

    /// Returns whether enough is removed. Asked before each removal, and once more after the last.
    ///
    /// # Errors
    /// Any error of the rule's own, as [`PruneError::Policy`].
    fn stop(&self, state: &RemovalState<'_>) -> Result<bool, PruneError>;

    /// Returns whether the last removal went too far: it is taken back then, and candidates that cost less are offered in its place. Asked
    /// after each removal. By default none does.
    ///
    /// # Errors
    /// As [`stop`](StopRule::stop).
    fn too_far(&self, state: &RemovalState<'_>) -> Result<bool, PruneError> {
        let _ = state;
        Ok(false)
    }

    /// Returns the cost that the rule limits, without the channels removed so far, or a number that falls with it. If every removal that is
    /// left goes too far, the one that leaves the most is made. By default the rule does not say.
    fn cost(&self, state: &RemovalState<'_>) -> Option<f64> {
        let _ = state;
        None
    }

    /// Returns whether candidates are offered in the order of their score for each unit of [`cost`](StopRule::cost) that they save, in place
    /// of their score alone. By default they are not.
    fn by_cost(&self) -> bool {
        false
    }

    /// Called if no candidate is left and the rule has not said stop. By default this is no error.
    ///
    /// # Errors
    /// An error that says that the target cannot be met, as [`PruneError::Policy`].
    fn exhausted(&self, state: &RemovalState<'_>) -> Result<(), PruneError> {
        let _ = state;
        Ok(())
    }
}

impl<R: StopRule + ?Sized> StopRule for Arc<R> {
    fn name(&self) -> String {
        (**self).name()
    }
    fn order(&self) -> RemovalOrder {
        (**self).order()
    }
    fn asked(&self, channels: usize) -> Option<usize> {
        (**self).asked(channels)
    }
    fn check(&self) -> Result<(), PruneError> {
        (**self).check()
    }
    fn stop(&self, state: &RemovalState<'_>) -> Result<bool, PruneError> {
        (**self).stop(state)
    }
    fn too_far(&self, state: &RemovalState<'_>) -> Result<bool, PruneError> {
        (**self).too_far(state)
    }
    fn cost(&self, state: &RemovalState<'_>) -> Option<f64> {
        (**self).cost(state)
    }
    fn by_cost(&self) -> bool {
        (**self).by_cost()
    }
    fn exhausted(&self, state: &RemovalState<'_>) -> Result<(), PruneError> {
        (**self).exhausted(state)
    }
}

impl fmt::Debug for dyn StopRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}
