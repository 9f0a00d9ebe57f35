//! Where a [`Shrink`](super::Shrink) call is in the module, and what changes there.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// A plain field that changes with the shapes of the parameters around it.
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

/// An axis of a parameter that shrinks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AxisChange {
    /// Module path of the parameter.
    pub parameter: String,
    /// The axis.
    pub axis: usize,
    /// Its length before.
    pub before: usize,
    /// Indices that stay, ascending.
    pub keep: Vec<usize>,
}

/// A place in a module and what changes below it.
#[derive(Debug)]
pub struct Scope<'a> {
    path: Vec<String>,
    edits: &'a [FieldEdit],
    taken: Vec<bool>,
    /// Edits by path and field, axes by parameter and axis.
    edit_at: HashMap<(&'a str, &'a str), usize>,
    axis_at: HashMap<(&'a str, usize), &'a AxisChange>,
}

impl<'a> Scope<'a> {
    /// At the root of a module.
    pub fn new(edits: &'a [FieldEdit], axes: &'a [AxisChange]) -> Self {
        // The first of equal ones counts.
        let edit_at = edits.iter().enumerate().rev().map(|(k, edit)| ((edit.path.as_str(), edit.field.as_str()), k));
        let axis_at = axes.iter().rev().map(|change| ((change.parameter.as_str(), change.axis), change));
        Self {
            path: Vec::new(),
            edits,
            taken: vec![false; edits.len()],
            edit_at: edit_at.collect(),
            axis_at: axis_at.collect(),
        }
    }

    /// Goes into a field (or a variant, or an index) and out again.
    pub fn enter(&mut self, name: &str, inside: impl FnOnce(&mut Self)) {
        self.path.push(name.to_string());
        inside(self);
        self.path.pop();
    }

    /// Module path of this place.
    pub fn path(&self) -> String {
        self.path.join(".")
    }

    /// The new value of a field of this place, where it changes.
    pub fn value(&mut self, field: &str) -> Option<f64> {
        let path = self.path();
        let at = *self.edit_at.get(&(path.as_str(), field))?;
        self.taken[at] = true;
        Some(self.edits[at].after)
    }

    /// [`value`](Scope::value) of a field that counts something.
    pub fn count(&mut self, field: &str) -> Option<usize> {
        self.value(field).map(|value| value as usize)
    }

    /// How an axis of a parameter below this place shrinks, by the parameter's path from here (`qkv.weight`).
    pub fn axis(&self, parameter: &str, axis: usize) -> Option<&'a AxisChange> {
        let path = if self.path.is_empty() { parameter.to_string() } else { format!("{}.{parameter}", self.path()) };
        self.axis_at.get(&(path.as_str(), axis)).copied()
    }

    /// Edits whose place was never reached.
    pub fn missed(&self) -> Vec<&'a FieldEdit> {
        self.edits.iter().zip(&self.taken).filter(|(_, taken)| !**taken).map(|(edit, _)| edit).collect()
    }
}
