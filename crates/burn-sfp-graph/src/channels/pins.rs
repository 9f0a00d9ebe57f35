//! Why channels must stay, and which operation says so.

use std::collections::HashMap;

use super::ids::ChannelId;

/// Why a channel must stay, and the operation that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pin {
    /// Index of the reason.
    pub reason: usize,
    pub place: Option<usize>,
}

/// Pins of channels; each reason is stored once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pins {
    reasons: Vec<String>,
    index: HashMap<String, usize>,
    of: HashMap<ChannelId, Vec<Pin>>,
}

/// How many pins of a channel are remembered. The channels of a long residual stream meet the same cause in every block.
const REMEMBERED: usize = 64;

impl Pins {
    pub fn intern(&mut self, reason: &str) -> usize {
        if let Some(&known) = self.index.get(reason) {
            return known;
        }
        self.reasons.push(reason.to_string());
        self.index.insert(reason.to_string(), self.reasons.len() - 1);
        self.reasons.len() - 1
    }

    pub fn add(&mut self, channel: ChannelId, pin: Pin) {
        let pins = self.of.entry(channel).or_default();
        if pins.len() < REMEMBERED && !pins.contains(&pin) {
            pins.push(pin);
        }
    }

    /// Adds a pin without a place, unless the channel has one.
    pub fn add_bare(&mut self, channel: ChannelId, reason: &str) {
        if !self.of.contains_key(&channel) {
            let reason = self.intern(reason);
            self.add(channel, Pin { reason, place: None });
        }
    }

    /// Gives a channel the pins of others.
    pub fn add_all(&mut self, channel: ChannelId, from: &[ChannelId]) {
        for pin in from.iter().flat_map(|id| self.of.get(id).cloned().unwrap_or_default()).collect::<Vec<_>>() {
            self.add(channel, pin);
        }
    }

    /// Removes the pins of a channel.
    pub fn take(&mut self, channel: ChannelId) -> Vec<Pin> {
        self.of.remove(&channel).unwrap_or_default()
    }

    pub fn contains(&self, channel: ChannelId) -> bool {
        self.of.contains_key(&channel)
    }

    /// The pins of a channel, the first one first.
    pub fn of(&self, channel: ChannelId) -> &[Pin] {
        self.of.get(&channel).map(Vec::as_slice).unwrap_or_default()
    }

    pub fn reason(&self, pin: &Pin) -> &str {
        &self.reasons[pin.reason]
    }
}
