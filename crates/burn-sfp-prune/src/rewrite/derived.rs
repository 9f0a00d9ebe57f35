//! A plan compared with what follows from the channels that it removes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use burn_sfp_graph::{ChannelId, Network, ScalarChange};
use burn_sfp_nn::FieldEdit;

use crate::cuts::{cuts, scales, unzeroed};
use crate::plan::{ParameterCut, ScaledPart};
use crate::{PruneError, PrunePlan};

impl PrunePlan {
    /// Checks that the cuts, the plain fields and the means taken out are those that the channels of the plan ask for in this network, and
    /// returns these channels, closed. Parameters that the network's forward passes do not reach are left out: the plan may have been
    /// made for more passes.
    pub(super) fn removed_from(&self, network: &Network) -> Result<BTreeSet<ChannelId>, PruneError> {
        self.check_model(network)?;
        let channels: BTreeSet<ChannelId> = self.channels.iter().copied().collect();
        if let Some((id, reason)) = channels.iter().find_map(|id| Some((id, network.flow().pinned(*id)?))) {
            return Err(PruneError::InvalidPlan(format!("it removes channel {id}, which has to stay: {reason}")));
        }
        let removed = network.flow().closed(&channels);
        let unreached: HashSet<&str> = network.unreached().into_iter().map(|found| found.path.as_str()).collect();
        let differ = |what: &str, path: &str| {
            Err(PruneError::InvalidPlan(format!(
                "its {what} of `{path}` is not that of the channels that it removes from the network"
            )))
        };
        let expected = cuts(network, &removed);
        if let Some(path) = differing(&expected, &self.cuts).find(|path| !unreached.contains(path)) {
            return differ("cut", path);
        }
        let at = |edit: &'_ FieldEdit| (edit.path.clone(), edit.field.clone());
        let set: HashMap<(String, String), &FieldEdit> = self.fields.iter().map(|edit| (at(edit), edit)).collect();
        let fields = network.field_edits(&removed);
        if let Some(missing) = fields.iter().find(|edit| set.get(&at(edit)) != Some(edit)) {
            return differ("plain field", &format!("{}.{}", missing.path, missing.field));
        }
        if let Some(one) = unzeroed(network, &removed).iter().find(|one| !self.unzeroed.contains(one)) {
            return differ("axis with its own values", &one.path);
        }
        let centered = network.centered(&removed).into_iter();
        let expected: BTreeSet<(&str, usize)> =
            centered.map(|(index, axis)| (network.parameters()[index].path.as_str(), axis)).collect();
        let found: BTreeSet<(&str, usize)> = self.centered.iter().map(|of| (of.path.as_str(), of.axis)).collect();
        match expected.symmetric_difference(&found).find(|(path, _)| !unreached.contains(path)) {
            None => Ok(removed),
            Some((path, _)) => differ("mean", path),
        }
    }

    /// Checks that the network has the plan's parameters.
    fn check_model(&self, network: &Network) -> Result<(), PruneError> {
        let found: HashMap<&str, &[usize]> =
            network.parameters().iter().map(|found| (found.path.as_str(), found.shape.as_slice())).collect();
        for expected in &self.model {
            if found.get(expected.path.as_str()) != Some(&expected.shape.as_slice()) {
                let what = format!("the network has no parameter `{}` of shape {:?}", expected.path, expected.shape);
                return Err(PruneError::ModelMismatch { what });
            }
        }
        Ok(())
    }

    /// Checks that the plan's factors are those that the removed channels and the changed scalars ask for, and no others.
    pub(super) fn check_factors(
        &self,
        network: &Network,
        removed: &BTreeSet<ChannelId>,
        changes: &[ScalarChange],
    ) -> Result<(), PruneError> {
        let mut expected = Factors::new();
        let asked = scales(network, removed);
        asked.iter().for_each(|scale| multiply(&mut expected, &scale.path, &scale.part, scale.factor));
        for (layer, factor) in changes.iter().filter_map(|change| change.undone_by) {
            let layer = &network.layers()[layer];
            for index in std::iter::once(layer.weight()).chain(layer.bias()) {
                multiply(&mut expected, &network.parameters()[index].path, &None, factor);
            }
        }
        let mut found = Factors::new();
        self.scales.iter().for_each(|scale| multiply(&mut found, &scale.path, &scale.part, scale.factor));
        let of = |map: &Factors<'_>, of: &Scaled<'_>| map.get(of).copied().unwrap_or(1.0);
        let differ = expected.keys().chain(found.keys()).find(|scaled| {
            let (expected, found) = (of(&expected, scaled), of(&found, scaled));
            (expected - found).abs() > 1e-9 * expected.abs()
        });
        match differ {
            None => Ok(()),
            Some(scaled) => {
                let (path, expected, found) = (scaled.0, of(&expected, scaled), of(&found, scaled));
                let what = format!("it multiplies `{path}` by {found} where the network asks for {expected}");
                Err(PruneError::InvalidPlan(what))
            }
        }
    }
}

/// A parameter by its path, or some indices of one of its axes.
type Scaled<'a> = (&'a str, Option<(usize, usize, usize)>);

/// The factor of each.
type Factors<'a> = BTreeMap<Scaled<'a>, f64>;

fn multiply<'a>(factors: &mut Factors<'a>, path: &'a str, part: &Option<ScaledPart>, factor: f64) {
    let part = part.as_ref().map(|part| (part.axis, part.start, part.end));
    *factors.entry((path, part)).or_insert(1.0) *= factor;
}

/// The parameters that two lists of cuts cut differently.
fn differing<'a>(a: &'a [ParameterCut], b: &'a [ParameterCut]) -> impl Iterator<Item = &'a str> {
    let of = |list: &'a [ParameterCut]| list.iter().map(|cut| (cut.path.as_str(), cut)).collect::<BTreeMap<_, _>>();
    let (a, b) = (of(a), of(b));
    let paths: BTreeSet<&str> = a.keys().chain(b.keys()).copied().collect();
    paths.into_iter().filter(move |path| a.get(path) != b.get(path))
}
