//! Soft pruning: what a plan removes held at zero by masks, the shapes unchanged, and taken back.

use std::collections::{BTreeMap, HashMap};

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn_sfp_graph::{GraphModule, is_statistic};
use burn_sfp_nn::walk::{ParamMapper, ParamPath, ParamVisitor, map_params, visit_params};

use super::center::{center, mark_centered};
use super::check::{check, shapes_of};
use super::copy::on_copy;
use super::keep::masks_before_cuts;
use super::other_weights::{ApplyConfig, corrections_for};
use crate::mask::{KeepMask, Spread, attach_spreads, masked_weight};
use crate::plan::ParameterCut;
use crate::{PruneError, PrunePlan};

impl PrunePlan {
    /// Returns a copy of the model in which masks hold at zero whatever the plan removes, its shapes unchanged (soft pruning).
    ///
    /// It computes what the smaller module computes: the weights, biases and normalisations of removed filters and all removed connections are
    /// multiplied by zero ([`ConnectionMask`](crate::ConnectionMask)). The values below the masks stay, so that [`unmask`] brings the original
    /// back, bit for bit as long as nothing was trained. The masks follow the model through training with any optimiser, records and devices;
    /// `Module::materialize` makes the zeros final, and [`apply`](PrunePlan::apply) on the masked model returns the smaller module with the values
    /// that stay.
    ///
    /// What training does below the masks: gradients are zero there, weight decay is not. Statistics of batch normalisations follow the
    /// zeros. Corrections of biases by means are not made here; `apply` makes them as long as the weights are those that they were
    /// measured on. Where the plan takes means out of what writes to a stream ([`PrunePlan::centered`]), so does the copy, and that stays.
    ///
    /// A model that was in training (with autodiff) comes back in training.
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_graph::GraphModule;
    /// # use burn_sfp_prune::{BiasCorrection, Magnitude, Planner, unmask};
    /// # #[derive(Module, Debug)]
    /// # struct Mlp { a: Linear, b: Linear }
    /// # impl GraphModule for Mlp {
    /// #     type Inputs = Tensor<2>;
    /// #     type Outputs = Tensor<2>;
    /// #     fn run(&self, x: Tensor<2>) -> Tensor<2> {
    /// #         self.b.forward(burn::tensor::activation::relu(self.a.forward(x)))
    /// #     }
    /// # }
    /// # let device = Device::flex();
    /// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 2).init(&device) };
    /// let x = Tensor::<2>::ones([1, 4], &device);
    /// let smaller = Planner::new().prune(&mlp, &x, &Magnitude::l2())?;
    /// let masked = smaller.plan.mask(&mlp)?;
    /// assert_eq!(masked.a.weight.dims(), [4, 8]);
    /// assert!((masked.run(x.clone()) - smaller.model.run(x.clone())).abs().max().into_scalar::<f32>() < 1e-5);
    ///
    /// let undone = unmask(&masked)?;
    /// assert_eq!(undone.run(x.clone()).into_data(), mlp.run(x).into_data());
    /// assert_eq!(smaller.plan.apply(&masked)?.a.weight.dims(), [4, 4]);
    /// # Ok::<(), burn_sfp_prune::PruneError>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`apply`](PrunePlan::apply); [`PruneError::AlreadyMasked`] also if a parameter of which the plan removes something is
    /// reparameterised already (by a mask or LoRA, for example).
    pub fn mask<M: GraphModule>(&self, model: &M) -> Result<M, PruneError> {
        check(self, model)?;
        let spreads = self.spreads(model)?;
        let shapes = shapes_of(model);
        let mut inside: Vec<&String> = shapes.keys().collect();
        inside.sort_unstable();
        let parent = |path: &str| {
            spreads.keys().find(|held| path.strip_prefix(held.as_str()).is_some_and(|rest| rest.starts_with('.')))
        };
        if let Some(path) = inside.into_iter().find_map(|path| parent(path)) {
            return Err(PruneError::AlreadyMasked { path: path.clone() });
        }
        on_copy(model, |copy| {
            let mut copy = center(self, copy);
            mark_centered(self, &mut copy)?;
            Ok(attach_spreads(copy, &spreads))
        })
    }

    /// What stays of each parameter of which something is removed.
    fn spreads<M: Module>(&self, model: &M) -> Result<BTreeMap<String, Spread>, PruneError> {
        // Constants of other weights are left out when the plan is applied, and so they are here.
        let (corrections, _) = corrections_for(self, model, &ApplyConfig::new())?;
        let mut cuts = self.zeros(corrections.iter().any(|corrected| corrected.constants));
        let mut masks = masks_before_cuts(self);
        let mut spreads = BTreeMap::new();
        for parameter in self.model.iter().filter(|parameter| !is_statistic(&parameter.path)) {
            let (cut, mask) = (cuts.remove(parameter.path.as_str()), masks.remove(&parameter.path));
            if cut.as_ref().is_some_and(|cut| !cut.axes.is_empty()) || mask.is_some() {
                spreads.insert(parameter.path.clone(), spread(&parameter.shape, cut.as_ref(), mask.as_ref()));
            }
        }
        Ok(spreads)
    }

    /// Whether a model carries just the masks that [`PrunePlan::mask`] attaches, with something below them: [`PrunePlan::apply`] leaves zeros
    /// below its masks.
    pub(crate) fn is_mask_of<M: Module>(&self, model: &M) -> Result<bool, PruneError> {
        let found = masks_found(model);
        if found.is_empty() || self.check().is_err() {
            return Ok(false);
        }
        let spreads = self.spreads(model)?;
        let is_own =
            spreads.len() == found.len() && spreads.iter().all(|(path, spread)| found.get(path) == Some(&spread.keep));
        Ok(is_own && values_of(model, &spreads) != values_of(&model.valid().materialize(), &spreads))
    }
}

fn spread(shape: &[usize], cut: Option<&ParameterCut>, mask: Option<&KeepMask>) -> Spread {
    let mut view = vec![1; shape.len()];
    let axes = cut.map(|cut| cut.axes.as_slice()).unwrap_or_default();
    axes.iter().for_each(|axis| view[axis.axis] = axis.length);
    if mask.is_some() {
        view[..2].copy_from_slice(&shape[..2]);
    }
    let kept: HashMap<usize, Vec<bool>> = axes
        .iter()
        .map(|axis| {
            let mut kept = vec![false; axis.length];
            axis.keep.iter().for_each(|&index| kept[index] = true);
            (axis.axis, kept)
        })
        .collect();
    let count = view.iter().product();
    let mut index = vec![0; view.len()];
    let mut keep = Vec::with_capacity(count);
    for _ in 0..count {
        let of_cut = kept.iter().all(|(axis, kept)| kept[index[*axis]]);
        keep.push(of_cut && mask.is_none_or(|mask| mask.keep[index[0] * mask.shape[1] + index[1]]));
        for axis in (0..view.len()).rev() {
            index[axis] += 1;
            if index[axis] < view[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    Spread { view, keep }
}

/// Takes the masks off a model and returns what is below them, in the mode that the model was in (evaluation or training).
///
/// After [`PrunePlan::mask`] that is the original; after [`PrunePlan::apply`], whose masks lie over zeros, it is the smaller module with zeros.
/// Other reparameterisations (LoRA) are folded into the parameters, as `Module::materialize` does. See [`PrunePlan::mask`] for an example.
///
/// # Errors
/// [`GraphError::Replay`](burn_sfp_graph::GraphError::Replay) if Burn fails.
pub fn unmask<M: Module>(model: &M) -> Result<M, PruneError> {
    struct Ones;
    impl ParamMapper for Ones {
        fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if masked_weight(&path.join()).is_some() { param.map(|mask| mask.ones_like()) } else { param }
        }
    }
    on_copy(model, |copy| Ok(map_params(copy, &mut Ones).materialize()))
}

/// Which elements each mask of a model keeps, by the path of the parameter.
fn masks_found<M: Module>(model: &M) -> BTreeMap<String, Vec<bool>> {
    struct Read(BTreeMap<String, Vec<bool>>);
    impl ParamVisitor for Read {
        fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D>>) {
            if let Some(of) = masked_weight(&path.join()) {
                let keep = param.base().into_data().iter::<f32>().map(|value| value != 0.0).collect();
                self.0.insert(of.to_string(), keep);
            }
        }
    }
    let mut read = Read(BTreeMap::new());
    visit_params(model, &mut read);
    read.0
}

/// The stored values of some parameters.
fn values_of<M: Module>(model: &M, of: &BTreeMap<String, Spread>) -> BTreeMap<String, Vec<f32>> {
    struct Read<'a>(&'a BTreeMap<String, Spread>, BTreeMap<String, Vec<f32>>);
    impl ParamVisitor for Read<'_> {
        fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D>>) {
            let path = path.join();
            if self.0.contains_key(&path) {
                self.1.insert(path, param.base().into_data().iter::<f32>().collect());
            }
        }
    }
    let mut read = Read(of, BTreeMap::new());
    visit_params(model, &mut read);
    read.1
}
