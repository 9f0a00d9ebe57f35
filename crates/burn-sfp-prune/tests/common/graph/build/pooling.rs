//! Pooling, reductions and other windows over positions.

use super::super::call::{Activation, Binary, Call, Reduce};
use super::super::spec::{Kind, Step};
use super::super::value::Layout::{Map, Signal, Volume};
use super::Builder;

const REDUCTIONS: [Reduce; 4] = [Reduce::Mean, Reduce::Max, Reduce::Sum, Reduce::Min];

impl Builder {
    pub(super) fn pool(&mut self, at: usize, step: &Step) -> usize {
        let at = self.one_of(at, &[Map, Signal], step.variant);
        let (kernel, stride, padding) = match step.variant % 4 {
            1 => (3, 1, 1),
            2 => (3, 2, 1),
            _ if self.shortest(at) < 2 => (1, 1, 0),
            3 => (2, 1, 0),
            _ => (2, 2, 0),
        };
        let pool = if step.kind == Kind::MaxPool {
            Call::MaxPool { kernel, stride, padding }
        } else {
            Call::AvgPool { kernel, stride, padding }
        };
        self.settle(pool, &[at])
    }

    pub(super) fn adaptive(&mut self, at: usize, step: &Step) -> usize {
        let at = self.one_of(at, &[Map, Signal, Volume], step.variant);
        self.settle(Call::Adaptive(1 + step.b % 3), &[at])
    }

    pub(super) fn interpolate(&mut self, at: usize, step: &Step) -> usize {
        let at = self.one_of(at, &[Map, Signal], step.variant);
        self.settle(Call::Interpolate(2 + step.b % 4, step.variant.is_multiple_of(2)), &[at])
    }

    pub(super) fn reduce(&mut self, at: usize, step: &Step) -> usize {
        self.reduced(at, REDUCTIONS[step.variant % 4])
    }

    pub(super) fn reduce_channels(&mut self, at: usize, step: &Step) -> usize {
        let layout = self.layout(at);
        let how = REDUCTIONS[step.variant % 4];
        // Nothing leaves under a maximum of values that may be negative.
        let at = if how == Reduce::Max { self.keep(Call::Activation(Activation::Relu), at) } else { at };
        let squeezed = self.keep(Call::Reduce(how, vec![layout.channels()]), at);
        self.emit(Call::Binary(Binary::Mul), &[at, squeezed], layout)
    }

    /// Over all positions; lengths of 1 stay.
    pub(super) fn reduced(&mut self, at: usize, how: Reduce) -> usize {
        match self.layout(at).positions() {
            axes if axes.is_empty() => at,
            axes => self.settle(Call::Reduce(how, axes), &[at]),
        }
    }

    pub(super) fn unfold(&mut self, at: usize, step: &Step) -> usize {
        let at = self.to(at, Map, step.variant);
        let kernel = self.shortest(at).min(2);
        let made = self.emit(Call::Unfold(kernel, 1 + step.variant % 2), &[at], Signal);
        self.live[made].moving = false;
        made
    }
}
