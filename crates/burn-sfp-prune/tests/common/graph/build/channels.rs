//! What deals channels out anew, and what exchanges them with positions.

use super::super::call::Call;
use super::super::heads::Shuffle;
use super::super::spec::Step;
use super::super::value::Layout::{Map, Signal, Tokens, Vector, Volume};
use super::{Builder, divisors};

impl Builder {
    pub(super) fn shuffle(&mut self, at: usize, step: &Step) -> usize {
        let channels = self.channels(at);
        let divisors = divisors(channels, 1);
        let groups = divisors[(1 + step.variant) % divisors.len()];
        let layer = self.drawn(Shuffle::new(channels, groups, &self.device));
        self.layers.shuffle.push(layer);
        self.keep(Call::Shuffle(self.layers.shuffle.len() - 1), at)
    }

    pub(super) fn pixel_shuffle(&mut self, at: usize, step: &Step) -> usize {
        let at = self.to(at, Map, step.variant);
        let wide = self.channels(at).is_multiple_of(4);
        let at = if wide { at } else { self.project(at, 4 * (1 + step.width / 5)) };
        let spread = self.keep(Call::PixelShuffle(2), at);
        // The factor is a constant in the code: a window keeps the positions together.
        self.settle(Call::AvgPool { kernel: 2, stride: 1, padding: 0 }, &[spread])
    }

    pub(super) fn pixel_unshuffle(&mut self, at: usize, step: &Step) -> usize {
        let at = self.to(at, Map, step.variant);
        let even = self.lengths(at).iter().all(|length| length.is_multiple_of(2));
        if !even || self.live[at].moving {
            return self.settle(Call::Adaptive(2), &[at]);
        }
        self.keep(Call::PixelUnshuffle(2), at)
    }

    /// The largest of each run of at most four channels.
    pub(super) fn maxout(&mut self, at: usize, step: &Step) -> usize {
        let mut divisors = divisors(self.channels(at), 1);
        divisors.retain(|divisor| *divisor <= 4);
        self.keep(Call::Maxout(divisors[divisors.len() - 1 - step.variant % divisors.len()]), at)
    }

    pub(super) fn transpose(&mut self, at: usize, step: &Step) -> usize {
        match self.layout(at) {
            Vector => self.project(at, step.width),
            Map => self.keep(Call::Swap(2, 3), at),
            Volume => self.keep(Call::Swap(2 + step.variant % 2, 4), at),
            Signal | Tokens => {
                // Channels become positions.
                let first = self.live.len();
                let swapped = self.keep(Call::Swap(1, 2), at);
                self.move_since(first);
                swapped
            }
        }
    }
}
