//! A choice of rows that follows from the number of the batch alone.

/// Returns at most `most` of the numbers below `rows`, ascending: one of each of `most` stretches of equal length. Places are drawn, so
/// that a regular layout (positions of a map) does not line up with the stretches.
pub(super) fn sample(batch: usize, rows: usize, most: usize) -> Vec<usize> {
    if rows <= most {
        return (0..rows).collect();
    }
    let bound = |k: usize| (k as u128 * rows as u128 / most as u128) as usize;
    let draw = |k: usize| {
        let (from, to) = (bound(k), bound(k + 1));
        from + (mix(((batch as u64) << 32) ^ k as u64) % (to - from).max(1) as u64) as usize
    };
    (0..most).map(draw).collect()
}

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014), one step.
fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::sample;

    #[test]
    fn samples_are_spread_and_differ_by_batch() {
        assert_eq!(sample(0, 3, 5), [0, 1, 2]);
        let chosen = sample(1, 1000, 100);
        assert!(chosen.iter().enumerate().all(|(k, &row)| row / 10 == k));
        assert_eq!(chosen, sample(1, 1000, 100));
        assert_ne!(chosen, sample(2, 1000, 100));
        assert!((0..10).all(|digit| chosen.iter().any(|row| row % 10 == digit)));
    }
}
