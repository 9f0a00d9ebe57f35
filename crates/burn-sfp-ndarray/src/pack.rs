//! Comparisons of single precision values with bounds, packed into bits.

use pulp::{Arch, Simd, WithSimd};

use crate::Cuts;

/// Bits in a word.
const BITS: usize = u64::BITS as usize;

/// Compares rows of `classes` values each and packs the results into `classes.div_ceil(64)` words per row.
///
/// Bit j of a row is `row[j] > cuts.above`; bits after the last value are zero. Returns how many values are near the
/// threshold.
pub(crate) fn pack_rows(arch: Arch, values: &[f32], classes: usize, cuts: Cuts, words: &mut [u64]) -> usize {
    match arch {
        #[cfg(target_arch = "x86_64")]
        Arch::V4(simd) => simd.vectorize(masks::Rows { simd, values, classes, cuts, words }),
        _ => arch.dispatch(Rows { values, classes, cuts, words }),
    }
}

/// The arguments of [`pack_rows`].
struct Rows<'a> {
    values: &'a [f32],
    classes: usize,
    cuts: Cuts,
    words: &'a mut [u64],
}

impl WithSimd for Rows<'_> {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        let Self { values, classes, cuts, words } = self;
        let mut count = 0;
        for (values, word) in each_word(values, classes, words) {
            let found = match values.first_chunk::<BITS>() {
                Some(values) => pack(values, cuts), // a constant length, which is compiled without a loop
                None => pack(values, cuts),
            };
            *word = found.0;
            count += found.1 as usize;
        }
        count
    }
}

/// Iterates over the words, each with the up to 64 values that it packs.
#[inline(always)]
fn each_word<'a>(
    values: &'a [f32],
    classes: usize,
    words: &'a mut [u64],
) -> impl Iterator<Item = (&'a [f32], &'a mut u64)> {
    let rows = values.chunks_exact(classes.max(1));
    let words = words.chunks_exact_mut(classes.div_ceil(BITS).max(1));
    rows.zip(words).flat_map(|(row, words)| row.chunks(BITS).zip(words))
}

/// Packs at most 64 values: bit i is `values[i] > cuts.above`. Also returns how many values are near the threshold.
#[inline(always)]
fn pack(values: &[f32], cuts: Cuts) -> (u64, u32) {
    /// Multiplication by this constant moves bit 0 of byte i to bit 56 + i.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let mut bytes = [0_u8; BITS];
    let mut count = 0;
    for (byte, &value) in bytes.iter_mut().zip(values) {
        *byte = u8::from(value > cuts.above);
        count += u32::from(cuts.near.0 <= value) & u32::from(value < cuts.near.1);
    }
    let (eights, _) = bytes.as_chunks::<8>();
    let word = (eights.iter().enumerate())
        .fold(0, |word, (place, &eight)| word | u64::from_le_bytes(eight).wrapping_mul(GATHER) >> 56 << (8 * place));
    (word, count)
}

/// The same for instruction sets whose comparisons yield bit masks.
#[cfg(target_arch = "x86_64")]
mod masks {
    use pulp::x86::V4;
    use pulp::{NullaryFnOnce, Simd};

    use super::{BITS, Cuts, each_word};

    /// The arguments of [`super::pack_rows`].
    pub(super) struct Rows<'a> {
        pub(super) simd: V4,
        pub(super) values: &'a [f32],
        pub(super) classes: usize,
        pub(super) cuts: Cuts,
        pub(super) words: &'a mut [u64],
    }

    impl NullaryFnOnce for Rows<'_> {
        type Output = usize;

        #[inline(always)]
        fn call(self) -> usize {
            let Self { simd, values, classes, cuts, words } = self;
            let mut count = 0;
            for (values, word) in each_word(values, classes, words) {
                let found = match values.first_chunk::<BITS>() {
                    Some(values) => pack(simd, values, cuts), // a constant length, which is compiled without a loop
                    None => pack(simd, values, cuts),
                };
                *word = found.0;
                count += found.1 as usize;
            }
            count
        }
    }

    /// Packs at most 64 values as [`super::pack`] does.
    #[inline(always)]
    fn pack(simd: V4, values: &[f32], cuts: Cuts) -> (u64, u32) {
        const LANES: usize = V4::F32_LANES;
        let above = simd.splat_f32s(cuts.above);
        let (low, high) = (simd.splat_f32s(cuts.near.0), simd.splat_f32s(cuts.near.1));
        let (vectors, rest) = V4::as_simd_f32s(values);
        let compare = |values| {
            let near = simd.and_m32s(simd.less_than_or_equal_f32s(low, values), simd.less_than_f32s(values, high));
            (simd.less_than_f32s(above, values).0, near.0)
        };
        let (mut word, mut count) = (0, 0);
        for (place, &values) in vectors.iter().enumerate() {
            let (bits, near) = compare(values);
            word |= u64::from(bits) << (LANES * place);
            count += near.count_ones();
        }
        if !rest.is_empty() {
            let (bits, near) = compare(simd.partial_load_f32s(rest));
            // Lanes without a value hold zero.
            let live = (1_u16 << rest.len()) - 1;
            word |= u64::from(bits & live) << (LANES * vectors.len());
            count += (near & live).count_ones();
        }
        (word, count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random_f32;
    use crate::vector::instruction_sets;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_instruction_set_gives_the_same_bits(classes in 0_usize..200, above in -0.9_f32..0.9, width in 0.0_f32..0.5, seed: u64) {
            let values = random_f32((3, classes), seed);
            let near = (above - width, above + width);
            for arch in instruction_sets() {
                let mut words = vec![u64::MAX; 3 * classes.div_ceil(BITS)];
                let count =
                    pack_rows(arch, values.as_slice().unwrap(), classes, Cuts { above, near }, &mut words);
                prop_assert_eq!(count, values.iter().filter(|&&p| near.0 <= p && p < near.1).count());
                for (row, words) in values.rows().into_iter().zip(words.chunks(classes.div_ceil(BITS).max(1))) {
                    for (j, word) in (0..BITS * words.len()).map(|j| (j, words[j / BITS])) {
                        prop_assert_eq!(word >> (j % BITS) & 1 == 1, j < classes && row[j] > above);
                    }
                }
            }
        }
    }
}
