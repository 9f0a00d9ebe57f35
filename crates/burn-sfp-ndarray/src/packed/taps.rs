//! Reads of the inner loop of a product, without bounds checks: the furthest of them is checked before the loop.
//!
//! A check for each input and tap takes two of about forty instructions, and its branch is one of two in the loop.

use pulp::Simd;

/// Where the vectors of each input and tap begin in a source.
pub(super) struct Taps {
    places: Vec<u32>,
    /// Invariant: no place is greater.
    furthest: usize,
}

impl Taps {
    pub(super) fn new(places: Vec<u32>) -> Self {
        let furthest = places.iter().max().map_or(0, |&place| place as usize);
        Self { places, furthest }
    }

    /// Returns the `V` vectors of each input and tap.
    ///
    /// # Panics
    /// If the furthest of them go beyond the source.
    #[inline(always)]
    pub(super) fn vectors<'a, S: Simd, const V: usize>(
        &'a self,
        source: &'a [f32],
    ) -> impl Iterator<Item = &'a [S::f32s; V]> {
        let reach = V * S::F32_LANES;
        let source = &source[..self.furthest + reach];
        self.places.iter().filter_map(move |&place| {
            let place = place as usize;
            debug_assert!(place + reach <= source.len());
            // SAFETY: `source` ends `reach` elements behind the furthest place, and no place is further. Both fields are private to this
            // module, and none is assigned after construction.
            let elements = unsafe { source.get_unchecked(place..place + reach) };
            S::as_simd_f32s(elements).0.first_chunk::<V>()
        })
    }
}

#[cfg(test)]
mod tests {
    use pulp::Scalar;

    use super::*;

    #[test]
    fn the_furthest_place_is_checked() {
        let source: Vec<f32> = (0..10).map(|value| value as f32).collect();
        let taps = Taps::new(vec![3, 0, 7]);
        let found: Vec<_> = taps.vectors::<Scalar, 3>(&source).copied().collect();
        assert_eq!(found, [[3.0, 4.0, 5.0], [0.0, 1.0, 2.0], [7.0, 8.0, 9.0]]);
        assert_eq!(Taps::new(Vec::new()).vectors::<Scalar, 3>(&source).count(), 0);
        assert!(std::panic::catch_unwind(|| taps.vectors::<Scalar, 3>(&source[1..]).count()).is_err());
        assert!(std::panic::catch_unwind(|| Taps::new(vec![u32::MAX]).vectors::<Scalar, 1>(&source).count()).is_err());
    }
}
