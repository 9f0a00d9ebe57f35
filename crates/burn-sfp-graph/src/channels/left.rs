//! Shapes and indices that are left once channels are removed.

use std::collections::{BTreeSet, HashMap};

use burn::backend::ir::{TensorId, TensorIr};

use super::ids::{Axes, ChannelId};

/// What is left of tensors without the `removed` channels (closed, see [`Flow::closed`](crate::Flow::closed)).
#[derive(Clone, Copy)]
pub(crate) struct Left<'a> {
    pub tensors: &'a HashMap<TensorId, Axes>,
    pub removed: &'a BTreeSet<ChannelId>,
}

impl Left<'_> {
    /// The tensor's shape without the removed channels.
    pub fn shape(&self, tensor: &TensorIr) -> Vec<usize> {
        let axes = self.tensors.get(&tensor.id);
        let along = |(axis, &length): (usize, &usize)| match axes.and_then(|axes| axes.get(axis)) {
            Some(Some(ids)) => ids.iter().filter(|id| !self.removed.contains(id)).count(),
            _ => length,
        };
        tensor.shape.iter().enumerate().map(along).collect()
    }

    /// For each index of an axis whether it stays; `None` where no channel runs along the axis.
    pub fn keeps(&self, tensor: TensorId, axis: usize) -> Option<Vec<bool>> {
        let ids = self.tensors.get(&tensor)?.get(axis)?.as_ref()?;
        Some(ids.iter().map(|id| !self.removed.contains(id)).collect())
    }
}
