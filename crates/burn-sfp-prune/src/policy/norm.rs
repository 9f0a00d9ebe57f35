//! [`Norm`]: norms of weights.

/// A norm of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Norm {
    /// Sum of absolute values.
    L1,
    /// Square root of the sum of squares.
    L2,
}

impl Norm {
    /// Returns the norm of these values, computed in double precision.
    pub fn of<'a>(self, values: impl IntoIterator<Item = &'a f32>) -> f64 {
        self.of_sum(values.into_iter().map(|value| self.term(*value)).sum())
    }

    /// Returns what a value adds to the sum.
    pub(super) fn term(self, value: f32) -> f64 {
        let value = f64::from(value);
        match self {
            Self::L1 => value.abs(),
            Self::L2 => value * value,
        }
    }

    /// Returns the norm whose terms have this sum.
    pub(super) fn of_sum(self, sum: f64) -> f64 {
        match self {
            Self::L1 => sum,
            Self::L2 => sum.sqrt(),
        }
    }
}
