//! Plain fields that change with the shapes.

use burn_sfp_graph::GraphModule;
use burn_sfp_nn::{AxisChange, FieldEdit, Removable, Scope};

use crate::PruneError;
use crate::plan::ParameterCut;

/// Sets the plain fields of a module whose parameters have been cut.
pub(super) fn set_fields<M: GraphModule>(
    smaller: &mut M,
    cuts: &[ParameterCut],
    fields: &[FieldEdit],
) -> Result<(), PruneError> {
    let axes = changes(cuts);
    let mut scope = Scope::new(fields, &axes);
    if let Some(smaller) = smaller.shrinkable() {
        smaller.shrink(&mut scope);
    }
    missed(&scope)
}

/// Leaves parts of a module out.
pub(super) fn leave_out<M: GraphModule>(model: &mut M, parts: &[Removable]) -> Result<(), PruneError> {
    if parts.is_empty() {
        return Ok(());
    }
    let mut scope = Scope::new(&[], &[]).without(parts);
    if let Some(model) = model.shrinkable() {
        model.shrink(&mut scope);
    }
    match scope.unremoved().first() {
        None => Ok(()),
        Some(path) => Err(PruneError::BlockStays { path: path.to_string() }),
    }
}

fn changes(cuts: &[ParameterCut]) -> Vec<AxisChange> {
    let change = |cut: &ParameterCut| {
        let path = cut.path.clone();
        let axis = move |axis: &crate::plan::AxisCut| AxisChange {
            parameter: path.clone(),
            axis: axis.axis,
            before: axis.length,
            keep: axis.keep.clone(),
        };
        cut.axes.iter().map(axis).collect::<Vec<_>>()
    };
    cuts.iter().flat_map(change).collect()
}

/// The error of the first field that could not be set.
fn missed(scope: &Scope<'_>) -> Result<(), PruneError> {
    match scope.missed().first() {
        None => Ok(()),
        Some(edit) => Err(PruneError::NeedsShrink {
            path: edit.path.clone(),
            container: edit.container.clone(),
            field: edit.field.clone(),
            before: edit.before,
            after: edit.after,
        }),
    }
}
