//! The union-find of channel ids: an id for each index of each axis, so that channels, not whole axes, are followed.
//!
//! Most ids are *atoms*. Where a reshape or a grouped convolution gives an axis two coordinates (head and dimension, group and member), its
//! ids are *products* of atoms: the index is removed when any of its atoms is, so what remains is rectangular whichever coordinate is cut.

use std::collections::HashMap;

use super::pins::{Pin, Pins};
use super::ties::Ties;

/// Identifies a channel: a set of indices (of axes of tensors and parameters) that can only be removed together.
pub type ChannelId = u32;

/// The channel ids along each axis of a tensor: `None` where no channel runs along the axis (samples, positions).
pub(crate) type Axes = Vec<Option<Vec<ChannelId>>>;

/// Union-find over channel ids, with a reason for each atom that must stay.
#[derive(Debug, Default)]
pub(crate) struct ChannelSets {
    parent: Vec<ChannelId>,
    /// Which call of `fresh` made an id: the axis that it first stood on.
    family: Vec<u32>,
    families: u32,
    /// The factors of roots that are products.
    parts: HashMap<ChannelId, Vec<ChannelId>>,
    products: HashMap<(ChannelId, ChannelId), ChannelId>,
    pins: Pins,
    /// The operations that tied indices of one axis to each other, by root.
    ties: Ties,
    /// Position of the operation that is followed at the moment: where pins are made.
    pub place: Option<usize>,
}

impl ChannelSets {
    /// `count` ids that no other index carries yet.
    pub fn fresh(&mut self, count: usize) -> Vec<ChannelId> {
        let start = self.parent.len() as ChannelId;
        self.parent.extend(start..start + count as ChannelId);
        self.family.extend(std::iter::repeat_n(self.families, count));
        self.families += 1;
        (start..start + count as ChannelId).collect()
    }

    /// How many ids there are.
    pub fn len(&self) -> usize {
        self.parent.len()
    }

    /// The id of an index with two coordinates.
    pub fn product(&mut self, outer: ChannelId, inner: ChannelId) -> ChannelId {
        let (outer, inner) = (self.find(outer), self.find(inner));
        if outer == inner {
            return outer;
        }
        if let Some(&known) = self.products.get(&(outer, inner)) {
            return known;
        }
        let id = self.parent.len() as ChannelId;
        self.parent.push(id);
        self.family.push(u32::MAX);
        self.parts.insert(id, vec![outer, inner]);
        self.products.insert((outer, inner), id);
        id
    }

    /// Whether a root is a product. Most are atoms, which have a family.
    pub fn is_product(&self, root: ChannelId) -> bool {
        self.family[root as usize] == u32::MAX && self.parts.contains_key(&root)
    }

    /// The set's representative.
    pub fn find(&mut self, id: ChannelId) -> ChannelId {
        let mut root = id;
        while self.parent[root as usize] != root {
            root = self.parent[root as usize];
        }
        let mut at = id;
        while self.parent[at as usize] != root {
            at = std::mem::replace(&mut self.parent[at as usize], root);
        }
        root
    }

    /// Whether an id may be removed as far as is known: not all of its atoms are pinned.
    pub fn is_free(&self, id: ChannelId) -> bool {
        let mut root = id;
        while self.parent[root as usize] != root {
            root = self.parent[root as usize];
        }
        match self.parts.get(&root) {
            Some(parts) => parts.iter().any(|&part| self.is_free(part)),
            None => !self.pins.contains(root),
        }
    }

    /// The atoms of a id, outermost first; of an atom, itself.
    pub fn atoms(&mut self, id: ChannelId) -> Vec<ChannelId> {
        let root = self.find(id);
        match self.parts.get(&root).cloned() {
            None => vec![root],
            Some(parts) => {
                let mut atoms = Vec::with_capacity(2);
                for part in parts {
                    for atom in self.atoms(part) {
                        if !atoms.contains(&atom) {
                            atoms.push(atom);
                        }
                    }
                }
                atoms
            }
        }
    }

    /// Makes two ids one set.
    pub fn union(&mut self, a: ChannelId, b: ChannelId) {
        let (a, b) = (self.find(a), self.find(b));
        if a == b {
            return;
        }
        match (self.is_product(a), self.is_product(b)) {
            (false, false) => self.join(a, b),
            (true, false) => self.define(b, a),
            (false, true) => self.define(a, b),
            (true, true) => {
                let (left, right) = (self.atoms(a), self.atoms(b));
                if left.len() == right.len() {
                    // The same coordinates on both sides.
                    left.iter().zip(&right).for_each(|(&l, &r)| self.union(l, r));
                } else {
                    // Other coordinates: nothing less than all of them keeps both sides rectangular.
                    left.iter().chain(&right[1..]).for_each(|&atom| self.union(right[0], atom));
                    self.tie(right[0]);
                }
                // The atoms' sets are the same now; one product stands for both.
                self.settle(a, b);
            }
        }
    }

    /// One of two products with the same atoms takes the place of both. Its factors are written down as atoms, so that it
    /// cannot be made of itself by way of the other.
    fn settle(&mut self, a: ChannelId, b: ChannelId) {
        let atoms = self.atoms(a);
        self.parts.remove(&b);
        match atoms[..] {
            [atom] => {
                self.parts.remove(&a);
                self.parent[a as usize] = atom;
                self.parent[b as usize] = atom;
            }
            _ => {
                self.parts.insert(a, atoms);
                self.parent[b as usize] = a;
            }
        }
    }

    /// Joins two atoms; the smaller id stays, so that the numbering does not depend on the order of unions.
    fn join(&mut self, a: ChannelId, b: ChannelId) {
        let (root, child) = (a.min(b), a.max(b));
        self.parent[child as usize] = root;
        self.ties.join(root, child);
        if self.family[root as usize] == self.family[child as usize] {
            self.tie(root);
        }
        for pin in self.pins.take(child) {
            self.pins.add(root, pin);
        }
    }

    /// An atom turns out to be a product.
    fn define(&mut self, atom: ChannelId, product: ChannelId) {
        let atoms = self.atoms(product);
        if atoms.contains(&atom) {
            // It would be a product of itself: all factors are one.
            atoms.iter().for_each(|&other| self.union(atom, other));
            self.settle(product, product);
            return;
        }
        atoms.iter().for_each(|&atom| self.tie(atom));
        for pin in self.pins.take(atom) {
            atoms.iter().for_each(|&atom| self.pins.add(atom, pin));
        }
        self.parent[atom as usize] = product;
    }

    /// Remembers that the present operation ties indices of one axis to each other.
    fn tie(&mut self, atom: ChannelId) {
        if let Some(place) = self.place {
            let root = self.find(atom);
            self.ties.add(root, place);
        }
    }

    /// The operations that tied indices of one axis to each other, by atom.
    pub fn ties(&self) -> &Ties {
        &self.ties
    }

    /// Index by index, two equally long lists become one.
    pub fn union_all(&mut self, a: &[ChannelId], b: &[ChannelId]) {
        for (&a, &b) in a.iter().zip(b) {
            self.union(a, b);
        }
    }

    /// The ids must stay, and why.
    pub fn pin(&mut self, ids: &[ChannelId], reason: &str) {
        let pin = Pin { reason: self.pins.intern(reason), place: self.place };
        for &id in ids {
            let root = self.find(id);
            if self.is_product(root) {
                for atom in self.atoms(root) {
                    self.pins.add(atom, pin);
                }
            } else {
                self.pins.add(root, pin);
            }
        }
    }

    /// Why each pinned atom must stay.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// The axis that an atom first stood on.
    pub fn family(&self, atom: ChannelId) -> u32 {
        self.family[atom as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unions_keep_the_smallest_id_and_the_reason() {
        let mut ids = ChannelSets::default();
        let a = ids.fresh(3);
        let b = ids.fresh(3);
        ids.pin(&b[1..2], "output");
        ids.union_all(&a, &b);
        assert_eq!(ids.find(b[2]), a[2]);
        assert_eq!(ids.pins().of(a[1]).iter().map(|pin| ids.pins().reason(pin)).collect::<Vec<_>>(), ["output"]);
        assert!(!ids.pins().contains(b[1]) && !ids.pins().contains(a[0]));
    }

    #[test]
    fn an_atom_that_becomes_a_product_hands_its_pin_down() {
        let mut ids = ChannelSets::default();
        let flat = ids.fresh(6);
        let (heads, dims) = (ids.fresh(2), ids.fresh(3));
        ids.pin(&flat[..1], "output");
        for (k, &id) in flat.iter().enumerate() {
            let product = ids.product(heads[k / 3], dims[k % 3]);
            ids.union(id, product);
        }
        assert_eq!(ids.atoms(flat[4]), [heads[1], dims[1]]);
        let pinned: Vec<ChannelId> =
            [heads[0], heads[1], dims[0], dims[1]].into_iter().filter(|&id| ids.pins().contains(id)).collect();
        assert_eq!(pinned, [heads[0], dims[0]]);
    }

    #[test]
    fn products_with_the_same_coordinates_join_and_others_collapse() {
        let mut ids = ChannelSets::default();
        let (a, b) = (ids.fresh(2), ids.fresh(2));
        let (x, y) = (ids.product(a[0], a[1]), ids.product(b[0], b[1]));
        ids.union(x, y);
        assert_eq!((ids.find(b[0]), ids.find(b[1])), (a[0], a[1]));
        let c = ids.fresh(1)[0];
        let deep = ids.product(x, c);
        ids.union(deep, x);
        assert_eq!(ids.atoms(deep), [a[0]]);
        // A product of itself.
        let d = ids.fresh(2);
        let own = ids.product(d[0], d[1]);
        ids.union(d[0], own);
        assert_eq!(ids.atoms(d[1]), ids.atoms(d[0]));
    }
}
