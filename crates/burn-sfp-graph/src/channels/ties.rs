//! Which operations tie indices of one axis to each other, so that they can only be removed together.

use std::collections::HashMap;

use super::ids::ChannelId;

/// The operations that tie the indices of an atom, by position.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ties(HashMap<ChannelId, Vec<usize>>);

/// How many operations of an atom are remembered: the first ones say where to look.
const REMEMBERED: usize = 4;

impl Ties {
    /// Adds an operation.
    pub fn add(&mut self, atom: ChannelId, place: usize) {
        let places = self.0.entry(atom).or_default();
        if places.len() < REMEMBERED && !places.contains(&place) {
            places.push(place);
        }
    }

    /// Gives an atom the operations of another that becomes one with it.
    pub fn join(&mut self, root: ChannelId, child: ChannelId) {
        for place in self.0.remove(&child).into_iter().flatten() {
            self.add(root, place);
        }
    }

    /// The operations that tie an atom's indices, the first one first.
    pub fn of(&self, atom: ChannelId) -> &[usize] {
        self.0.get(&atom).map(Vec::as_slice).unwrap_or_default()
    }
}
