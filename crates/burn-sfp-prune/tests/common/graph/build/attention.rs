//! What mixes tokens by products of two values.

use super::super::call::Call;
use super::super::heads::{Attention, Joint, Mix};
use super::super::spec::Step;
use super::super::value::Layout::Tokens;
use super::Builder;

impl Builder {
    pub(super) fn scores(&mut self, at: usize, step: &Step) -> usize {
        let (at, other) = (self.to(at, Tokens, step.variant), self.back(step.b));
        let other = self.to(other, Tokens, step.variant);
        // Queries from a layer of their own: what leaves is zero there.
        let query = self.project(at, self.channels(other));
        self.emit(Call::Scores, &[query, other], Tokens)
    }

    pub(super) fn gram(&mut self, at: usize, step: &Step) -> usize {
        let at = self.to(at, Tokens, step.variant);
        let other = self.beside(step.b, at, step.width);
        if self.live[at].moving || self.live[other].moving {
            return self.settle(Call::Softmax(1), &[at]);
        }
        let first = self.live.len();
        let gram = self.emit(Call::Gram, &[at, other], Tokens);
        self.move_since(first);
        gram
    }

    pub(super) fn attention(&mut self, at: usize, step: &Step) -> usize {
        let Step { b, width, variant, .. } = *step;
        let at = self.to(at, Tokens, variant);
        let other = if b < 4 { at } else { self.back(b) };
        let other = self.to(other, Tokens, variant);
        let mix = match variant % 5 {
            3 if !self.live[other].moving => Mix::Linear,
            1 => Mix::Turned,
            2 => Mix::Fused,
            4 => Mix::Root,
            _ => Mix::Softmax,
        };
        let sizes = [1 + b % 4, 1 + width % 4, 1 + variant % 4];
        let (own, read) = (self.channels(at), self.channels(other));
        let layer = Attention::new([own, read], sizes, width, variant < 8, mix, &self.device);
        let layer = self.drawn(layer);
        self.layers.attention.push(layer);
        let moving = self.live[at].moving;
        let made = self.emit(Call::Attention(self.layers.attention.len() - 1), &[at, other], Tokens);
        self.live[made].moving = moving;
        made
    }

    pub(super) fn joint(&mut self, at: usize, step: &Step) -> usize {
        let at = self.to(at, Tokens, step.variant);
        let layer = Joint::new(self.channels(at), 1 + step.b % 4, 1 + step.variant % 4, step.width, &self.device);
        let layer = self.drawn(layer);
        self.layers.joint.push(layer);
        self.keep(Call::Joint(self.layers.joint.len() - 1), at)
    }
}
