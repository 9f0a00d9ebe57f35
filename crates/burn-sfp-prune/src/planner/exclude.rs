//! [`Exclude`]: layers that are left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use burn_sfp_graph::{ChannelId, GraphError, Layer, Network};

use crate::PruneError;
use crate::kept::Kept;
use crate::plan::Unpruned;

/// A condition on the module path of a layer.
type Condition = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// The layers that a planner leaves alone, by module path or by a condition on it.
#[derive(Clone, Default)]
pub(super) struct Exclude {
    paths: Vec<String>,
    conditions: Vec<Condition>,
}

impl Exclude {
    pub fn add_paths<S: Into<String>>(&mut self, paths: impl IntoIterator<Item = S>) {
        self.paths.extend(paths.into_iter().map(Into::into));
    }

    pub fn add_condition(&mut self, condition: impl Fn(&str) -> bool + Send + Sync + 'static) {
        self.conditions.push(Arc::new(condition));
    }

    /// Finds the layers and their channels. A path or a condition that no layer meets is an error.
    pub fn resolve(&self, network: &Network) -> Result<Excluded, PruneError> {
        let available = || network.layers().iter().map(|layer| layer.path.clone()).collect();
        let mut excluded = Excluded::default();
        for path in &self.paths {
            if !excluded.add(network, |layer| is_inside(layer, path)) {
                return Err(GraphError::UnknownLayer { path: path.clone(), available: available() }.into());
            }
        }
        for condition in &self.conditions {
            if !excluded.add(network, |layer| condition(layer)) {
                return Err(PruneError::NothingExcluded { available: available() });
            }
        }
        Ok(excluded)
    }
}

impl fmt::Debug for Exclude {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let conditions = self.conditions.len();
        f.debug_struct("Exclude").field("paths", &self.paths).field("conditions", &conditions).finish()
    }
}

/// Whether a layer is the module at a path or inside of it.
fn is_inside(layer: &str, module: &str) -> bool {
    layer.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The excluded layers of one network.
#[derive(Default)]
pub(super) struct Excluded {
    paths: BTreeSet<String>,
    /// The atoms of their output channels, each with the first excluded layer that produces it.
    producers: BTreeMap<ChannelId, String>,
    /// Other atoms that stay: those of streams that are not to be centred.
    uncentered: BTreeSet<ChannelId>,
}

impl Excluded {
    /// Adds the layers whose path meets a condition, and returns whether there is one.
    fn add(&mut self, network: &Network, condition: impl Fn(&str) -> bool) -> bool {
        let mut found = false;
        for layer in network.layers().iter().filter(|layer| condition(&layer.path)) {
            found = true;
            self.paths.insert(layer.path.clone());
            for atom in layer.output_channels().iter().flat_map(|channel| network.flow().atoms_of(channel)) {
                self.producers.entry(*atom).or_insert_with(|| layer.path.clone());
            }
        }
        found
    }

    pub fn contains(&self, path: &str) -> bool {
        self.paths.contains(path)
    }

    /// Adds channels (atoms) that stay because the streams that they belong to are not to be centred.
    pub fn add_channels(&mut self, channels: BTreeSet<ChannelId>) {
        self.uncentered.extend(channels);
    }

    /// Returns the channels (atoms) that stay.
    pub fn channels(&self) -> BTreeSet<ChannelId> {
        self.producers.keys().chain(&self.uncentered).copied().collect()
    }

    /// Returns why none of a layer's filters was considered: it cannot be pruned, it is excluded, it is tied to such a layer, or the module
    /// does not follow.
    pub fn reason(&self, network: &Network, layer: &Layer, kept: &Kept) -> Option<Unpruned> {
        let unpruned = |reason: String| Some(Unpruned { path: layer.path.clone(), reason });
        if let Some(reason) = &layer.not_prunable {
            return unpruned(reason.clone());
        }
        if self.contains(&layer.path) {
            return unpruned("it is excluded".into());
        }
        let flow = network.flow();
        let atoms = || layer.output_channels().iter().flat_map(|channel| flow.atoms_of(channel));
        let stays = |atom: &ChannelId| {
            let kept = flow.pinned(*atom).or(kept.reason(*atom)).is_some();
            kept || self.producers.contains_key(atom) || self.uncentered.contains(atom)
        };
        if !atoms().all(stays) {
            return None;
        }
        if let Some(reason) = atoms().find_map(|atom| kept.reason(*atom)) {
            return unpruned(reason.to_string());
        }
        match atoms().find_map(|atom| self.producers.get(atom)) {
            Some(other) => unpruned(format!("its filters are tied to those of `{other}`, which is excluded")),
            None if atoms().any(|atom| self.uncentered.contains(atom)) => {
                unpruned("layer normalisations read its filters, and the planner is told not to centre them".into())
            }
            None => None,
        }
    }
}
