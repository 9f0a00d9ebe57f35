//! Activations, scales, sums and products, element by element.

use burn::module::Param;
use burn::nn::PReluConfig;
use burn::tensor::Tensor;

use super::super::call::{Activation, Binary, Call, Reduce};
use super::super::spec::Step;
use super::super::value::Layout::{Map, Tokens};
use super::Builder;

impl Builder {
    pub(super) fn activation(&mut self, at: usize, step: &Step) -> usize {
        let kind = (step.width + 12 * step.b) % 20;
        let made = self.keep(Call::Activation(Activation::ALL[kind]), at);
        if step.variant == 0 {
            made
        } else {
            self.keep(Call::Activation(Activation::ALL[(kind + step.variant) % 20]), made)
        }
    }

    pub(super) fn binary(&mut self, at: usize, step: &Step) -> usize {
        let all = [Binary::Add, Binary::Mul, Binary::Sub, Binary::Max, Binary::MaskWhere];
        let other = self.same(step.b, at);
        self.emit(Call::Binary(all[step.variant % 5]), &[at, other], self.layout(at))
    }

    /// A product with factors computed from means over the positions.
    pub(super) fn gate(&mut self, at: usize, step: &Step) -> usize {
        let squeezed = self.reduced(at, Reduce::Mean);
        let hidden = self.project(squeezed, 1 + step.width / 2);
        let hidden = self.keep(Call::Activation(Activation::Relu), hidden);
        let gate = self.project(hidden, self.channels(at));
        let gate = self.keep(Call::Activation(Activation::Sigmoid), gate);
        self.emit(Call::Binary(Binary::Mul), &[at, gate], self.layout(at))
    }

    pub(super) fn prelu(&mut self, at: usize, step: &Step) -> usize {
        let one = self.layout(at) == Tokens || step.variant.is_multiple_of(4);
        let slopes = if one { 1 } else { self.channels(at) };
        let layer = self.drawn(PReluConfig::new().with_num_parameters(slopes).init(&self.device));
        self.layers.prelu.push(layer);
        self.keep(Call::Prelu(self.layers.prelu.len() - 1), at)
    }

    pub(super) fn scale(&mut self, at: usize) -> usize {
        let bare = self.bare(self.channels(at));
        self.keep(Call::Scale(bare), at)
    }

    pub(super) fn shift(&mut self, at: usize) -> usize {
        let bare = self.bare(self.channels(at));
        self.keep(Call::Shift(bare), at)
    }

    fn bare(&mut self, channels: usize) -> usize {
        let bare = self.drawn(Param::from_tensor(Tensor::<1>::ones([channels], &self.device)));
        self.layers.bare.push(bare);
        self.layers.bare.len() - 1
    }

    pub(super) fn wide(&mut self, at: usize, step: &Step) -> usize {
        let at = self.to(at, Map, step.variant);
        let wide = Tensor::<4>::ones([1, self.channels(at), 1, 1], &self.device);
        let wide = self.drawn(Param::from_tensor(wide));
        self.layers.wide.push(wide);
        self.keep(Call::Wide(self.layers.wide.len() - 1, step.variant.is_multiple_of(2)), at)
    }

    pub(super) fn constant(&mut self, at: usize, step: &Step) -> usize {
        let layout = self.layout(at);
        let axes = if step.b == 0 { vec![layout.channels()] } else { layout.positions() };
        self.keep(Call::Constant(axes), at)
    }

    /// The largest value of each channel, spread over the positions again.
    pub(super) fn expand(&mut self, at: usize, step: &Step) -> usize {
        let layout = self.layout(at);
        let squeezed = self.reduced(at, Reduce::Max);
        let spread = self.emit(Call::ExpandLike, &[squeezed, at], layout);
        let how = if step.variant.is_multiple_of(2) { Binary::Sub } else { Binary::Mul };
        self.emit(Call::Binary(how), &[spread, at], layout)
    }
}
