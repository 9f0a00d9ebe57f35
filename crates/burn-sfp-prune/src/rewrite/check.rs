//! Refuses another model, a damaged plan and a weight that is masked already, before anything is touched.

use std::collections::{HashMap, HashSet};

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

use crate::{PruneError, PrunePlan};

#[derive(Default)]
struct Shapes {
    path: Vec<String>,
    found: Vec<(String, Vec<usize>)>,
}

impl ModuleVisitor for Shapes {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.found.push((self.path.join("."), param.lazy_shape().to_vec()));
    }
}

pub(super) fn check<M: Module>(plan: &PrunePlan, model: &M) -> Result<(), PruneError> {
    let mut shapes = Shapes::default();
    model.visit(&mut shapes);
    let found: HashMap<&str, &Vec<usize>> = shapes.found.iter().map(|(path, shape)| (path.as_str(), shape)).collect();
    for expected in &plan.model {
        match found.get(expected.path.as_str()) {
            None => return Err(PruneError::OtherModel { what: format!("it has no parameter `{}`", expected.path) }),
            Some(shape) if **shape != expected.shape => {
                let what =
                    format!("parameter `{}` has shape {shape:?}, the plan's {:?}", expected.path, expected.shape);
                return Err(PruneError::OtherModel { what });
            }
            Some(_) => {}
        }
    }
    let broken = |what: String| Err(PruneError::BrokenPlan(what));
    let expected: HashMap<&str, &Vec<usize>> = plan.model.iter().map(|p| (p.path.as_str(), &p.shape)).collect();
    let mut seen = HashSet::new();
    for cut in &plan.cuts {
        if !seen.insert(cut.path.as_str()) {
            return broken(format!("it cuts `{}` twice", cut.path));
        }
        let Some(shape) = expected.get(cut.path.as_str()) else {
            return broken(format!("it cuts `{}`, which its model does not have", cut.path));
        };
        for (k, axis) in cut.axes.iter().enumerate() {
            let twice = cut.axes[..k].iter().any(|other| other.axis == axis.axis);
            let ascending = axis.keep.windows(2).all(|pair| pair[0] < pair[1]);
            let inside =
                shape.get(axis.axis) == Some(&axis.length) && axis.keep.last().is_some_and(|last| *last < axis.length);
            if !ascending || !inside || twice {
                return broken(format!(
                    "its cut of axis {} of `{}` is out of range or there twice",
                    axis.axis, cut.path
                ));
            }
        }
    }
    for mask in &plan.masks {
        if found.contains_key(format!("{}.connection_mask.mask", mask.parameter).as_str()) {
            return Err(PruneError::AlreadyMasked { path: mask.parameter.clone() });
        }
        let fits = expected.get(mask.parameter.as_str()).is_some_and(|shape| {
            mask.output_axis < 2
                && shape.len() >= 2
                && shape[mask.output_axis] == mask.keep.len()
                && shape[1 - mask.output_axis] == mask.inputs
        });
        let sorted = mask.keep.iter().all(|row| {
            row.windows(2).all(|pair| pair[0] < pair[1]) && row.last().is_none_or(|last| (*last as usize) < mask.inputs)
        });
        if !fits || !sorted {
            return broken(format!("its mask of `{}` does not fit the weight", mask.parameter));
        }
    }
    Ok(())
}
