//! Normalizations.

use burn::nn::{BatchNormConfig, GroupNormConfig, InstanceNormConfig, LayerNormConfig, RmsNormConfig};

use super::super::call::Call;
use super::super::spec::Step;
use super::super::value::Layout::{Map, Signal, Tokens, Volume};
use super::{Builder, divisors};

/// Normalizations shall not blow rounding errors up.
const EPSILON: f64 = 0.05;

impl Builder {
    pub(super) fn batch_norm(&mut self, at: usize) -> usize {
        let at = if self.layout(at) == Tokens { self.to(at, Signal, 0) } else { at };
        let config = BatchNormConfig::new(self.channels(at)).with_epsilon(EPSILON);
        let norm = self.drawn(config.init(&self.device));
        self.layers.batch.push(norm);
        self.keep(Call::BatchNorm(self.layers.batch.len() - 1), at)
    }

    pub(super) fn group_norm(&mut self, at: usize, step: &Step) -> usize {
        let at = self.one_of(at, &[Map, Signal, Volume], step.variant);
        if self.shortest(at) < 2 {
            // Burn refuses tensors of two elements.
            return self.project(at, step.width);
        }
        let channels = self.channels(at);
        let divisors = divisors(channels, 1);
        let groups = divisors[divisors.len() - 1 - step.variant % divisors.len()];
        let config = GroupNormConfig::new(groups, channels).with_epsilon(EPSILON);
        let norm = self.drawn(config.init(&self.device));
        self.layers.group.push(norm);
        self.settle(Call::GroupNorm(self.layers.group.len() - 1), &[at])
    }

    pub(super) fn instance_norm(&mut self, at: usize, step: &Step) -> usize {
        let at = self.one_of(at, &[Map, Signal, Volume], step.variant);
        if self.shortest(at) < 2 {
            return self.project(at, step.width);
        }
        let config = InstanceNormConfig::new(self.channels(at)).with_epsilon(EPSILON);
        let norm = self.drawn(config.init(&self.device));
        self.layers.instance.push(norm);
        self.settle(Call::InstanceNorm(self.layers.instance.len() - 1), &[at])
    }

    pub(super) fn layer_norm(&mut self, at: usize) -> usize {
        let config = LayerNormConfig::new(self.last(at)).with_epsilon(EPSILON);
        let norm = self.drawn(config.init(&self.device));
        self.layers.layer.push(norm);
        self.keep(Call::LayerNorm(self.layers.layer.len() - 1), at)
    }

    pub(super) fn rms_norm(&mut self, at: usize) -> usize {
        let config = RmsNormConfig::new(self.last(at)).with_epsilon(EPSILON);
        let norm = self.drawn(config.init(&self.device));
        self.layers.rms.push(norm);
        self.keep(Call::RmsNorm(self.layers.rms.len() - 1), at)
    }
}
