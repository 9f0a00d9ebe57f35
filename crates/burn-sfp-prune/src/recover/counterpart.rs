//! Which layer of the original a layer of the pruned network stands for.

use std::collections::HashMap;

use burn_sfp_graph::{Layer, Network, Step, StepKind};

use crate::PrunePlan;
use crate::plan::{AxisCut, ParameterCut};

/// The original network and the plan, to look up what stands for what.
pub(super) struct Original<'a> {
    pub plan: &'a PrunePlan,
    pub network: &'a Network,
    pub steps: Vec<Step>,
    by_path: HashMap<String, usize>,
    cuts: HashMap<&'a str, &'a ParameterCut>,
}

/// The layer of the original that a layer stands for.
pub(super) struct Counterpart {
    /// Index of its step in the original.
    pub step: usize,
    /// For each filter of the pruned layer its index in the original.
    pub filters: Vec<usize>,
}

impl<'a> Original<'a> {
    pub fn new(plan: &'a PrunePlan, network: &'a Network) -> Self {
        let steps = network.steps();
        let layers = steps.iter().enumerate().filter(|(_, step)| matches!(step.kind, StepKind::Layer(_)));
        let by_path = layers.map(|(index, step)| (step.path.clone(), index)).collect();
        let cuts = plan.cuts.iter().map(|cut| (cut.path.as_str(), cut)).collect();
        Self { plan, network, steps, by_path, cuts }
    }

    /// The axes of a parameter of the pruned model that the plan shortened.
    pub fn cuts(&self, path: &str) -> &[AxisCut] {
        self.cuts.get(self.plan.path_before(path).as_str()).map(|cut| &cut.axes[..]).unwrap_or_default()
    }

    /// The layer that a layer stands for; `pruned` is the pruned network.
    pub fn counterpart(&self, pruned: &Network, layer: &Layer) -> Result<Counterpart, String> {
        let path = self.plan.path_before(&layer.path);
        let Some(&step) = self.by_path.get(&path) else {
            return Err(format!("the original has no layer `{path}`"));
        };
        let StepKind::Layer(index) = self.steps[step].kind else {
            return Err(format!("`{path}` of the original is no layer"));
        };
        let own = &self.network.layers()[index];
        let cut = self.cuts(&pruned.parameters()[layer.weight()].path);
        let cut = cut.iter().find(|cut| cut.axis == layer.kind.output_axis());
        // The second axis of a grouped transposed convolution counts the filters of a group.
        if own.kind != layer.kind || (cut.is_some() && layer.kind.is_transposed() && layer.groups > 1) {
            return Err("its filters cannot be told among the original's".into());
        }
        let filters: Vec<usize> = cut.map_or_else(|| (0..own.filters).collect(), |cut| cut.keep.clone());
        if filters.len() != layer.filters || filters.iter().any(|&filter| filter >= own.filters) {
            return Err(format!("it has {} filters, and the plan keeps {}", layer.filters, filters.len()));
        }
        Ok(Counterpart { step, filters })
    }

    /// The original's value of a parameter of the pruned model, cut as the plan cuts it.
    pub fn value(&self, path: &str) -> Option<Vec<f64>> {
        let original = self.plan.path_before(path);
        let data = self.network.parameter_data(&original).filter(|data| data.dtype().is_float())?;
        let mut values: Vec<f64> = data.iter::<f64>().collect();
        let mut shape = data.shape().to_vec();
        for cut in self.cuts(path) {
            values = select(&values, &shape, cut);
            *shape.get_mut(cut.axis)? = cut.keep.len();
        }
        Some(values)
    }
}

/// Selects indices of an axis of row-major values.
fn select(values: &[f64], shape: &[usize], cut: &AxisCut) -> Vec<f64> {
    let inner: usize = shape.iter().skip(cut.axis + 1).product();
    let length = shape.get(cut.axis).copied().unwrap_or(1);
    let block = (length * inner).max(1);
    let kept = |outer: &[f64]| {
        let rows = cut.keep.iter().filter_map(|&index| outer.get(index * inner..(index + 1) * inner));
        rows.flatten().copied().collect::<Vec<f64>>()
    };
    values.chunks(block).flat_map(kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_of_each_axis_are_selected() {
        let values: Vec<f64> = (0..12).map(f64::from).collect();
        let cut = |axis, length, keep: &[usize]| AxisCut { axis, length, keep: keep.to_vec() };
        assert_eq!(select(&values, &[3, 4], &cut(0, 3, &[0, 2])), [0., 1., 2., 3., 8., 9., 10., 11.]);
        assert_eq!(select(&values, &[3, 4], &cut(1, 4, &[1, 3])), [1., 3., 5., 7., 9., 11.]);
        assert_eq!(select(&values, &[2, 3, 2], &cut(1, 3, &[2])), [4., 5., 10., 11.]);
    }
}
