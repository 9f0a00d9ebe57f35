//! [`Regrowth`]: connections that move during training, their number unchanged.

use std::collections::{HashMap, HashSet};
use std::f64::consts::PI;

use burn::module::{Module, Param};
use burn::tensor::{Gradients, Tensor};
use burn_sfp_nn::ConfigError;
use burn_sfp_nn::walk::{ParamPath, ParamVisitor, visit_params};

use crate::mask::{KeepMask, KeepMasks, masked_weight, masks_of, replace};
use crate::plan::{Mask, ParameterCut};
use crate::rewrite::{guarded, on_copy, zero};
use crate::{PruneError, PrunePlan};

/// Moves connections during training: every few steps the weakest of each masked layer go and as many others come back, those along which the
/// loss falls most.
///
/// This is RigL (Evci et al., "Rigging the Lottery: Making All Tickets Winners", 2020, arXiv 1911.11134, algorithm 1): at step t, a
/// multiple of ΔT below T_end, the k connections of least norm `‖θ‖₂` are dropped, and of all that are not connected then the k with the largest
/// norm of the gradient `‖∂L/∂θ‖₂` are grown. They start at zero. k is the share `α/2 · (1 + cos(π t / T_end))` of the layer's connections,
/// rounded down. The norm is that of the kernel between the two channels. Among equals the first ones stay and grow.
///
/// Works on the masks that [`PrunePlan::apply`](crate::PrunePlan::apply) attaches ([`ConnectionMask`](crate::ConnectionMask)), in a training loop
/// of one's own: call [`update`](Regrowth::update) after each optimiser step. Momenta of an optimiser stay as they are.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::GraphModule;
/// # use burn_sfp_prune::{MagnitudeConnections, Planner, Regrowth};
/// # #[derive(Module, Debug)]
/// # struct Mlp { a: Linear, b: Linear }
/// # impl GraphModule for Mlp {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<2>) -> Tensor<2> {
/// #         self.b.forward(burn::tensor::activation::relu(self.a.forward(x)))
/// #     }
/// # }
/// # let device = Device::flex().autodiff();
/// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 2).init(&device) };
/// let x = Tensor::<2>::ones([2, 4], &device);
/// let pruned = Planner::new().prune(&mlp, &x, &MagnitudeConnections::l1())?;
/// let (mut model, regrowth) = (pruned.model, Regrowth::new(100, 2_000));
/// for step in 1..=200 {
///     // model = optimizer.step(..);
///     let regrown = regrowth.update(&model, step, |dense| dense.run(x.clone()).powi_scalar(2).mean())?;
///     model = regrown.model;
/// }
/// let plan = pruned.plan.with_connections_of(&model)?;
/// # Ok::<(), burn_sfp_prune::PruneError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Regrowth {
    every: usize,
    until: usize,
    share: f64,
}

/// What [`Regrowth::update`] returns.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Regrown<M> {
    /// The model, with its connections moved.
    pub model: M,
    /// How many connections of each masked weight moved, by its module path in ascending order. Empty between two updates.
    pub moved: Vec<(String, usize)>,
}

impl Regrowth {
    /// Moves connections every `every` optimiser steps, for the last time before step `until` (about three quarters of the training in the
    /// paper), at the start 0.3 of each layer's.
    pub fn new(every: usize, until: usize) -> Self {
        Self { every, until, share: 0.3 }
    }

    /// Sets the share of each layer's connections that moves at the start (α), above 0 and at most 1.
    pub fn share(mut self, share: f64) -> Self {
        self.share = share;
        self
    }

    /// Returns the share of a layer's connections that moves after optimiser step `step`, counted from 1; 0 where none do.
    ///
    /// ```
    /// use burn_sfp_prune::Regrowth;
    ///
    /// let regrowth = Regrowth::new(100, 400);
    /// assert_eq!([regrowth.share_at(99), regrowth.share_at(400)], [0.0, 0.0]);
    /// assert!((regrowth.share_at(200) - 0.15).abs() < 1e-12);
    /// ```
    pub fn share_at(&self, step: usize) -> f64 {
        if step == 0 || step >= self.until || self.every == 0 || !step.is_multiple_of(self.every) {
            return 0.0;
        }
        self.share / 2.0 * (1.0 + (PI * step as f64 / self.until as f64).cos())
    }

    /// Moves connections where it is time, after optimiser step `step`, counted from 1. The model handed in is not changed.
    ///
    /// `loss` computes the loss of a batch by the copy that it gets: that copy has all connections, the removed ones at zero, so that they have
    /// gradients. It is not called between two updates. Masked weights that do not learn, or that the loss does not depend on, stay.
    ///
    /// # Errors
    /// [`PruneError::Config`] if a setting is out of range, [`PruneError::NoMasks`] if the model carries no masks over connections,
    /// [`PruneError::NonFiniteRegrowth`] if a gradient is NaN or infinite, [`GraphError::Replay`](burn_sfp_graph::GraphError::Replay) if Burn fails.
    pub fn update<M: Module>(
        &self,
        model: &M,
        step: usize,
        loss: impl FnOnce(&M) -> Tensor<1>,
    ) -> Result<Regrown<M>, PruneError> {
        self.check()?;
        let share = self.share_at(step);
        // Between two updates no mask is read from the device.
        if share == 0.0 && is_masked(model) {
            return Ok(Regrown { model: model.clone(), moved: Vec::new() });
        }
        let masks = connections_of(model);
        if masks.is_empty() {
            return Err(PruneError::NoMasks);
        }
        let values = norms(model, &masks, None);
        let gradients = guarded(|| {
            let dense = zero(model.valid(), &HashMap::new(), &masks).materialize().train();
            let gradients = loss(&dense).backward();
            Ok(norms(&dense, &masks, Some(&gradients)))
        })?;
        let mut moved = Vec::new();
        let mut after = KeepMasks::new();
        for (path, mask) in &masks {
            let (Some(values), Some(gradients)) = (values.get(path), gradients.get(path)) else { continue };
            if let Some(value) = gradients.iter().find(|value| !value.is_finite()) {
                return Err(PruneError::NonFiniteRegrowth { path: path.clone(), value: *value, step });
            }
            let keep = moved_connections(&mask.keep, values, gradients, share);
            moved.push((
                path.clone(),
                keep.iter().zip(&mask.keep).filter(|(after, before)| **after && !**before).count(),
            ));
            after.insert(path.clone(), KeepMask { shape: mask.shape, keep });
        }
        moved.sort_unstable();
        let model = on_copy(model, |copy| Ok(replace(zero(copy, &HashMap::new(), &masks), &after)))?;
        Ok(Regrown { model, moved })
    }

    fn check(&self) -> Result<(), ConfigError> {
        let wrong = |name, found: String, expected| Err(ConfigError { name, found, expected });
        if self.every == 0 {
            return wrong("steps between two updates of connections", "0".into(), "at least 1");
        }
        if !(self.share > 0.0 && self.share <= 1.0) {
            return wrong("share of connections that move", self.share.to_string(), "above 0 and at most 1");
        }
        Ok(())
    }
}

/// The connections that stay and come, of one weight: see [`Regrowth`].
fn moved_connections(keep: &[bool], values: &[f64], gradients: &[f64], share: f64) -> Vec<bool> {
    let mut active: Vec<usize> = (0..keep.len()).filter(|&at| keep[at]).collect();
    let count = (share * active.len() as f64) as usize;
    // The weakest last; of equals the last.
    active.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
    let stays: HashSet<usize> = active[..active.len() - count].iter().copied().collect();
    let mut others: Vec<usize> = (0..keep.len()).filter(|at| !stays.contains(at)).collect();
    others.sort_by(|&a, &b| gradients[b].total_cmp(&gradients[a]).then(a.cmp(&b)));
    let grown: HashSet<usize> = others.into_iter().take(count).collect();
    (0..keep.len()).map(|at| stays.contains(&at) || grown.contains(&at)).collect()
}

/// Whether a model carries masks.
fn is_masked<M: Module>(model: &M) -> bool {
    struct Seek(bool);
    impl ParamVisitor for Seek {
        fn float<const D: usize>(&mut self, path: ParamPath<'_>, _: &Param<Tensor<D>>) {
            self.0 |= masked_weight(&path.join()).is_some();
        }
    }
    let mut seek = Seek(false);
    visit_params(model, &mut seek);
    seek.0
}

/// The masks over connections of weights, by the path of the weight: those over the first two axes.
fn connections_of<M: Module>(model: &M) -> KeepMasks {
    struct Fits<'a>(&'a KeepMasks, HashSet<String>);
    impl ParamVisitor for Fits<'_> {
        fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D>>) {
            let (path, shape) = (path.join(), param.lazy_shape().to_vec());
            if self.0.get(&path).is_some_and(|mask| D >= 2 && shape[..2] == mask.shape) {
                self.1.insert(path);
            }
        }
    }
    let mut masks = masks_of(model);
    let mut fits = Fits(&masks, HashSet::new());
    visit_params(model, &mut fits);
    let fits = fits.1;
    masks.retain(|path, _| fits.contains(path));
    masks
}

/// The norm of each connection's values, or of their gradients, by the path of the weight.
fn norms<M: Module>(model: &M, masks: &KeepMasks, gradients: Option<&Gradients>) -> HashMap<String, Vec<f64>> {
    struct Read<'a> {
        masks: &'a KeepMasks,
        gradients: Option<&'a Gradients>,
        found: HashMap<String, Vec<f64>>,
    }
    impl ParamVisitor for Read<'_> {
        fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D>>) {
            let path = path.join();
            let Some(mask) = self.masks.get(&path) else { return };
            let values = match self.gradients {
                None => Some(param.base().without_autodiff()),
                Some(gradients) => param.base().grad(gradients),
            };
            let Some(values) = values.map(|values| values.into_data().iter::<f64>().collect::<Vec<f64>>()) else {
                return;
            };
            let kernel = (values.len() / mask.keep.len().max(1)).max(1);
            let norm = |kernel: &[f64]| kernel.iter().map(|value| value * value).sum::<f64>().sqrt();
            self.found.insert(path, values.chunks(kernel).map(norm).collect());
        }
    }
    let mut read = Read { masks, gradients, found: HashMap::new() };
    visit_params(model, &mut read);
    read.found
}

impl PrunePlan {
    /// Returns the plan with the connections that a model has now, after [`Regrowth`] moved them, so that it can be saved with the model.
    ///
    /// # Errors
    /// [`PruneError::ModelMismatch`] if the model lacks a mask of the plan, or has one of another shape; [`PruneError::InvalidPlan`] if the plan
    /// contradicts itself.
    pub fn with_connections_of<M: Module>(&self, model: &M) -> Result<Self, PruneError> {
        self.check()?;
        let own = connections_of(model);
        let mut plan = self.clone();
        for mask in &mut plan.masks {
            let Some(path) = self.path_after(&mask.parameter) else { continue };
            let cut = self.cuts.iter().find(|cut| cut.path == mask.parameter);
            let before: usize = mask.keep.iter().map(Vec::len).sum();
            let fits = own.get(&path).is_some_and(|found| take_over(mask, cut, found));
            if !fits {
                let what = format!("`{path}` has no mask of the shape that the plan's has after its cuts");
                return Err(PruneError::ModelMismatch { what });
            }
            let after: usize = mask.keep.iter().map(Vec::len).sum();
            for layer in plan.layers.iter_mut().filter(|layer| layer.path == mask.layer) {
                layer.connections_after = (layer.connections_after + after as u64).saturating_sub(before as u64);
            }
        }
        plan.sealed()
    }
}

/// Puts a mask over what stays into a plan's mask, and returns whether it fits. What the cuts remove stays as it was.
fn take_over(mask: &mut Mask, cut: Option<&ParameterCut>, found: &KeepMask) -> bool {
    let kept = |axis: usize, length: usize| {
        cut.and_then(|cut| cut.axes.iter().find(|cut| cut.axis == axis))
            .map_or_else(|| (0..length).collect::<Vec<usize>>(), |cut| cut.keep.clone())
    };
    let axis = mask.output_axis.min(1);
    let (outputs, inputs) = (kept(axis, mask.keep.len()), kept(1 - axis, mask.inputs));
    if found.shape[axis] != outputs.len() || found.shape[1 - axis] != inputs.len() {
        return false;
    }
    for (row, &output) in outputs.iter().enumerate() {
        let Some(keep) = mask.keep.get_mut(output) else { return false };
        keep.retain(|&input| inputs.binary_search(&(input as usize)).is_err());
        let at = |column: usize| if axis == 0 { row * inputs.len() + column } else { column * outputs.len() + row };
        keep.extend((0..inputs.len()).filter(|&column| found.keep[at(column)]).map(|column| inputs[column] as u32));
        keep.sort_unstable();
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weakest_go_and_the_steepest_come() {
        let keep = [true, true, false, true, false, true];
        let values = [3.0, 1.0, 9.0, 2.0, 9.0, 4.0];
        // Half of four: 1 and 3 go; 3 comes back because of its gradient, and 4.
        let after = moved_connections(&keep, &values, &[0.0, 0.5, 0.1, 2.0, 1.0, 0.0], 0.5);
        assert_eq!(after, [true, false, false, true, true, true]);
        // Among equals the first stay and grow.
        let after = moved_connections(&keep, &[1.0; 6], &[1.0; 6], 0.25);
        assert_eq!(after, [true, true, true, true, false, false]);
        assert_eq!(moved_connections(&keep, &values, &[0.0; 6], 0.1), keep);
        assert_eq!(moved_connections(&[false; 2], &[0.0; 2], &[1.0; 2], 1.0), [false; 2]);
    }
}
