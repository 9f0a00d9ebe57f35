//! The gradients of a step: which parameters have one, and none for removed connections, which an optimiser may move all the same.

use std::collections::HashMap;

use burn::module::{Module, Param, Reparameterization};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use burn_sfp_nn::walk::{ParamMapper, ParamPath, ParamVisitor, map_params, visit_params};

use crate::mask::{ConnectionMask, KeepMasks};

/// Masks of gradients, by the path of the weight. Weights at zero without a gradient stay at zero, whatever the momentum and weight decay of
/// an optimiser that goes by single elements.
pub(super) struct GradientMasks(HashMap<String, ConnectionMask>);

impl GradientMasks {
    /// Makes the masks for the weights of a model.
    pub fn new<M: Module>(masks: &KeepMasks, model: &M) -> Self {
        let mut make = Make { masks, made: HashMap::new() };
        if !masks.is_empty() {
            visit_params(model, &mut make);
        }
        Self(make.made)
    }

    /// Sets the gradients of removed connections to zero.
    pub fn apply<M: Module>(&self, gradients: &mut GradientsParams, model: &M) {
        if !self.0.is_empty() {
            visit_params(model, &mut Apply { masks: &self.0, gradients });
        }
    }

    /// Sets removed connections to zero, for optimisers that mix the elements of a weight, as Muon does.
    pub fn hold<M: Module>(&self, model: M) -> M {
        if self.0.is_empty() { model } else { map_params(model, &mut Hold(&self.0)) }
    }
}

struct Hold<'a>(&'a HashMap<String, ConnectionMask>);

impl ParamMapper for Hold<'_> {
    fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(mask) = self.0.get(&path.join()) else { return param };
        param.map(|weight| {
            // A leaf again: the product is no part of a graph.
            let learns = weight.is_require_grad();
            Tensor::from_inner(mask.apply(weight.without_autodiff())).set_require_grad(learns)
        })
    }
}

struct Make<'a> {
    masks: &'a KeepMasks,
    made: HashMap<String, ConnectionMask>,
}

impl ParamVisitor for Make<'_> {
    fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D>>) {
        let path = path.join();
        if let Some(mask) = self.masks.get(&path) {
            self.made.insert(path, mask.like(&param.base().without_autodiff()));
        }
    }
}

struct Apply<'a> {
    masks: &'a HashMap<String, ConnectionMask>,
    gradients: &'a mut GradientsParams,
}

impl ParamVisitor for Apply<'_> {
    fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D>>) {
        if let Some(mask) = self.masks.get(&path.join())
            && let Some(gradient) = self.gradients.remove::<D>(param.id)
        {
            self.gradients.register(param.id, mask.apply(gradient));
        }
    }
}

/// Returns the paths of the parameters that learn and have no gradient, because the forward pass does not reach them.
pub(super) fn unreached<M: Module>(gradients: &GradientsParams, model: &M) -> Vec<String> {
    struct Seek<'a>(&'a GradientsParams, Vec<String>);
    impl ParamVisitor for Seek<'_> {
        fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D>>) {
            if param.base().is_require_grad() && self.0.get::<D>(param.id).is_none() {
                self.1.push(path.join());
            }
        }
    }
    let mut seek = Seek(gradients, Vec::new());
    visit_params(model, &mut seek);
    seek.1
}
