//! Joining values and taking parts of them.

use super::super::call::Call;
use super::super::spec::{Kind, Step};
use super::Builder;

impl Builder {
    pub(super) fn concat(&mut self, at: usize, step: &Step) -> usize {
        let layout = self.layout(at);
        let other = self.beside(step.b, at, step.width);
        self.emit(Call::Cat(layout.channels()), &[at, other], layout)
    }

    pub(super) fn concat_positions(&mut self, at: usize, step: &Step) -> usize {
        let at = self.spread(at);
        let other = self.same(step.b, at);
        let along = self.position(at, step.variant).expect("it has positions");
        self.emit(Call::Cat(along), &[at, other], self.layout(at))
    }

    /// Two values are joined, and a part as long as one of them is taken.
    pub(super) fn cat_split(&mut self, at: usize, step: &Step) -> usize {
        let (layout, variant) = (self.layout(at), step.variant);
        let axis = layout.channels();
        let other = self.beside(step.b, at, step.width);
        let all = self.emit(Call::Cat(axis), &[at, other], layout);
        let like = if variant.is_multiple_of(3) { at } else { other };
        self.emit(Call::LikeOf { axis, end: !variant.is_multiple_of(2) }, &[all, like], layout)
    }

    pub(super) fn stack(&mut self, at: usize, step: &Step) -> usize {
        let layout = self.layout(at);
        let axis = layout.channels();
        let other = self.same(step.b, at);
        // Next to the channels on either side, or apart from them.
        let after = [axis, axis + 1, layout.rank() - 1][step.variant % 3];
        let sum = step.b.is_multiple_of(3) || after == layout.rank();
        self.emit(Call::Stack { after, sum }, &[at, other], layout)
    }

    /// Channels, or positions in the last variant.
    fn cut_axis(&self, at: usize, step: &Step) -> usize {
        let channels = self.layout(at).channels();
        if step.variant == 11 { self.position(at, step.b).unwrap_or(channels) } else { channels }
    }

    pub(super) fn chunk(&mut self, at: usize, step: &Step) -> usize {
        let axis = self.cut_axis(at, step);
        let length = self.dims(at)[axis];
        // Burn's chunks must not run out before the last.
        let fits = |parts: &usize| (parts - 1) * length.div_ceil(*parts) < length;
        let parts = (1..=2 + step.variant % 3).rev().find(fits).unwrap_or(1);
        self.keep(Call::Chunk { axis, parts, which: step.b % parts }, at)
    }

    pub(super) fn slice(&mut self, at: usize, step: &Step) -> usize {
        let parts = [(0, 1, 2), (1, 2, 2), (1, 3, 4), (1, 2, 3), (0, 2, 3), (1, 4, 4)];
        let (from, to, of) = parts[step.variant % 6];
        let axis = self.cut_axis(at, step);
        let length = self.dims(at)[axis];
        if to * length / of == from * length / of {
            return self.project(at, step.width);
        }
        self.keep(Call::Slice { axis, from, to, of }, at)
    }

    pub(super) fn assign(&mut self, at: usize, step: &Step) -> usize {
        let layout = self.layout(at);
        let axis = layout.channels();
        let along = if step.variant < 6 { axis } else { self.position(at, step.variant).unwrap_or(axis) };
        if self.dims(at)[along] < 2 {
            return self.project(at, step.width);
        }
        let other = self.same(step.b, at);
        self.emit(Call::Assign(along), &[at, other], layout)
    }

    pub(super) fn every_second(&mut self, at: usize, step: &Step) -> usize {
        let axis = self.layout(at).channels();
        let along = if step.variant < 4 { axis } else { self.position(at, step.variant).unwrap_or(axis) };
        self.keep(Call::Step(along), at)
    }

    /// The channels' axis, or one of the positions' where the step is the `over_positions` kind.
    fn axis_of(&self, at: usize, step: &Step, over_positions: Kind) -> usize {
        let axis = self.layout(at).channels();
        if step.kind == over_positions { self.position(at, step.variant).unwrap_or(axis) } else { axis }
    }

    pub(super) fn select(&mut self, at: usize, step: &Step) -> usize {
        let along = self.axis_of(at, step, Kind::Select);
        let length = self.dims(at)[along] as i64;
        let (b, variant) = (step.b as i64, step.variant as i64);
        let indices = (0..1 + b % 3).map(|k| (k * 3 + variant) % length).collect();
        self.keep(Call::Select(along, indices), at)
    }

    pub(super) fn pad(&mut self, at: usize, step: &Step) -> usize {
        let along = self.axis_of(at, step, Kind::Pad);
        self.keep(Call::Pad { axis: along, before: step.b % 2, after: 1 + step.variant % 2 }, at)
    }
}
