//! Which layers and normalisations return something else than in the original.

use std::collections::HashSet;

use burn_sfp_graph::{Network, Step, StepKind};

use super::counterpart::Original;

/// For each step of the pruned network whether its output differs from the original's, removed channels apart: whether it, or something
/// before it, lost inputs or has other values. Filters that merely left do not count.
pub(super) fn affected(original: &Original<'_>, pruned: &Network, steps: &[Step]) -> Vec<bool> {
    let mut changed: HashSet<usize> = HashSet::new();
    for layer in pruned.layers() {
        for &parameter in layer.weight_parameters() {
            let cuts = original.cuts(&pruned.parameters()[parameter].path);
            // The axes of a weight that is not stored as it is applied are those of several parameters: each may be that of inputs.
            let lost = cuts.iter().any(|cut| !layer.is_stored() || cut.axis == layer.kind.input_axis());
            if lost && !layer.kind.reads_indices() {
                changed.insert(parameter);
            }
        }
    }
    let of_steps = pruned.parameters_of_steps();
    for (index, parameter) in pruned.parameters().iter().enumerate() {
        let cuts = original.cuts(&parameter.path);
        if !cuts.is_empty() && !of_steps.contains(&index) {
            changed.insert(index);
        }
        let Some(data) = pruned.parameter_data_at(index).filter(|data| data.dtype().is_float()) else { continue };
        let same = original.value(&parameter.path).is_some_and(|values| {
            data.num_elements() == values.len() && data.iter::<f64>().zip(&values).all(|(a, &b)| a == b)
        });
        if !same {
            changed.insert(index);
        }
    }
    let mut affected = pruned.depend_on(steps, &changed);
    if let Some(first) = behind_blocks(original, steps) {
        affected[first..].fill(true);
    }
    affected
}

/// The first step behind a block that is left out: whatever comes after it may read another stream.
fn behind_blocks(original: &Original<'_>, steps: &[Step]) -> Option<usize> {
    let layers = original.network.layers();
    let is_gone = |path: &str| original.plan.blocks.iter().any(|block| block.holds(path));
    let gone = layers.iter().position(|layer| is_gone(&layer.path))?;
    let before: HashSet<&str> = layers[..gone].iter().map(|layer| layer.path.as_str()).collect();
    let is_behind = |step: &Step| {
        matches!(step.kind, StepKind::Layer(_)) && !before.contains(original.plan.path_before(&step.path).as_str())
    };
    steps.iter().position(is_behind)
}
