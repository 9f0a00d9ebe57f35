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
        let mut named: Vec<(&str, &Layer)> =
            network.layers().iter().flat_map(|layer| names(network, layer).map(move |name| (name, layer))).collect();
        named.sort_by_key(|(name, _)| *name);
        for path in &self.paths {
            let from = named.partition_point(|(name, _)| *name < path.as_str());
            let alike = named[from..].iter().take_while(|(name, _)| name.starts_with(path.as_str()));
            if !excluded.add(network, alike.filter(|(name, _)| is_inside(name, path)).map(|(_, layer)| *layer)) {
                return Err(GraphError::UnknownLayer { path: path.clone(), available: available() }.into());
            }
        }
        for condition in &self.conditions {
            if !excluded.add(network, network.layers().iter().filter(|layer| condition(&layer.path))) {
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

/// The paths by which a layer can be named: its own, and those of the parameters from which its weight is computed if there are several.
pub(super) fn names<'n>(network: &'n Network, layer: &'n Layer) -> impl Iterator<Item = &'n str> {
    let made_of = layer.weight_parameters();
    let several = made_of.iter().filter(move |_| made_of.len() > 1);
    let parameters = several.map(|&parameter| network.parameters()[parameter].path.as_str());
    std::iter::once(layer.path.as_str()).chain(parameters)
}

/// Whether a path is that of a module or inside of it.
pub(super) fn is_inside(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
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
    /// Adds layers, and returns whether there is one.
    fn add<'n>(&mut self, network: &'n Network, layers: impl Iterator<Item = &'n Layer>) -> bool {
        let mut found = false;
        for layer in layers {
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
        let reason = atoms()
            .find(|atom| self.producers.contains_key(atom))
            .or_else(|| atoms().find(|atom| self.uncentered.contains(atom)));
        reason.and_then(|atom| self.reason_of(*atom)).and_then(unpruned)
    }

    /// Returns why a channel (atom) stays, if it is one of an excluded layer or of a stream that is not to be centred.
    pub fn reason_of(&self, atom: ChannelId) -> Option<String> {
        if let Some(other) = self.producers.get(&atom) {
            return Some(format!("its filters are tied to those of `{other}`, which is excluded"));
        }
        let reason = "layer normalisations read its filters, and the planner is told not to centre them";
        self.uncentered.contains(&atom).then(|| reason.to_string())
    }
}
