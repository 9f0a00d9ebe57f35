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
    /// Removes this share of all scored channels, rounded down, those with the lowest scores (over the mean of their layer) first;
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
            Self::PerLayer(ratio) | Self::Global(ratio) => ratio,
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
        Some(share(self.ratio(), channels))
    }

    fn stop(&self, state: &RemovalState<'_>) -> Result<bool, PruneError> {
        let wanted = match *self {
            Self::PerLayer(ratio) => share(ratio, state.channels()),
            Self::Global(ratio) => share(ratio, state.candidates()),
        };
        Ok(state.removed() >= wanted)
    }
}

/// Returns `floor(ratio * count)` for the decimal number that `ratio` stands for: 29 for 0.29 of 100, although the product of the
/// nearest doubles is below 29.
fn share(ratio: f64, count: usize) -> usize {
    // The ratio and the product are each rounded by at most half an epsilon.
    (ratio * count as f64 * (1.0 + 4.0 * f64::EPSILON)).floor() as usize
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn shares_are_those_of_decimal_ratios() {
        assert_eq!(share(0.29, 100), 29);
        for hundredths in 0..100 {
            let ratio: f64 = format!("0.{hundredths:02}").parse().unwrap();
            for count in 0..=1000 {
                assert_eq!(share(ratio, count), hundredths * count / 100, "{ratio} of {count}");
            }
        }
    }
}
