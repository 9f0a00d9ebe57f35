//! The numbers that packed weights are stored as.

use crate::vector::Aligned;

/// The type in which packed weights are stored. Products and sums are in single precision in any case.
///
/// ```
/// use burn_sfp_ndarray::{PackedLinear, Storage};
/// use ndarray::array;
///
/// let linear = PackedLinear::new(array![[1.0_f32, 0.5]].view()).stored_as(Storage::BFloat16);
/// assert_eq!(linear.storage(), Storage::BFloat16);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Storage {
    /// 32 bits, as they are.
    #[default]
    Single,
    /// 16 bits, 8 of them for the significand: half the memory to read, each weight rounded to one part in 512 at most.
    BFloat16,
}

/// Weights as they are stored.
#[derive(Clone, Debug)]
pub(super) enum Stored {
    Single(Vec<f32>),
    BFloat16(Vec<u16>),
}

impl Stored {
    /// Rounds weights that were stored in single precision; others stay as they are.
    pub(super) fn stored_as(self, storage: Storage) -> Self {
        match (self, storage) {
            (Self::Single(values), Storage::BFloat16) => Self::BFloat16(values.into_iter().map(rounded).collect()),
            (stored, _) => stored,
        }
    }

    pub(super) fn storage(&self) -> Storage {
        match self {
            Self::Single(_) => Storage::Single,
            Self::BFloat16(_) => Storage::BFloat16,
        }
    }

    /// The weights from `start` on in single precision: where they are, or in the buffer.
    #[inline(always)]
    pub(super) fn single<'a>(&'a self, start: usize, length: usize, buffer: &'a mut Aligned) -> &'a [f32] {
        match self {
            Self::Single(values) => &values[start..][..length],
            Self::BFloat16(values) => {
                buffer.reserve(length);
                let to = &mut buffer.as_mut_slice()[..length];
                widen(&values[start..][..length], to);
                to
            }
        }
    }
}

/// The nearest bfloat16, of two equally near ones that with an even significand.
fn rounded(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        // One that stays a NaN whatever is cut off.
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

/// The nearest number that 16 bits hold.
#[cfg(test)]
pub(super) fn nearest(value: f32) -> f32 {
    f32::from_bits(u32::from(rounded(value)) << 16)
}

/// A loop of its own, which compilers turn into vector instructions.
#[inline(always)]
fn widen(from: &[u16], to: &mut [f32]) {
    for (to, &from) in to.iter_mut().zip(from) {
        *to = f32::from_bits(u32::from(from) << 16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_the_nearest() {
        for value in [0.0, -0.0, 1.0, -2.5, f32::INFINITY, f32::NEG_INFINITY, f32::MIN_POSITIVE] {
            assert_eq!(nearest(value).to_bits(), value.to_bits(), "{value}");
        }
        // Between 1 and the next number 1 + 1/128: ties go to the even one.
        assert_eq!([1.003, 1.005, 1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0].map(nearest), [1.0, 1.0078125, 1.0, 1.015625]);
        assert_eq!(nearest(f32::MAX), f32::INFINITY);
        assert!(nearest(f32::NAN).is_nan() && nearest(f32::from_bits(0x7f80_0001)).is_nan());
    }
}
