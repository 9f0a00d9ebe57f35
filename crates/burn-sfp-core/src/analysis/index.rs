//! [`EntryIndex`]: where the entry of a path stands, so that it is found without a search.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::layer::LayerAnalysis;

/// Positions of entries by path, made when the first one is asked for. The entries are public and may change afterwards, so that a
/// position is a guess that is checked.
#[derive(Clone, Debug, Default)]
pub(crate) struct EntryIndex(OnceLock<HashMap<String, usize>>);

impl EntryIndex {
    /// Returns the position of the first entry at a path.
    pub fn find(&self, entries: &[LayerAnalysis], path: &str) -> Option<usize> {
        let index = self.0.get_or_init(|| {
            entries.iter().enumerate().rev().map(|(position, entry)| (entry.path.clone(), position)).collect()
        });
        let guess = index.get(path).copied().filter(|&at| entries.get(at).is_some_and(|entry| entry.path == path));
        guess.or_else(|| entries.iter().position(|entry| entry.path == path))
    }
}
