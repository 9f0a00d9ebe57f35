//! Linear layers, bare matrices, embeddings, and layers that run more than once.

use burn::module::Param;
use burn::nn::{EmbeddingConfig, LinearConfig};
use burn::tensor::Tensor;

use super::super::call::{Activation, Binary, Call};
use super::super::layers::Thin;
use super::super::spec::Step;
use super::super::value::Layout::{Map, Signal, Tokens, Vector};
use super::{Builder, ENTRIES};

impl Builder {
    /// A layer of a map, of tokens or of a vector whose weight is the product of two thin matrices.
    pub(super) fn thin(&mut self, at: usize, step: &Step) -> usize {
        let at = self.one_of(at, &[Map, Tokens, Vector], step.variant);
        let taps = if self.layout(at) == Map { 9 } else { 1 };
        let (rank, inputs) = (1 + step.variant % 3, self.channels(at));
        let matrix = |rows, columns| Param::from_tensor(Tensor::<2>::ones([rows, columns], &self.device));
        let layer = Thin { a: matrix(step.width, rank), b: matrix(rank, inputs * taps) };
        let layer = self.drawn(layer);
        self.layers.thin.push(layer);
        self.settle_map(Call::Thin(self.layers.thin.len() - 1), at)
    }

    fn settle_map(&mut self, call: Call, at: usize) -> usize {
        if self.layout(at) == Map { self.settle(call, &[at]) } else { self.keep(call, at) }
    }

    /// A linear layer over the last axis, whatever that is.
    pub(super) fn linear(&mut self, at: usize, width: usize, bias: bool) -> usize {
        let from = *self.dims(at).last().expect("no value has rank 0");
        let device = self.device.clone();
        let layer = self.drawn(LinearConfig::new(from, width).with_bias(bias).init(&device));
        self.layers.linear.push(layer);
        self.keep(Call::Linear(self.layers.linear.len() - 1), at)
    }

    pub(super) fn linear_step(&mut self, at: usize, step: &Step) -> usize {
        let at = self.one_of(at, &[Tokens, Vector], step.variant);
        self.linear(at, step.width, !step.variant.is_multiple_of(2))
    }

    fn matrix(&mut self, rows: usize, columns: usize) -> usize {
        let matrix = self.drawn(Param::from_tensor(Tensor::<2>::ones([rows, columns], &self.device)));
        self.layers.matrix.push(matrix);
        self.layers.matrix.len() - 1
    }

    pub(super) fn matrix_right(&mut self, at: usize, step: &Step) -> usize {
        let at = self.one_of(at, &[Tokens, Vector], step.variant);
        let matrix = self.matrix(self.channels(at), step.width);
        self.keep(Call::Matrix(matrix), at)
    }

    pub(super) fn matrix_left(&mut self, at: usize, step: &Step) -> usize {
        let at = self.to(at, Signal, step.variant);
        let matrix = self.matrix(step.width, self.channels(at));
        self.keep(Call::MatrixLeft(matrix), at)
    }

    /// Two linear layers along the tokens, as in a mixer.
    pub(super) fn token_mix(&mut self, at: usize, step: &Step) -> usize {
        let (first, layout) = (self.live.len(), self.layout(at));
        let own = if layout == Tokens { self.to(at, Signal, 0) } else { at };
        let length = self.last(own);
        let hidden = self.linear(own, step.width, true);
        let hidden = self.keep(Call::Activation(Activation::Gelu), hidden);
        let residual = step.variant.is_multiple_of(3);
        let mut mixed = self.linear(hidden, if residual { length } else { 1 + step.b % 6 }, true);
        if residual {
            mixed = self.emit(Call::Binary(Binary::Add), &[mixed, own], self.layout(own));
        }
        if layout == Tokens {
            mixed = self.to(mixed, Tokens, 0);
        }
        self.move_since(first);
        mixed
    }

    /// Features become maps, over which a convolution runs.
    pub(super) fn unflatten(&mut self, at: usize, step: &Step) -> usize {
        let Step { b, width, variant, .. } = *step;
        let at = self.to(at, Vector, variant);
        let (rows, columns) = (1 + variant % 3, 1 + b % 3);
        let features = self.linear(at, width * rows * columns, true);
        let map = self.emit(Call::Unflatten(rows, columns), &[features], Map);
        self.convolution(map, width, b % 2, 1)
    }

    pub(super) fn embed(&mut self, step: &Step) -> usize {
        let layer = self.drawn(EmbeddingConfig::new(ENTRIES, step.width).init(&self.device));
        self.layers.embedding.push(layer);
        self.emit(Call::Embed(self.layers.embedding.len() - 1), &[], Tokens)
    }

    /// A layer that ran before runs once more; a new one runs twice where none fits.
    pub(super) fn again(&mut self, at: usize, which: usize) -> usize {
        let (layout, channels) = (self.layout(at), self.channels(at));
        let fitting: Vec<usize> = (0..self.nodes.len())
            .filter(|&k| {
                let node = &self.nodes[k];
                let shared = matches!(
                    node.call,
                    Call::Conv(_)
                        | Call::Linear(_)
                        | Call::BatchNorm(_)
                        | Call::Scale(_)
                        | Call::Matrix(_)
                        | Call::Prelu(_)
                );
                let over_channels = !matches!(node.call, Call::Linear(_)) || matches!(layout, Tokens | Vector);
                let first = node.from.first().copied().unwrap_or_default();
                shared && over_channels && node.layout == layout && self.channels(first) == channels
            })
            .filter(|&k| self.shortest(self.nodes[k].from[0]) <= self.shortest(at))
            .collect();
        if fitting.is_empty() {
            let first = self.project(at, channels);
            let node = self.nodes[self.nodes.len() - 1].clone();
            return if matches!(node.call, Call::Times(_)) { first } else { self.rerun(node.call, first) };
        }
        let call = self.nodes[fitting[which % fitting.len()]].call.clone();
        self.rerun(call, at)
    }

    fn rerun(&mut self, call: Call, at: usize) -> usize {
        if matches!(call, Call::Conv(_)) { self.settle(call, &[at]) } else { self.keep(call, at) }
    }
}
