//! [`Budget`]: shares of the channels.

use burn_sfp_nn::ConfigError;

use super::rule::{RemovalOrder, StopRule};
use super::state::RemovalState;
use crate::PruneError;

/// Removes a share of the scored channels.
///
/// ```
/// use burn_sfp_prune::{Budget, Planner, PruneError, StopRule};
/// let planner = Planner::new().budget(Budget::Global(0.3));
///
/// match Budget::PerLayer(1.5).check() {
///     Err(PruneError::Config(setting)) => assert_eq!(setting.to_string(), "ratio is 1.5, but must be at least 0 and below 1"),
///     other => panic!("{other:?}"),
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Budget {
    /// Removes this share of the channels of each group of tied layers, rounded down; at least 0 and below 1.
    PerLayer(f64),
    /// Removes this share of the scored channels of each class of groups, rounded down: groups of the same role in repeated blocks are
    /// compared with each other ([`RemovalOrder::PerClass`]); at least 0 and below 1. Each layer keeps at least one filter.
    PerClass(f64),
    /// Removes this share of all scored channels, rounded down, those with the lowest scores first ([`Planner::normalizer`](crate::Planner::normalizer) says how layers are compared);
    /// at least 0 and below 1. Each layer keeps at least one filter.
    Global(f64),
}

impl Default for Budget {
    fn default() -> Self {
        Self::PerLayer(0.5)
    }
}

impl Budget {
    fn ratio(self) -> f64 {
        match self {
            Self::PerLayer(ratio) | Self::PerClass(ratio) | Self::Global(ratio) => ratio,
        }
    }

    /// How many channels are to go.
    fn wanted(self, state: &RemovalState<'_>) -> usize {
        match self {
            Self::PerLayer(ratio) => share_of(ratio, state.channels()),
            Self::PerClass(ratio) | Self::Global(ratio) => share_of(ratio, state.candidates()),
        }
    }
}

impl StopRule for Budget {
    fn name(&self) -> String {
        format!("a ratio of {}", self.ratio())
    }

    fn order(&self) -> RemovalOrder {
        match self {
            Self::PerLayer(_) => RemovalOrder::PerGroup,
            Self::PerClass(_) => RemovalOrder::PerClass,
            Self::Global(_) => RemovalOrder::Global,
        }
    }

    fn check(&self) -> Result<(), PruneError> {
        let ratio = self.ratio();
        if !(0.0..1.0).contains(&ratio) {
            return Err(PruneError::Config(ConfigError {
                name: "ratio",
                found: ratio.to_string(),
                expected: "at least 0 and below 1",
            }));
        }
        Ok(())
    }

    fn asked(&self, channels: usize) -> Option<usize> {
        Some(share_of(self.ratio(), channels))
    }

    fn stop(&self, state: &RemovalState<'_>) -> Result<bool, PruneError> {
        Ok(state.removed() >= self.wanted(state))
    }

    /// A step of several channels is made if that comes nearer to the share.
    fn too_far(&self, state: &RemovalState<'_>) -> Result<bool, PruneError> {
        let wanted = self.wanted(state);
        let over = state.removed().saturating_sub(wanted);
        Ok(over > wanted.saturating_sub(state.removed() - state.last()))
    }
}

/// Returns `floor(ratio * count)` for the decimal number that `ratio` stands for: 29 for 0.29 of 100, although the product of the
/// nearest doubles is below 29.
pub(crate) fn share_of(ratio: f64, count: usize) -> usize {
    // The ratio and the product are each rounded by at most half an epsilon.
    (ratio * count as f64 * (1.0 + 4.0 * f64::EPSILON)).floor() as usize
}

#[cfg(test)]
mod tests {
    use super::share_of;

    #[test]
    fn shares_are_those_of_decimal_ratios() {
        assert_eq!(share_of(0.29, 100), 29);
        for hundredths in 0..100 {
            let ratio: f64 = format!("0.{hundredths:02}").parse().unwrap();
            for count in 0..=1000 {
                assert_eq!(share_of(ratio, count), hundredths * count / 100, "{ratio} of {count}");
            }
        }
    }
}
