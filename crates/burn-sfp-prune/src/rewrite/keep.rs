//! A plan's masks as keep masks.

use std::collections::HashMap;

use crate::PrunePlan;
use crate::mask::{KeepMask, KeepMasks};
use crate::plan::{Mask, ParameterCut};

/// Returns the plan's masks over the weights as they are before the cuts. Connections of removed inputs stay: a mask says nothing of them,
/// and what a removed input leaves behind as a constant goes through all of them.
pub(super) fn masks_before_cuts(plan: &PrunePlan) -> KeepMasks {
    let cuts: HashMap<&str, &ParameterCut> = plan.cuts.iter().map(|cut| (cut.path.as_str(), cut)).collect();
    let masks = plan.masks.iter().map(|mask| {
        let mut whole = keep_mask(mask, None);
        let cut = cuts
            .get(mask.parameter.as_str())
            .and_then(|cut| cut.axes.iter().find(|axis| axis.axis == 1 - mask.output_axis));
        if let Some(inputs) = cut {
            let second = whole.shape[1].max(1);
            for (at, keep) in whole.keep.iter_mut().enumerate() {
                let input = if mask.output_axis == 0 { at % second } else { at / second };
                *keep |= inputs.keep.binary_search(&input).is_err();
            }
        }
        (mask.parameter.clone(), whole)
    });
    masks.collect()
}

/// Returns the plan's masks over the weights as they are after the cuts, by their paths in the original.
pub(super) fn masks_after_cuts(plan: &PrunePlan) -> KeepMasks {
    let cuts: HashMap<&str, &ParameterCut> = plan.cuts.iter().map(|cut| (cut.path.as_str(), cut)).collect();
    let masks = plan.masks.iter();
    masks.map(|mask| (mask.parameter.clone(), keep_mask(mask, cuts.get(mask.parameter.as_str()).copied()))).collect()
}

/// Returns the plan's masks over the weights of the smaller module, by their paths there.
pub(crate) fn masks_of_smaller(plan: &PrunePlan) -> KeepMasks {
    masks_after_cuts(plan).into_iter().filter_map(|(path, mask)| Some((plan.path_after(&path)?, mask))).collect()
}

fn keep_mask(mask: &Mask, cut: Option<&ParameterCut>) -> KeepMask {
    let kept = |axis: usize, length: usize| {
        cut.and_then(|cut| cut.axes.iter().find(|cut| cut.axis == axis))
            .map_or_else(|| (0..length).collect(), |cut| cut.keep.clone())
    };
    let outputs: Vec<usize> = kept(mask.output_axis, mask.keep.len());
    let inputs: Vec<usize> = kept(1 - mask.output_axis, mask.inputs);
    let keeps = |output: usize, input: usize| mask.keep[output].binary_search(&(input as u32)).is_ok();
    if mask.output_axis == 0 {
        let keep = outputs.iter().flat_map(|&output| inputs.iter().map(move |&input| keeps(output, input)));
        KeepMask { shape: [outputs.len(), inputs.len()], keep: keep.collect() }
    } else {
        let keep = inputs.iter().flat_map(|&input| outputs.iter().map(move |&output| keeps(output, input)));
        KeepMask { shape: [inputs.len(), outputs.len()], keep: keep.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::AxisCut;

    #[test]
    fn masks_follow_cuts_and_axes() {
        // Three outputs, four inputs.
        let mut mask = Mask {
            layer: "layer".into(),
            parameter: "layer.weight".into(),
            output_axis: 0,
            inputs: 4,
            keep: vec![vec![0, 3], vec![], vec![1, 2, 3]],
        };
        let axis = |axis, length, keep: &[usize]| AxisCut { axis, length, keep: keep.to_vec() };
        let cut = |axes| ParameterCut { path: "layer.weight".into(), axes };
        let whole = keep_mask(&mask, None);
        assert_eq!(whole.shape, [3, 4]);
        assert_eq!(whole.keep.iter().filter(|keep| **keep).count(), 5);
        let after = keep_mask(&mask, Some(&cut(vec![axis(0, 3, &[0, 2]), axis(1, 4, &[1, 3])])));
        assert_eq!((after.shape, after.keep), ([2, 2], vec![false, true, true, true]));
        mask.output_axis = 1;
        let after = keep_mask(&mask, Some(&cut(vec![axis(0, 4, &[1, 3]), axis(1, 3, &[0, 2])])));
        assert_eq!((after.shape, after.keep), ([2, 2], vec![false, true, true, true]));
    }
}
