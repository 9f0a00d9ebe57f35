//! Carries a plan out: a smaller module of the user's own type.
//!
//! The plan names parameters and axes, so one mapper serves every kind of layer; how channels run through the kinds
//! of layers is written down once, in the core crate's operation descriptions.

mod carry_out;
mod check;
mod fold;
mod zeroed;

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, Reparameterizer};
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_sfp_core::{AxisChange, GraphModule, Scope};

pub use carry_out::Smaller;
pub(crate) use carry_out::carry_out;

use crate::plan::{AxisCut, Mask, ParameterCut};
use crate::{ConnectionMask, PruneError, PrunePlan};

impl PrunePlan {
    /// The smaller module. The original is not changed, not even its running statistics.
    ///
    /// Masks of removed connections are attached to the weights ([`ConnectionMask`]); `materialize()` on the result
    /// folds them. A model that was in training (autodiff) comes back in training.
    ///
    /// To load a saved pruned model, apply the saved plan to a freshly built original and load the record into the
    /// result (materialised, if the saved one was).
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_core::{AnalyzeConfig, SfpModule, Silent, TensorCalibration, analyze_network};
    /// # use burn_sfp_prune::{Magnitude, Planner};
    /// # #[derive(Module, Debug)]
    /// # struct Mlp { a: Linear, b: Linear }
    /// # impl SfpModule for Mlp {
    /// #     type Input = Tensor<2>;
    /// #     fn logits(&self, x: Tensor<2>) -> Tensor<2> {
    /// #         self.b.forward(burn::tensor::activation::relu(self.a.forward(x)))
    /// #     }
    /// # }
    /// # let device = Device::flex();
    /// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 2).init(&device) };
    /// # let data = TensorCalibration::new(Tensor::<2>::ones([2, 4], &device), vec![0, 1], 2);
    /// let (network, analysis) = analyze_network(&mlp, &data, &AnalyzeConfig::new(), &Silent)?;
    /// let plan = Planner::new().plan(&network, &analysis, &Magnitude::l2())?;
    /// let smaller = plan.apply(&mlp)?;
    /// assert_eq!(smaller.a.weight.dims(), [4, 4]);
    /// assert_eq!(mlp.a.weight.dims(), [4, 8]);
    /// # Ok::<(), burn_sfp_prune::PruneError>(())
    /// ```
    ///
    /// # Errors
    /// [`PruneError::OtherModel`] where paths or shapes differ from those of the plan's model,
    /// [`PruneError::BrokenPlan`] where the plan contradicts itself, [`PruneError::AlreadyMasked`] where a weight to be
    /// masked is masked already, [`PruneError::NeedsShrink`] where a plain field has to follow and the model offers no way to
    /// it.
    pub fn apply<M: GraphModule>(&self, model: &M) -> Result<M, PruneError> {
        check::check(self, model)?;
        // Real copies of running statistics, on plain tensors: nothing written below reaches the original.
        let copy = model.valid();
        let additions = fold::additions(self, &copy)?;
        let device = copy.devices().into_iter().next().unwrap_or_default();
        let cuts: HashMap<&str, &ParameterCut> = self.cuts.iter().map(|cut| (cut.path.as_str(), cut)).collect();
        let masks: HashMap<&str, (usize, usize, Vec<bool>)> = self
            .masks
            .iter()
            .map(|mask| (mask.parameter.as_str(), bits(mask, cuts.get(mask.parameter.as_str()).copied())))
            .collect();
        let scales: HashMap<&str, f64> = self.scales.iter().map(|scale| (scale.path.as_str(), scale.factor)).collect();
        let mut smaller = copy.map(&mut Shrink {
            path: Vec::new(),
            cuts: &cuts,
            additions: &additions,
            scales: &scales,
            device: &device,
        });
        self.set_fields(&mut smaller)?;
        let smaller = if masks.is_empty() {
            smaller
        } else {
            // Zeros below the mask: what is removed does not live on in records.
            let zeroed = smaller.map(&mut Zero { path: Vec::new(), masks: &masks, device: &device });
            zeroed.apply_reparameterization(Attach { masks: &masks, device: &device })
        };
        Ok(if in_training(model) { smaller.train() } else { smaller })
    }
}

impl PrunePlan {
    fn set_fields<M: GraphModule>(&self, smaller: &mut M) -> Result<(), PruneError> {
        let axes: Vec<AxisChange> = self
            .cuts
            .iter()
            .flat_map(|cut| {
                cut.axes.iter().map(|axis| AxisChange {
                    parameter: cut.path.clone(),
                    axis: axis.axis,
                    before: axis.length,
                    keep: axis.keep.clone(),
                })
            })
            .collect();
        let mut scope = Scope::new(&self.fields, &axes);
        if let Some(smaller) = smaller.shrinkable() {
            smaller.shrink(&mut scope);
        }
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
}

/// The mask over the weight's first two axes after the cuts.
fn bits(mask: &Mask, cut: Option<&ParameterCut>) -> (usize, usize, Vec<bool>) {
    let kept = |axis: usize, length: usize| {
        cut.and_then(|cut| cut.axes.iter().find(|c| c.axis == axis))
            .map_or_else(|| (0..length).collect(), |c| c.keep.clone())
    };
    let outputs: Vec<usize> = kept(mask.output_axis, mask.keep.len());
    let inputs: Vec<usize> = kept(1 - mask.output_axis, mask.inputs);
    let keeps = |output: usize, input: usize| mask.keep[output].binary_search(&(input as u32)).is_ok();
    if mask.output_axis == 0 {
        let all = outputs.iter().flat_map(|&o| inputs.iter().map(move |&i| keeps(o, i))).collect();
        (outputs.len(), inputs.len(), all)
    } else {
        let outputs = &outputs;
        let all = inputs.iter().flat_map(|&i| outputs.iter().map(move |&o| keeps(o, i))).collect();
        (inputs.len(), outputs.len(), all)
    }
}

/// Whether any parameter is on a device that trains.
pub(crate) fn in_training<M: Module>(model: &M) -> bool {
    struct Seek(bool);
    impl ModuleVisitor for Seek {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0 |= param.lazy_device().is_autodiff();
        }
    }
    let mut seek = Seek(false);
    model.visit(&mut seek);
    seek.0
}

struct Shrink<'a> {
    path: Vec<String>,
    cuts: &'a HashMap<&'a str, &'a ParameterCut>,
    additions: &'a HashMap<String, Vec<f32>>,
    scales: &'a HashMap<&'a str, f64>,
    device: &'a Device,
}

impl ModuleMapper for Shrink<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.path.join(".");
        let (cut, addition) = (self.cuts.get(path.as_str()), self.additions.get(&path));
        let scale = self.scales.get(path.as_str());
        if cut.is_none() && addition.is_none() && scale.is_none() {
            return param;
        }
        param.map(|mut tensor| {
            if let Some(addition) = addition {
                let addition = Tensor::<1>::from_data(TensorData::new(addition.clone(), [addition.len()]), self.device);
                tensor = tensor.clone() + addition.reshape(tensor.shape());
            }
            for axis in cut.into_iter().flat_map(|cut| &cut.axes) {
                tensor = select(tensor, axis, self.device);
            }
            if let Some(scale) = scale {
                tensor = tensor.mul_scalar(*scale);
            }
            tensor
        })
    }
}

/// The indices of an axis that stay. Without needless axes, which keep backends from copying whole rows.
fn select<const D: usize>(tensor: Tensor<D>, axis: &AxisCut, device: &Device) -> Tensor<D> {
    let keep: Vec<i64> = axis.keep.iter().map(|&k| k as i64).collect();
    let keep = Tensor::<1, Int>::from_data(TensorData::new(keep, [axis.keep.len()]), device);
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

/// By the weight's path the lengths of its first two axes and a bit for each pair.
pub(crate) type Masks<'a> = HashMap<&'a str, (usize, usize, Vec<bool>)>;

struct Zero<'a> {
    path: Vec<String>,
    masks: &'a Masks<'a>,
    device: &'a Device,
}

impl ModuleMapper for Zero<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.masks.get(self.path.join(".").as_str()) {
            Some((first, second, keep)) => {
                let mask = ConnectionMask::new(*first, *second, keep.clone(), self.device);
                param.map(|tensor| burn::module::Reparameterization::apply(&mask, tensor))
            }
            None => param,
        }
    }
}

/// Attaches masks to weights.
pub(crate) struct Attach<'a> {
    pub masks: &'a Masks<'a>,
    pub device: &'a Device,
}

impl Reparameterizer for Attach<'_> {
    type Reparam = ConnectionMask;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<ConnectionMask>) {
        let mask = self
            .masks
            .get(path)
            .map(|(first, second, keep)| ConnectionMask::new(*first, *second, keep.clone(), self.device));
        (param, mask)
    }
}
