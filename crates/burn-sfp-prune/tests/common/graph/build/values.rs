//! Adding calls to the program, what is known of the values there are, and bringing two of them together.

use burn::module::Module;

use super::super::call::{Call, Node};
use super::super::fill::fill;
use super::super::net::GIVEN;
use super::super::value::Layout;
use super::{Builder, Live};

/// Layers bring wider values down.
const WIDEST: usize = 32;
const WIDEST_VECTOR: usize = 160;

impl Builder {
    pub(super) fn emit(&mut self, call: Call, from: &[usize], layout: Layout) -> usize {
        let first = from.first().map_or(layout, |&at| self.live[at].layout);
        let node = Node { call, from: from.to_vec(), layout: first };
        let operands = from.iter().map(|&at| self.live[at].value.clone()).collect();
        let value = self.layers.run(&node, operands, &self.words);
        let moving = from.iter().any(|&at| self.live[at].moving);
        let largest = value.largest();
        assert!(largest.is_finite(), "{node:?} makes {largest}");
        self.nodes.push(node);
        self.live.push(Live { value, layout, moving });
        let at = self.live.len() - 1;
        if largest > 8.0 { self.emit(Call::Times((16.0 / largest).round().max(1.0) / 8.0), &[at], layout) } else { at }
    }

    /// A call that keeps the layout.
    pub(super) fn keep(&mut self, call: Call, at: usize) -> usize {
        self.emit(call, &[at], self.live[at].layout)
    }

    /// A call after which positions stay.
    pub(super) fn settle(&mut self, call: Call, from: &[usize]) -> usize {
        let at = self.emit(call, from, self.live[from[0]].layout);
        self.live[at].moving = false;
        at
    }

    /// Everything made since then may lose positions.
    pub(super) fn move_since(&mut self, first: usize) {
        for live in &mut self.live[first..] {
            live.moving |= live.layout != Layout::Vector;
        }
    }

    pub(super) fn drawn<M: Module>(&mut self, module: M) -> M {
        fill(module, &mut self.rng)
    }

    pub(super) fn back(&self, by: usize) -> usize {
        self.live.len() - 1 - by % self.live.len()
    }

    pub(super) fn layout(&self, at: usize) -> Layout {
        self.live[at].layout
    }

    pub(super) fn dims(&self, at: usize) -> Vec<usize> {
        self.live[at].value.dims()
    }

    pub(super) fn channels(&self, at: usize) -> usize {
        self.dims(at)[self.layout(at).channels()]
    }

    pub(super) fn lengths(&self, at: usize) -> Vec<usize> {
        let dims = self.dims(at);
        self.layout(at).positions().iter().map(|&axis| dims[axis]).collect()
    }

    pub(super) fn shortest(&self, at: usize) -> usize {
        self.lengths(at).into_iter().min().unwrap_or(1)
    }

    /// One of the position axes.
    pub(super) fn position(&self, at: usize, variant: usize) -> Option<usize> {
        let axes = self.layout(at).positions();
        (!axes.is_empty()).then(|| axes[variant % axes.len()])
    }

    pub(super) fn to(&mut self, at: usize, layout: Layout, how: usize) -> usize {
        if self.layout(at) == layout {
            return at;
        }
        let how = if self.live[at].moving { how | 1 } else { how };
        self.emit(Call::To(layout, how), &[at], layout)
    }

    /// To a layout with positions.
    pub(super) fn spread(&mut self, at: usize) -> usize {
        if self.layout(at) == Layout::Vector { self.to(at, Layout::Tokens, 0) } else { at }
    }

    /// To a layout that the call takes.
    pub(super) fn one_of(&mut self, at: usize, layouts: &[Layout], how: usize) -> usize {
        if layouts.contains(&self.layout(at)) { at } else { self.to(at, layouts[how / 4 % layouts.len()], how) }
    }

    /// The length of the last axis.
    pub(super) fn last(&self, at: usize) -> usize {
        *self.dims(at).last().expect("no value has rank 0")
    }

    /// A call along one of the position axes, on a value that has some.
    pub(super) fn over_positions(&mut self, at: usize, variant: usize, call: fn(usize) -> Call) -> usize {
        let at = self.spread(at);
        let along = self.position(at, variant).expect("it has positions");
        self.keep(call(along), at)
    }

    /// A layer that changes the number of channels and nothing else.
    pub(super) fn project(&mut self, at: usize, width: usize) -> usize {
        self.convolution(at, width, 0, 1)
    }

    /// A value that can stand next to `like`: of the same positions.
    pub(super) fn beside(&mut self, by: usize, like: usize, width: usize) -> usize {
        let other = self.back(by);
        let fits = self.layout(other) == self.layout(like) && self.lengths(other) == self.lengths(like);
        if fits && other >= GIVEN { other } else { self.project(like, width) }
    }

    /// A value of the same shape as `like`.
    pub(super) fn same(&mut self, by: usize, like: usize) -> usize {
        let width = self.channels(like);
        let other = self.beside(by, like, width);
        if self.channels(other) == width { other } else { self.project(other, width) }
    }

    /// Brings down what has become too large.
    pub(super) fn tame(&mut self, at: usize, width: usize) {
        let mut at = at;
        let positions: usize = self.lengths(at).iter().product();
        if positions > 64 {
            at = match self.layout(at) {
                Layout::Tokens => self.to(at, Layout::Signal, 0),
                _ => at,
            };
            let side = match self.layout(at) {
                Layout::Signal => 9,
                Layout::Map => 4,
                _ => 2,
            };
            at = self.settle(Call::Adaptive(side), &[at]);
        }
        let widest = if self.layout(at) == Layout::Vector { WIDEST_VECTOR } else { WIDEST };
        if self.channels(at) > widest {
            self.project(at, width);
        }
    }

    /// An output made of a value.
    pub(super) fn head(&mut self, at: usize, kind: usize) -> usize {
        match kind % 8 {
            6 => at,
            5 if self.layout(at) != Layout::Vector => self.convolution(at, 2, 1, 1),
            kind => {
                let vector = self.to(at, Layout::Vector, if kind == 4 { 1 } else { 0 });
                self.linear(vector, 2, true)
            }
        }
    }
}
