//! Channel labels: a union-find over "this index of this axis", so that channels, not whole axes, are followed.

use std::collections::HashMap;

/// Names a set of indices (of axes of tensors and parameters) that can only leave together.
pub type ChannelId = u32;

/// The labels of a tensor's axes: `None` where no channel runs along the axis (samples, positions).
pub(super) type Axes = Vec<Option<Vec<ChannelId>>>;

/// Union-find over labels, with a reason for each set that must stay.
#[derive(Debug, Default)]
pub(super) struct Labels {
    parent: Vec<ChannelId>,
    pinned: HashMap<ChannelId, String>,
}

impl Labels {
    /// `count` labels that no other index carries yet.
    pub fn fresh(&mut self, count: usize) -> Vec<ChannelId> {
        let start = self.parent.len() as ChannelId;
        self.parent.extend(start..start + count as ChannelId);
        (start..start + count as ChannelId).collect()
    }

    /// The set's representative: its smallest label, so that the numbering does not depend on the order of unions.
    pub fn find(&mut self, label: ChannelId) -> ChannelId {
        let mut root = label;
        while self.parent[root as usize] != root {
            root = self.parent[root as usize];
        }
        let mut at = label;
        while self.parent[at as usize] != root {
            at = std::mem::replace(&mut self.parent[at as usize], root);
        }
        root
    }

    /// Makes two labels one set.
    pub fn union(&mut self, a: ChannelId, b: ChannelId) {
        let (a, b) = (self.find(a), self.find(b));
        if a == b {
            return;
        }
        let (root, child) = (a.min(b), a.max(b));
        self.parent[child as usize] = root;
        if let Some(reason) = self.pinned.remove(&child) {
            self.pinned.entry(root).or_insert(reason);
        }
    }

    /// Index by index, two equally long lists become one.
    pub fn union_all(&mut self, a: &[ChannelId], b: &[ChannelId]) {
        for (&a, &b) in a.iter().zip(b) {
            self.union(a, b);
        }
    }

    /// The labels must stay, and why. The first reason is kept.
    pub fn pin(&mut self, labels: &[ChannelId], reason: &str) {
        for &label in labels {
            let root = self.find(label);
            self.pinned.entry(root).or_insert_with(|| reason.to_string());
        }
    }

    /// Why each pinned set must stay.
    pub fn pinned(&self) -> &HashMap<ChannelId, String> {
        &self.pinned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unions_keep_the_smallest_label_and_the_reason() {
        let mut labels = Labels::default();
        let a = labels.fresh(3);
        let b = labels.fresh(3);
        labels.pin(&b[1..2], "output");
        labels.union_all(&a, &b);
        assert_eq!(labels.find(b[2]), a[2]);
        assert_eq!(labels.pinned().get(&a[1]).map(String::as_str), Some("output"));
        assert_eq!(labels.pinned().len(), 1);
    }
}
