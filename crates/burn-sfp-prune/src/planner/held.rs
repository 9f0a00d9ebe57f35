//! [`groups`]: how many filters of each group were asked for, how many went, and what holds the others.

use std::collections::{BTreeMap, BTreeSet};

use burn_sfp_graph::{ChannelId, Network};
use burn_sfp_nn::listed;

use super::exclude::Excluded;
use crate::budget::{RemovalOrder, StopRule, share_of};
use crate::group::{Group, GroupCut, Groups};
use crate::kept::Kept;
use crate::plan::{GroupPlan, Held};
use crate::select::Bounds;

/// How many operations a reason names.
const NAMED: usize = 3;

/// What a report is written from.
pub(super) struct Report<'a> {
    pub network: &'a Network,
    pub groups: &'a Groups,
    pub rule: &'a dyn StopRule,
    pub cut: GroupCut,
    pub scores: &'a BTreeMap<ChannelId, f64>,
    /// The scores of filters by the path of their layer, from which those of the channels were made.
    pub ranked: &'a BTreeMap<String, Vec<f64>>,
    pub excluded: &'a Excluded,
    pub kept: &'a Kept,
    /// What holds for each group.
    pub bounds: &'a [Bounds],
    /// The channels (atoms) that are removed.
    pub removed: &'a BTreeSet<ChannelId>,
}

/// Returns what became of each group that the planner cuts.
pub(super) fn groups(report: &Report<'_>) -> Vec<GroupPlan> {
    let cut = |group: &&Group| group.cut.is_none_or(|cut| cut == report.cut);
    let mut found: Vec<(&Group, GroupPlan)> = Vec::new();
    for (index, group) in report.groups.groups.iter().enumerate().filter(|(_, group)| cut(group)) {
        found.push((group, report.group(group, report.bounds.get(index).copied().unwrap_or_default())));
    }
    // Only sets of several filters are tied somewhere; all groups are looked up in one pass over the operations.
    let short = found.iter().filter(|(group, plan)| group.layers.len() > 1 && !plan.held.is_empty());
    let meetings = report.network.meetings(&short.filter_map(|(group, _)| group.channels.first().copied()).collect());
    for (group, plan) in &mut found {
        let Some(places) = group.channels.first().and_then(|channel| meetings.get(channel)) else { continue };
        let others = plan.layers[1..].iter().map(|layer| format!("`{layer}`")).collect::<Vec<_>>().join(", ");
        let tied = format!("; tied to {others} by {}", listed(places, NAMED));
        plan.held.iter_mut().for_each(|held| held.reason.push_str(&tied));
    }
    found.into_iter().map(|(_, plan)| plan).collect()
}

impl Report<'_> {
    fn group(&self, group: &Group, bounds: Bounds) -> GroupPlan {
        let path = |&layer: &usize| self.network.layers()[layer].path.clone();
        let all = self.filters(group, group.channels.iter().copied());
        let removed = self.filters(group, group.channels.iter().copied().filter(|atom| self.removed.contains(atom)));
        // A policy that ranks none of these layers asks for nothing here.
        let ranked = group.layers.iter().any(|layer| self.ranked.contains_key(&self.network.layers()[*layer].path))
            || group.channels.iter().any(|atom| self.scores.contains_key(atom));
        let asked = match (bounds.share, self.rule.order()) {
            (Some(share), _) if ranked => Some(share_of(share, all.len())),
            (None, RemovalOrder::PerGroup) if ranked => self.rule.asked(all.len()),
            _ => None,
        };
        let held = if !ranked || asked.is_some_and(|asked| removed.len() >= asked.max(1)) {
            Vec::new()
        } else {
            self.held(group, (asked, bounds), all.len(), &removed)
        };
        GroupPlan {
            layers: group.layers.iter().map(path).collect(),
            filters: all.len(),
            asked,
            removed: removed.len(),
            held,
        }
    }

    /// The filters of the group's first layer that channels hold.
    fn filters(&self, group: &Group, atoms: impl Iterator<Item = ChannelId>) -> BTreeSet<usize> {
        let first = group.layers.first();
        let producers = atoms.flat_map(|atom| &self.groups.channels[&atom].producers);
        producers.filter(|(layer, _)| Some(layer) == first).map(|&(_, filter)| filter).collect()
    }

    /// What holds the filters that stay.
    fn held(
        &self,
        group: &Group,
        (asked, bounds): (Option<usize>, Bounds),
        all: usize,
        removed: &BTreeSet<usize>,
    ) -> Vec<Held> {
        if asked == Some(0) {
            // A share may be too small for this group, or none may be wanted at all.
            let wants = self.rule.asked(usize::MAX >> 12).is_some_and(|most| most > 0);
            let reason = format!("{} of {all} filters is less than one", self.rule.name());
            return if wants { vec![Held { filters: all, reason }] } else { Vec::new() };
        }
        let mut reasons: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
        for &atom in group.channels.iter().filter(|atom| !self.removed.contains(atom)) {
            let filters: BTreeSet<usize> =
                self.filters(group, std::iter::once(atom)).difference(removed).copied().collect();
            let short = asked.is_some().then_some(bounds);
            let Some(reason) = self.reason(group, atom, short, filters.len()) else { continue };
            reasons.entry(reason).or_default().extend(filters);
        }
        let mut held: Vec<Held> =
            reasons.into_iter().map(|(reason, filters)| Held { filters: filters.len(), reason }).collect();
        held.sort_by(|a, b| b.filters.cmp(&a.filters).then_with(|| a.reason.cmp(&b.reason)));
        held
    }

    /// Why a channel stays; `None` if it just was not asked for. `short` is there where more was asked for
    /// than went: what holds for the group.
    fn reason(&self, group: &Group, atom: ChannelId, short: Option<Bounds>, filters: usize) -> Option<String> {
        if let Some(why) = self.network.why_pinned(atom) {
            return Some(why);
        }
        if let Some(why) = self.kept.reason(atom) {
            return Some(why.to_string());
        }
        if let Some(why) = self.excluded.reason_of(atom) {
            let alone = group.layers.len() == 1;
            return Some(if alone { "it is excluded".to_string() } else { why });
        }
        if !self.scores.contains_key(&atom) {
            let mut paths = group.layers.iter().map(|&layer| &self.network.layers()[layer].path);
            let other = paths.find(|path| !self.ranked.contains_key(*path));
            return other.map(|path| format!("the policy gives `{path}` no scores"));
        }
        let bounds = short?;
        if bounds.multiple > 1 {
            return Some(format!("what stays is a multiple of {}", bounds.multiple));
        }
        if bounds.least > 1 {
            return Some(format!("at least {} are to stay", bounds.least));
        }
        if filters > 1 {
            let places = self.network.tied_at(atom);
            let tied = if places.is_empty() { String::new() } else { format!(", tied by {}", listed(&places, NAMED)) };
            return Some(format!("they leave in sets of {filters}{tied}"));
        }
        Some("every layer, group and parameter keeps at least one".to_string())
    }
}
