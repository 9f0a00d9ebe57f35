//! Reads without bounds checks, at places that are checked when they are listed: the unsafe code of the convolution.
//!
//! The loops over the kernels read the same few places of one channel after another. A bounds check per read takes
//! longer than the product that the read feeds. So the places are checked against the length of a channel once, when
//! they are listed, and each channel is checked against the source when it is taken.

use std::marker::PhantomData;

use pulp::Simd;

/// `T` places in a channel from which `W` vectors are read.
#[derive(Clone, Copy)]
pub(super) struct Windows<'a, S: Simd, const W: usize, const T: usize> {
    packed: &'a [f32],
    /// Elements of a channel.
    channel: usize,
    /// Invariant: each start plus the elements of `W` vectors is at most `channel`.
    starts: [usize; T],
    simd: PhantomData<S>,
}

/// A channel of the source, with the places to read.
#[derive(Clone, Copy)]
pub(super) struct Channel<'a, S: Simd, const W: usize, const T: usize> {
    /// Invariant: `windows.channel` elements.
    elements: &'a [f32],
    windows: &'a Windows<'a, S, W, T>,
}

impl<'a, S: Simd, const W: usize, const T: usize> Windows<'a, S, W, T> {
    /// Lists the places in each run of `channel` elements of `packed`; `None` when `W` vectors from one of the places on
    /// would go beyond the run.
    #[inline(always)]
    pub(super) fn new(packed: &'a [f32], channel: usize, starts: [usize; T]) -> Option<Self> {
        let last = channel.checked_sub(W * S::F32_LANES)?;
        starts.iter().all(|&start| start <= last).then_some(Self { packed, channel, starts, simd: PhantomData })
    }

    /// Returns a channel; panics when it is not in the source.
    #[inline(always)]
    pub(super) fn channel(&'a self, index: usize) -> Channel<'a, S, W, T> {
        Channel { elements: &self.packed[index * self.channel..][..self.channel], windows: self }
    }
}

impl<S: Simd, const W: usize, const T: usize> Channel<'_, S, W, T> {
    /// Returns `W` vectors, read at place `tap`.
    #[inline(always)]
    pub(super) fn at(&self, tap: usize) -> &[S::f32s] {
        let start = self.windows.starts[tap];
        debug_assert!(start + W * S::F32_LANES <= self.elements.len());
        // SAFETY: `Windows::new`, the only constructor, checked `start <= channel - W * F32_LANES`, so the range ends at
        // `windows.channel` at most. `elements` has that many elements, since `Windows::channel`, the only constructor
        // of a channel, slices exactly as many. No field is assigned after construction; all are private to this module.
        let elements = unsafe { self.elements.get_unchecked(start..start + W * S::F32_LANES) };
        S::as_simd_f32s(elements).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulp::Scalar;

    #[test]
    fn places_too_close_to_the_end_are_refused() {
        let packed: Vec<f32> = (0..20).map(|place| place as f32).collect();
        let windows = |starts| Windows::<Scalar, 3, 2>::new(&packed, 10, starts);
        assert!(windows([0, 8]).is_none());
        assert!(windows([usize::MAX, 0]).is_none());
        assert!(Windows::<Scalar, 3, 2>::new(&packed, 2, [0, 0]).is_none());
        let windows = windows([2, 7]).unwrap();
        assert_eq!(windows.channel(0).at(1), [7.0, 8.0, 9.0]);
        assert_eq!(windows.channel(1).at(0), [12.0, 13.0, 14.0]);
    }
}
