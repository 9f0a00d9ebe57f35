//! Convolutions: plain, grouped, depthwise, transposed, deformable.

use burn::nn::conv::{
    Conv1dConfig, Conv2dConfig, Conv3dConfig, ConvTranspose1dConfig, ConvTranspose2dConfig, ConvTranspose3dConfig,
    DeformConv2dConfig,
};
use burn::nn::{PaddingConfig1d, PaddingConfig2d, PaddingConfig3d};

use super::super::call::Call;
use super::super::spec::Step;
use super::super::value::Layout::{Map, Signal, Tokens, Vector, Volume};
use super::{Builder, divisors};

impl Builder {
    /// A convolution, or a linear layer where there is nothing to convolve over.
    pub(super) fn convolution(&mut self, at: usize, width: usize, variant: usize, groups: usize) -> usize {
        let (from, bias) = (self.channels(at), !(width + variant).is_multiple_of(3));
        let device = self.device.clone();
        let (kernel, padding, stride, dilation) = geometry(self.shortest(at), variant);
        match self.layout(at) {
            Vector | Tokens => self.linear(at, width, bias),
            Signal => {
                let config = Conv1dConfig::new(from, width, kernel).with_stride(stride).with_dilation(dilation);
                let padding = PaddingConfig1d::Explicit(padding, if variant == 6 { 0 } else { padding });
                let config = config.with_padding(padding).with_groups(groups).with_bias(bias);
                let layer = self.drawn(config.init(&device));
                self.layers.conv1.push(layer);
                self.settle(Call::Conv(self.layers.conv1.len() - 1), &[at])
            }
            Map => {
                let config = Conv2dConfig::new([from, width], [kernel; 2]).with_stride([stride; 2]);
                let last = if variant == 6 { 0 } else { padding };
                let config = config.with_padding(PaddingConfig2d::Explicit(padding, padding, last, last));
                let config = config.with_dilation([dilation; 2]).with_groups(groups).with_bias(bias);
                let layer = self.drawn(config.init(&device));
                self.layers.conv2.push(layer);
                self.settle(Call::Conv(self.layers.conv2.len() - 1), &[at])
            }
            Volume => {
                let config = Conv3dConfig::new([from, width], [kernel; 3]).with_stride([stride; 3]);
                let config = config.with_padding(PaddingConfig3d::Explicit(padding, padding, padding));
                let config = config.with_dilation([dilation; 3]).with_groups(groups).with_bias(bias);
                let layer = self.drawn(config.init(&device));
                self.layers.conv3.push(layer);
                self.settle(Call::Conv(self.layers.conv3.len() - 1), &[at])
            }
        }
    }

    fn transposed(&mut self, at: usize, width: usize, variant: usize, groups: usize) -> usize {
        let (from, bias) = (self.channels(at), !(width + variant).is_multiple_of(3));
        let device = self.device.clone();
        let short = self.shortest(at);
        let (kernel, stride, padding) = match variant % 4 {
            0 => (1, 1, 0),
            1 if short <= 4 => (2, 2, 0),
            2 if short <= 4 => (3, 2, 1),
            _ => (3, 1, 1),
        };
        match self.layout(at) {
            Signal => {
                let config =
                    ConvTranspose1dConfig::new([from, width], kernel).with_stride(stride).with_padding(padding);
                let layer = self.drawn(config.with_groups(groups).with_bias(bias).init(&device));
                self.layers.up1.push(layer);
                self.settle(Call::Transposed(self.layers.up1.len() - 1), &[at])
            }
            Map => {
                let config = ConvTranspose2dConfig::new([from, width], [kernel; 2]).with_stride([stride; 2]);
                let config = config.with_padding([padding; 2]).with_groups(groups).with_bias(bias);
                let layer = self.drawn(config.init(&device));
                self.layers.up2.push(layer);
                self.settle(Call::Transposed(self.layers.up2.len() - 1), &[at])
            }
            Volume => {
                let config = ConvTranspose3dConfig::new([from, width], [kernel; 3]).with_stride([stride; 3]);
                let config = config.with_padding([padding; 3]).with_groups(groups).with_bias(bias);
                let layer = self.drawn(config.init(&device));
                self.layers.up3.push(layer);
                self.settle(Call::Transposed(self.layers.up3.len() - 1), &[at])
            }
            _ => self.linear(at, width, bias),
        }
    }

    pub(super) fn grouped(&mut self, at: usize, step: &Step) -> usize {
        let Step { b, width, variant, .. } = *step;
        let at = self.one_of(at, &[Map, Signal, Volume], variant);
        let at = if self.channels(at) == 1 { self.project(at, 6) } else { at };
        let divisors = divisors(self.channels(at), 2);
        let groups = divisors[b % divisors.len()];
        let out = groups * (1 + width % (12 / groups.min(12)).max(1));
        if variant < 8 {
            self.convolution(at, out, variant % 7, groups)
        } else {
            self.transposed(at, out, variant, groups)
        }
    }

    pub(super) fn depthwise(&mut self, at: usize, step: &Step) -> usize {
        let Step { b, variant, .. } = *step;
        let at = self.one_of(at, &[Map, Signal, Volume], variant);
        let channels = self.channels(at);
        if variant < 9 {
            self.convolution(at, channels * (1 + b % 2), variant % 7, channels)
        } else {
            self.transposed(at, channels * (1 + b % 2), variant, channels)
        }
    }

    pub(super) fn transposed_step(&mut self, at: usize, step: &Step) -> usize {
        let at = self.one_of(at, &[Map, Signal, Volume], step.variant);
        self.transposed(at, step.width, step.variant, 1)
    }

    pub(super) fn deformable(&mut self, at: usize, step: &Step) -> usize {
        let at = self.to(at, Map, step.variant);
        let kernel = (1 + step.variant % 2).min(self.shortest(at));
        let (padding, from) = (PaddingConfig2d::Explicit(0, 0, 0, 0), self.channels(at));
        let offsets = self.convolution(at, 2 * kernel * kernel, if kernel == 1 { 0 } else { 3 }, 1);
        let config = DeformConv2dConfig::new([from, step.width], [kernel; 2]).with_padding(padding);
        let layer = self.drawn(config.init(&self.device));
        self.layers.deform.push(layer);
        self.settle(Call::Deform(self.layers.deform.len() - 1), &[at, offsets])
    }
}

/// Kernel, padding, stride and dilation that a side of this length allows.
fn geometry(side: usize, variant: usize) -> (usize, usize, usize, usize) {
    match variant {
        1 => (3, 1, 1, 1),
        2 => (3, 1, 2, 1),
        3 if side >= 2 => (2, 0, 1, 1),
        4 => (3, 2, 1, 2),
        5 => (1, 0, 2, 1),
        6 => (2, 1, 1, 1),
        _ => (1, 0, 1, 1),
    }
}
