//! Reads at places that were checked once instead of at every read: the unsafe code of the convolution.
//!
//! The loops over the kernels read the same few places of one channel after another. Checking each read
//! takes longer than the product it feeds, so the places are checked against the length of a channel when
//! they are listed, and each channel against the whole source when it is taken.

use std::marker::PhantomData;

use pulp::Simd;

/// `T` places in a channel from which `W` vectors are read.
#[derive(Clone, Copy)]
pub(super) struct Windows<'a, S: Simd, const W: usize, const T: usize> {
    packed: &'a [f32],
    channel: usize,
    /// Each at least `W` vectors before the end of a channel.
    starts: [usize; T],
    simd: PhantomData<S>,
}

/// A channel of the source, and the places in it.
#[derive(Clone, Copy)]
pub(super) struct Channel<'a, S: Simd, const W: usize, const T: usize> {
    /// As long as a channel.
    numbers: &'a [f32],
    windows: &'a Windows<'a, S, W, T>,
}

impl<'a, S: Simd, const W: usize, const T: usize> Windows<'a, S, W, T> {
    /// Places in each `channel` numbers of `packed`; `None` when one is too close to the end.
    #[inline(always)]
    pub(super) fn new(packed: &'a [f32], channel: usize, starts: [usize; T]) -> Option<Self> {
        let room = channel.checked_sub(W * S::F32_LANES)?;
        starts.iter().all(|&start| start <= room).then_some(Self { packed, channel, starts, simd: PhantomData })
    }

    /// A channel.
    #[inline(always)]
    pub(super) fn channel(&'a self, index: usize) -> Channel<'a, S, W, T> {
        Channel { numbers: &self.packed[index * self.channel..][..self.channel], windows: self }
    }
}

impl<S: Simd, const W: usize, const T: usize> Channel<'_, S, W, T> {
    /// The vectors at place `tap`.
    #[inline(always)]
    pub(super) fn at(&self, tap: usize) -> &[S::f32s] {
        let start = self.windows.starts[tap];
        debug_assert!(start + W * S::F32_LANES <= self.numbers.len());
        // SAFETY: `numbers` has `windows.channel` elements, since `channel` above is the only place that
        // makes one, and `new`, the only place that makes windows, saw that `start` plus the length taken
        // here is at most that. Neither changes afterwards: the fields are private and never assigned.
        let numbers = unsafe { self.numbers.get_unchecked(start..start + W * S::F32_LANES) };
        S::as_simd_f32s(numbers).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulp::Scalar;

    #[test]
    fn places_too_close_to_the_end_are_refused() {
        let packed: Vec<f32> = (0..20).map(|number| number as f32).collect();
        let windows = |starts| Windows::<Scalar, 3, 2>::new(&packed, 10, starts);
        assert!(windows([0, 8]).is_none());
        assert!(windows([usize::MAX, 0]).is_none());
        assert!(Windows::<Scalar, 3, 2>::new(&packed, 2, [0, 0]).is_none());
        let windows = windows([2, 7]).unwrap();
        assert_eq!(windows.channel(0).at(1), [7.0, 8.0, 9.0]);
        assert_eq!(windows.channel(1).at(0), [12.0, 13.0, 14.0]);
    }
}
