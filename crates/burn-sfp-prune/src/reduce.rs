//! [`Reduction`]: one score from those of filters that leave together.

/// How filters that are tied together (by a residual sum, say) are compared as one: what is made of their normalised scores.
///
/// ```
/// use burn_sfp_prune::Reduction;
/// assert_eq!(Reduction::Mean.of(&[1.0, 4.0]), 2.5);
/// assert_eq!(Reduction::Max.of(&[1.0, 4.0]), 4.0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reduction {
    /// The mean: a set counts as much as its average filter.
    #[default]
    Mean,
    /// The sum: sets of many filters stay longer, because many filters leave with them.
    Sum,
    /// The largest score: a set stays as long as one of its filters is worth it.
    Max,
    /// The score in the layer that runs first, whatever is tied to it.
    First,
}

impl Reduction {
    /// Returns the score of filters that leave together, in the order in which their layers run; 0 for none. It is finite if the
    /// scores are: a sum that would overflow is the largest number.
    ///
    /// ```
    /// use burn_sfp_prune::Reduction;
    /// assert_eq!(Reduction::Sum.of(&[1.0, 4.0]), 5.0);
    /// assert_eq!(Reduction::First.of(&[1.0, 4.0]), 1.0);
    /// ```
    pub fn of(self, scores: &[f64]) -> f64 {
        let count = scores.len().max(1) as f64;
        let sum = || scores.iter().sum::<f64>();
        match self {
            Self::Mean => match sum() {
                sum if sum.is_finite() => sum / count,
                _ => scores.iter().map(|score| score / count).sum(),
            },
            Self::Sum => sum().clamp(f64::MIN, f64::MAX),
            Self::Max => scores.iter().copied().reduce(f64::max).unwrap_or_default(),
            Self::First => scores.first().copied().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reductions() {
        let scores = [-1.5, 4.0, 2.0];
        assert_eq!(
            [Reduction::Mean, Reduction::Sum, Reduction::Max, Reduction::First].map(|r| r.of(&scores)),
            [1.5, 4.5, 4.0, -1.5]
        );
        assert_eq!(Reduction::default(), Reduction::Mean);
        assert_eq!(Reduction::Max.of(&[-2.0, -3.0]), -2.0);
        assert_eq!(Reduction::Mean.of(&[f64::MAX, f64::MAX]), f64::MAX);
        assert_eq!(Reduction::Sum.of(&[f64::MIN, f64::MIN]), f64::MIN);
        for reduction in [Reduction::Mean, Reduction::Sum, Reduction::Max, Reduction::First] {
            assert_eq!(reduction.of(&[]), 0.0);
        }
    }
}
