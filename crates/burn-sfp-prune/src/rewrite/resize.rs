//! Parameters made smaller: values added, indices selected, factors multiplied.

use std::collections::HashMap;

use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor, TensorData};
use burn_sfp_nn::walk::{ParamMapper, ParamPath, ShapeIds, map_params};

use crate::PrunePlan;
use crate::plan::{AxisCut, ParameterCut, ScaledPart};

/// Returns the model with the plan's cuts and scales carried out. `additions` are added before the cuts, by the path of the
/// parameter.
pub(super) fn resize<M: Module>(plan: &PrunePlan, model: M, additions: &HashMap<String, Vec<f64>>) -> M {
    map_params(model, &mut Resize::of(plan, additions))
}

struct Resize<'a> {
    cuts: HashMap<&'a str, &'a ParameterCut>,
    additions: &'a HashMap<String, Vec<f64>>,
    scales: HashMap<&'a str, f64>,
    parts: HashMap<&'a str, Vec<(&'a ScaledPart, f64)>>,
    ids: ShapeIds,
}

impl<'a> Resize<'a> {
    fn of(plan: &'a PrunePlan, additions: &'a HashMap<String, Vec<f64>>) -> Self {
        let cuts = plan.cuts.iter().map(|cut| (cut.path.as_str(), cut)).collect();
        let (mut scales, mut parts): (HashMap<&str, f64>, HashMap<&str, Vec<_>>) = (HashMap::new(), HashMap::new());
        for scale in &plan.scales {
            match &scale.part {
                None => *scales.entry(scale.path.as_str()).or_insert(1.0) *= scale.factor,
                Some(part) => parts.entry(scale.path.as_str()).or_default().push((part, scale.factor)),
            }
        }
        Self { cuts, additions, scales, parts, ids: ShapeIds::default() }
    }
}

impl ParamMapper for Resize<'_> {
    fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = path.join();
        let (cut, addition) = (self.cuts.get(path.as_str()), self.additions.get(&path));
        let (scale, parts) = (self.scales.get(path.as_str()), self.parts.get(path.as_str()));
        if cut.is_none() && addition.is_none() && scale.is_none() && parts.is_none() {
            return param;
        }
        self.ids.map(param, |mut tensor| {
            if let Some(addition) = addition {
                let data = TensorData::new(addition.clone(), [addition.len()]);
                let addition = Tensor::<1>::from_data(data, (&tensor.device(), tensor.dtype()));
                tensor = tensor.clone() + addition.reshape(tensor.shape());
            }
            for axis in cut.into_iter().flat_map(|cut| &cut.axes) {
                tensor = select(tensor, axis);
            }
            if let Some(scale) = scale {
                tensor = tensor.mul_scalar(*scale);
            }
            for (part, factor) in parts.into_iter().flatten() {
                let scaled = tensor.clone().slice_dim(part.axis, part.start..part.end).mul_scalar(*factor);
                let mut place = tensor.dims().map(|length| 0..length);
                place[part.axis] = part.start..part.end;
                tensor = tensor.slice_assign(place, scaled);
            }
            tensor
        })
    }
}

/// Returns the indices of an axis that stay. Axes around it are joined, so that backends copy whole rows.
fn select<const D: usize>(tensor: Tensor<D>, axis: &AxisCut) -> Tensor<D> {
    let keep: Vec<i64> = axis.keep.iter().map(|&k| k as i64).collect();
    let keep = Tensor::<1, Int>::from_data(TensorData::new(keep, [axis.keep.len()]), &tensor.device());
    let mut shape = tensor.dims();
    let outer = shape[..axis.axis].iter().product();
    let inner = shape[axis.axis + 1..].iter().product();
    shape[axis.axis] = axis.keep.len();
    match (outer, inner) {
        (1, _) => tensor.reshape([axis.length, inner]).select(0, keep).reshape(shape),
        (_, 1) => tensor.reshape([outer, axis.length]).select(1, keep).reshape(shape),
        _ => tensor.reshape([outer, axis.length, inner]).select(1, keep).reshape(shape),
    }
}
