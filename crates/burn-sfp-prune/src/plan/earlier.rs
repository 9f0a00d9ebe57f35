//! [`EarlierPruning`] of a plan: whether each leaves what the next one finds.

use std::collections::HashMap;

use burn_sfp_graph::ParameterShape;
use burn_sfp_nn::Removable;

use super::blocks::check_blocks;
use super::check::{Shapes, check_cut_list, shapes_of};
use super::{EarlierPruning, ParameterCut, PrunePlan};
use crate::mask::masked_weight;

/// Checks the prunings before a plan: each against itself, and against what the next one finds.
pub(crate) fn check_earlier(plan: &PrunePlan) -> Result<(), String> {
    let next = plan.earlier.iter().skip(1).map(|earlier| &earlier.model).chain([&plan.model]);
    plan.earlier.iter().zip(next).try_for_each(|(earlier, next)| {
        let shapes = shapes_of(&earlier.model)?;
        check_cut_list(&earlier.cuts, &shapes)?;
        check_blocks(&earlier.blocks, &shapes)?;
        check_next(earlier, &shapes_of(next)?)
    })
}

fn check_next(earlier: &EarlierPruning, next: &Shapes<'_>) -> Result<(), String> {
    let cuts: HashMap<&str, &ParameterCut> = earlier.cuts.iter().map(|cut| (cut.path.as_str(), cut)).collect();
    for ParameterShape { path: before, shape, .. } in &earlier.model {
        let Some(path) = Removable::path_without(&earlier.blocks, before) else { continue };
        let mut left = shape.clone();
        if let Some(cut) = cuts.get(before.as_str()) {
            cut.shorten(&mut left);
        }
        // In between, a mask may have been folded in, a batch normalisation too, and a layer may have been made sparse.
        let found = next.get(path.as_str()).copied();
        let changed = found.is_some_and(|found| found == [0] || found.len() >= 2 && found[1] == 1);
        if masked_weight(&path).is_some() || found == Some(&left) || changed {
            continue;
        }
        let found = found.map_or("none".to_string(), |found| format!("{found:?}"));
        return Err(format!("an earlier pruning leaves `{path}` with shape {left:?}, and the next one found {found}"));
    }
    Ok(())
}
