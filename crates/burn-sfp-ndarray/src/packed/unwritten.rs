//! Results whose memory is not cleared before it is written: clearing it would take as long as writing it once more.
//!
//! The unsafe code is here. An [`Unwritten`] hands its elements out by writing them, in order, and zeros what is left when it is dropped, so
//! that an array is whole once all of its parts are gone.

use std::mem::{MaybeUninit, take};

use ndarray::Array4;
use pulp::Simd;

/// A part of a result, from its first element on that is not written yet.
pub(super) struct Unwritten<'a> {
    rest: &'a mut [MaybeUninit<f32>],
}

/// Returns an array, row-major, whose elements `write` writes; what it leaves out is zero.
pub(super) fn written(shape: [usize; 4], write: impl FnOnce(Unwritten)) -> Array4<f32> {
    let mut result = Array4::uninit(shape);
    let Some(rest) = result.as_slice_mut() else { return Array4::zeros(shape) };
    write(Unwritten { rest });
    // SAFETY: An `Unwritten` lets go of an element by writing it (`push`, `drop`) or by giving it to another one (`split_at`). All of them
    // borrow from `result`, so they are dropped by now; nothing in this crate leaks one.
    unsafe { result.assume_init() }
}

impl Unwritten<'_> {
    /// Splits off the first `count` elements, at most all of them.
    pub(super) fn split_at(mut self, count: usize) -> (Self, Self) {
        let rest = take(&mut self.rest);
        let (first, behind) = rest.split_at_mut(count.min(rest.len()));
        (Self { rest: first }, Self { rest: behind })
    }

    /// Writes the next `count` elements, at most those that are left, from the start of a vector. What lies behind them may be
    /// overwritten, and is still to be written.
    #[inline(always)]
    pub(super) fn push<S: Simd>(&mut self, vector: S::f32s, count: usize) {
        let rest = take(&mut self.rest);
        let count = count.min(S::F32_LANES).min(rest.len());
        match S::as_uninit_mut_simd_f32s(rest).0.first_mut() {
            Some(to) => {
                to.write(vector);
            }
            None => {
                // The end of the part: fewer elements than a vector has.
                let mut lanes = [0.0; MOST_LANES];
                if let Some(lanes) = S::as_mut_simd_f32s(&mut lanes).0.first_mut() {
                    *lanes = vector;
                }
                write_some(&lanes, &mut rest[..count]);
            }
        }
        self.rest = &mut rest[count..];
    }
}

/// Elements of the widest vector.
const MOST_LANES: usize = 16;

/// Writes as many of `from` as `to` has, at most [`MOST_LANES`].
#[inline(always)]
fn write_some(from: &[f32; MOST_LANES], to: &mut [MaybeUninit<f32>]) {
    let length = to.len().min(MOST_LANES);
    let to = &mut to[..length];
    match length {
        8.. => write_both::<8>(&from[..length], to),
        4.. => write_both::<4>(&from[..length], to),
        _ => to.iter_mut().zip(from).for_each(|(to, &from)| _ = to.write(from)),
    }
}

/// Writes the first and the last `N` elements, which are all of them.
#[inline(always)]
fn write_both<const N: usize>(from: &[f32], to: &mut [MaybeUninit<f32>]) {
    if let (Some(to), Some(from)) = (to.first_chunk_mut::<N>(), from.first_chunk::<N>()) {
        *to = from.map(MaybeUninit::new);
    }
    if let (Some(to), Some(from)) = (to.last_chunk_mut::<N>(), from.last_chunk::<N>()) {
        *to = from.map(MaybeUninit::new);
    }
}

impl Drop for Unwritten<'_> {
    fn drop(&mut self) {
        self.rest.fill(MaybeUninit::new(0.0));
    }
}

#[cfg(test)]
mod tests {
    use pulp::{Scalar, WithSimd};

    use super::*;
    use crate::vector::instruction_sets;

    #[test]
    fn what_is_not_written_is_zero() {
        let array = written([1, 2, 1, 3], |all| {
            let (mut first, behind) = all.split_at(4);
            first.push::<Scalar>(7.0, 1);
            first.push::<Scalar>(8.0, 5);
            assert_eq!((first.rest.len(), behind.rest.len()), (2, 2));
        });
        assert_eq!(array.into_raw_vec_and_offset().0, [7.0, 8.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(written([0, 2, 1, 3], |all| assert_eq!(all.rest.len(), 0)).dim(), (0, 2, 1, 3));
        assert_eq!(written([1, 1, 1, 2], |all| drop(all.split_at(9))).sum(), 0.0);
    }

    /// Writes 1, 2, 3 and so on, some elements of each vector.
    struct Count<'a> {
        parts: Vec<Unwritten<'a>>,
        each: usize,
    }

    impl WithSimd for Count<'_> {
        type Output = ();

        fn with_simd<S: Simd>(self, _: S) {
            let values: Vec<f32> = (1..100).map(|value| value as f32).collect();
            let mut at = 0;
            for mut part in self.parts {
                while !part.rest.is_empty() {
                    let count = self.each.min(S::F32_LANES).min(part.rest.len());
                    part.push::<S>(S::as_simd_f32s(&values[at..]).0[0], self.each);
                    at += count;
                }
            }
        }
    }

    #[test]
    fn elements_are_written_in_order() {
        for arch in instruction_sets() {
            for length in 0..70 {
                for (cut, each) in [(0, 16), (5, 3), (17, 7), (33, 16), (70, 1), (1, 12)] {
                    let array = written([1, 1, 1, length], |all| {
                        let (first, behind) = all.split_at(cut);
                        arch.dispatch(Count { parts: vec![first, behind], each });
                    });
                    assert!(
                        array.iter().zip(1..).all(|(&found, expected)| found == expected as f32),
                        "{length}, {cut}, {each}"
                    );
                }
            }
        }
    }
}
