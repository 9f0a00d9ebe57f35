//! [`Scope`], the argument of [`Shrink`](super::Shrink): where in a module a call is and what changes there.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

/// A change of a plain field, as the shapes of the parameters around it change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FieldEdit {
    /// Module path of the layer, for example `blocks.3.depthwise`.
    pub path: String,
    /// Type of the layer, for example `Conv2d`.
    pub container: String,
    /// Name of the field, for example `groups`.
    pub field: String,
    /// Its value before.
    pub before: f64,
    /// Its value after.
    pub after: f64,
}

/// An axis of a parameter that loses elements.
///
/// ```
/// use burn_sfp_nn::{AxisChange, Scope};
///
/// let changes = [AxisChange { parameter: "attention.query.weight".into(), axis: 1, before: 4, keep: vec![0, 1] }];
/// let mut scope = Scope::new(&[], &changes);
/// scope.enter("attention", |scope| {
///     assert_eq!(scope.axis("query.weight", 1).unwrap().keep, [0, 1]);
///     assert!(scope.axis("query.weight", 0).is_none());
/// });
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AxisChange {
    /// Module path of the parameter.
    pub parameter: String,
    /// Index of the axis.
    pub axis: usize,
    /// Its length before.
    pub before: usize,
    /// Indices that are kept, ascending.
    pub keep: Vec<usize>,
}

/// A part of a module that can be left out: an element of a list, which the elements after it move up for, or what an option holds.
///
/// ```
/// use burn_sfp_nn::Removable;
///
/// let removed = [Removable { path: "blocks.1".into(), in_list: true }];
/// assert_eq!(Removable::path_without(&removed, "blocks.0.conv.weight").as_deref(), Some("blocks.0.conv.weight"));
/// assert_eq!(Removable::path_without(&removed, "blocks.2.conv.weight").as_deref(), Some("blocks.1.conv.weight"));
/// assert_eq!(Removable::path_without(&removed, "blocks.1.conv.weight"), None);
/// assert_eq!(Removable::path_before(&removed, "blocks.1.conv.weight"), "blocks.2.conv.weight");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removable {
    /// Its module path, for example `blocks.3`.
    pub path: String,
    /// Whether it is an element of a list.
    pub in_list: bool,
}

impl Removable {
    /// Whether a parameter or module with this path is part of it.
    pub fn holds(&self, path: &str) -> bool {
        path.strip_prefix(self.path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    /// The path of a parameter or module once some parts are left out; `None` if it is in one of them.
    pub fn path_without(removed: &[Self], path: &str) -> Option<String> {
        if removed.iter().any(|part| part.holds(path)) {
            return None;
        }
        let mut left: Vec<String> = Vec::new();
        let mut before = String::new();
        for name in path.split('.') {
            let index: Option<usize> = name.parse().ok();
            let is_earlier = |part: &&Self| {
                let (list, own) = part.path.rsplit_once('.').unwrap_or(("", &part.path));
                part.in_list && list == before && own.parse::<usize>().ok() < index
            };
            let moved = index.map(|index| index - removed.iter().filter(is_earlier).count().min(index));
            left.push(moved.map_or_else(|| name.to_string(), |index| index.to_string()));
            if !before.is_empty() {
                before.push('.');
            }
            before.push_str(name);
        }
        Some(left.join("."))
    }

    /// The path of a parameter or module before some parts were left out: the inverse of [`path_without`](Removable::path_without).
    pub fn path_before(removed: &[Self], path: &str) -> String {
        let mut before = String::new();
        for name in path.split('.') {
            let mut name = name.to_string();
            if let Ok(mut index) = name.parse::<usize>() {
                let of_list = |part: &Self| {
                    let (list, own) = part.path.rsplit_once('.').unwrap_or(("", &part.path));
                    own.parse::<usize>().ok().filter(|_| part.in_list && list == before)
                };
                let mut gone: Vec<usize> = removed.iter().filter_map(of_list).collect();
                gone.sort_unstable();
                gone.into_iter().for_each(|earlier| index += usize::from(earlier <= index));
                name = index.to_string();
            }
            if !before.is_empty() {
                before.push('.');
            }
            before.push_str(&name);
        }
        before
    }
}

/// A place in a module and the changes below it.
///
/// ```
/// use burn::nn::conv::Conv2dConfig;
/// use burn::tensor::Device;
/// use burn_sfp_nn::{FieldEdit, Scope, Shrink};
///
/// let mut conv = Conv2dConfig::new([4, 4], [3, 3]).with_groups(4).init(&Device::flex());
/// let edit = FieldEdit {
///     path: "depthwise".into(),
///     container: "Conv2d".into(),
///     field: "groups".into(),
///     before: 4.0,
///     after: 2.0,
/// };
/// let edits = [edit];
/// let mut scope = Scope::new(&edits, &[]);
/// scope.enter("depthwise", |scope| conv.shrink(scope));
/// assert_eq!(conv.groups, 2);
/// assert!(scope.missed().is_empty());
/// ```
#[derive(Debug)]
pub struct Scope<'a> {
    path: Vec<String>,
    edits: &'a [FieldEdit],
    taken: Vec<bool>,
    /// Edits by path and field, axes by parameter and axis.
    edit_at: HashMap<(&'a str, &'a str), usize>,
    axis_at: HashMap<(&'a str, usize), &'a AxisChange>,
    /// The parts to leave out that nothing has left out yet.
    unwanted: HashSet<&'a str>,
    /// The parts that could be left out.
    removable: Vec<Removable>,
}

impl<'a> Scope<'a> {
    /// The root of a module, with all changes.
    pub fn new(edits: &'a [FieldEdit], axes: &'a [AxisChange]) -> Self {
        // The first of several edits of one field counts.
        let edit_at = edits.iter().enumerate().rev().map(|(k, edit)| ((edit.path.as_str(), edit.field.as_str()), k));
        let axis_at = axes.iter().rev().map(|change| ((change.parameter.as_str(), change.axis), change));
        Self {
            path: Vec::new(),
            edits,
            taken: vec![false; edits.len()],
            edit_at: edit_at.collect(),
            axis_at: axis_at.collect(),
            unwanted: HashSet::new(),
            removable: Vec::new(),
        }
    }

    /// The same with parts of the module to leave out.
    ///
    /// ```
    /// use burn_sfp_nn::{Removable, Scope, Shrink};
    ///
    /// let mut widths = vec![8, 16, 32];
    /// let removed = [Removable { path: "1".into(), in_list: true }];
    /// let mut scope = Scope::new(&[], &[]).without(&removed);
    /// widths.shrink(&mut scope);
    /// assert_eq!(widths, [8, 32]);
    /// assert!(scope.unremoved().is_empty() && scope.removable().len() == 3);
    /// ```
    pub fn without(mut self, parts: &'a [Removable]) -> Self {
        self.unwanted = parts.iter().map(|part| part.path.as_str()).collect();
        self
    }

    /// Whether the part of the module at this place is left out. A container asks for each element that it can drop, after it has passed the
    /// call on to it; it says whether it is a list, whose later elements move up.
    pub fn removes(&mut self, in_list: bool) -> bool {
        let path = self.path();
        let gone = self.unwanted.remove(path.as_str());
        self.removable.push(Removable { path, in_list });
        gone
    }

    /// The parts that could be left out, in the order in which they asked.
    pub fn removable(&self) -> &[Removable] {
        &self.removable
    }

    /// Paths of the parts that should have been left out and that no call of [`removes`](Scope::removes) asked for, in their order.
    pub fn unremoved(&self) -> Vec<&'a str> {
        let mut left: Vec<&str> = self.unwanted.iter().copied().collect();
        left.sort_unstable();
        left
    }

    /// Calls `inside` with the scope of a field, a variant or an index.
    pub fn enter(&mut self, name: &str, inside: impl FnOnce(&mut Self)) {
        self.path.push(name.to_string());
        inside(self);
        self.path.pop();
    }

    /// Module path of this place.
    pub fn path(&self) -> String {
        self.path.join(".")
    }

    /// The new value of a field of this place, `None` where it stays.
    pub fn value(&mut self, field: &str) -> Option<f64> {
        let path = self.path();
        let at = *self.edit_at.get(&(path.as_str(), field))?;
        self.taken[at] = true;
        Some(self.edits[at].after)
    }

    /// The new [`value`](Scope::value) of a field that is a count.
    pub fn count(&mut self, field: &str) -> Option<usize> {
        self.value(field).map(|value| value as usize)
    }

    /// The change of an axis of a parameter below this place, `None` where it stays. `parameter` is the path from here, for example
    /// `qkv.weight`.
    pub fn axis(&self, parameter: &str, axis: usize) -> Option<&'a AxisChange> {
        let path = if self.path.is_empty() { parameter.to_string() } else { format!("{}.{parameter}", self.path()) };
        self.axis_at.get(&(path.as_str(), axis)).copied()
    }

    /// The edits that no call of [`value`](Scope::value) asked for.
    pub fn missed(&self) -> Vec<&'a FieldEdit> {
        self.edits.iter().zip(&self.taken).filter(|(_, taken)| !**taken).map(|(edit, _)| edit).collect()
    }
}
