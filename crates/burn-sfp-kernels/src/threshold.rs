//! The comparison of a performance matrix with its threshold, in single precision.
//!
//! The Boolean matrix of a filter is `B_f[i][j] = P_f[i][j] / max P_f > threshold` (`docs/method.md`, section 3).
//! The kernels hold `P_f` in single precision and evaluate the rule in double precision; [`Cuts`] turns the rule
//! into single precision comparisons that give the same result for every element.

/// The largest distance `|P_f[i][j] / max P_f - threshold|` at which an element counts as near the threshold.
///
/// The rounding of another device may move such an element to the other side of the threshold.
pub const NEAR: f64 = 1e-5;

/// The single precision bounds with which the elements of one performance matrix are compared.
///
/// # Example
/// ```
/// use burn_sfp_kernels::Cuts;
///
/// // Largest element 2, threshold 0.25: elements above 0.5 are set.
/// let cuts = Cuts::new(0.25, 2.0).unwrap();
/// assert_eq!(cuts.above, 0.5);
/// assert!(cuts.near.0 < 0.5 && 0.5 < cuts.near.1);
/// assert!(Cuts::new(0.25, -1.0).is_none()); // a silent filter
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cuts {
    /// The element of the Boolean matrix is 1 for elements greater than this bound.
    pub above: f32,
    /// An element is near the threshold, within [`NEAR`], when it is at least the first bound and less than the
    /// second.
    pub near: (f32, f32),
}

impl Cuts {
    /// Returns the bounds for a filter whose performance matrix has the largest element `max`; `None` when the filter
    /// [recognizes nothing](recognizes_nothing).
    pub fn new(threshold: f64, max: f64) -> Option<Self> {
        let cuts = || Self { above: round_down(threshold * max), near: near(threshold, max) };
        (!recognizes_nothing(max)).then(cuts)
    }
}

/// Returns whether a filter recognizes nothing because the largest element of its performance matrix, `max`, is not
/// positive, infinite or NaN.
///
/// # Example
/// ```
/// use burn_sfp_kernels::recognizes_nothing;
///
/// assert!(recognizes_nothing(-1.0) && recognizes_nothing(f64::NAN));
/// assert!(!recognizes_nothing(0.5));
/// ```
pub fn recognizes_nothing(max: f64) -> bool {
    !(max > 0.0 && max.is_finite())
}

/// Returns the bounds of the single precision values p with `|p / max - threshold| <= NEAR` in double precision, for
/// a positive finite `max`: from the first bound on and below the second.
fn near(threshold: f64, max: f64) -> (f32, f32) {
    // Division by `max` and subtraction are monotonic also when rounded, so these values form an interval.
    (first(|p| f64::from(p) / max - threshold >= -NEAR), first(|p| f64::from(p) / max - threshold > NEAR))
}

/// Returns the smallest value for which `holds`, given that it holds for all larger values and for infinity.
fn first(holds: impl Fn(f32) -> bool) -> f32 {
    /// Returns the value at a rank of the ascending order of all values from minus to plus infinity.
    fn value(rank: u32) -> f32 {
        f32::from_bits(if rank >> 31 == 1 { rank ^ 1 << 31 } else { !rank })
    }
    let (mut low, mut high) = (!f32::NEG_INFINITY.to_bits(), f32::INFINITY.to_bits() | 1 << 31);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(value(middle)) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    value(low)
}

/// Returns the largest single precision value that is not greater than `value`.
///
/// For a single precision p, `p > value` in double precision exactly when `p > round_down(value)` in single precision.
fn round_down(value: f64) -> f32 {
    let nearest = value as f32;
    if f64::from(nearest) > value { nearest.next_down() } else { nearest }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rounding_down_keeps_every_comparison(value in prop::num::f64::ANY, p in prop::num::f32::ANY) {
            prop_assume!(!value.is_nan());
            prop_assert_eq!(f64::from(p) > value, p > round_down(value));
            let near = value as f32;
            for p in [near.next_down(), near, near.next_up()] {
                prop_assert_eq!(f64::from(p) > value, p > round_down(value));
            }
        }

        #[test]
        fn near_elements_form_the_interval(
            threshold in prop_oneof![-0.5_f64..1.2, Just(NEAR), Just(-NEAR), Just(0.0), Just(1e300)],
            max in prop_oneof![1e-30_f32..1e-29, 0.1_f32..9.0, 1e30_f32..1e31], offset in -2.0_f64..2.0,
        ) {
            let max = f64::from(max);
            let (low, high) = Cuts::new(threshold, max).unwrap().near;
            let p = ((threshold + offset * NEAR) * max) as f32;
            for p in [p, low, low.next_down(), high, high.next_down()] {
                prop_assert_eq!(low <= p && p < high, (f64::from(p) / max - threshold).abs() <= NEAR);
            }
        }
    }

    #[test]
    fn filters_that_recognize_nothing_have_no_bounds() {
        for max in [0.0, -0.0, -1.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
            assert!(recognizes_nothing(max));
            assert_eq!(Cuts::new(0.3, max), None);
        }
    }
}
