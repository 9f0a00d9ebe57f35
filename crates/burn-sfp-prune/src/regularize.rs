//! [`Regularizer`]: penalties that make channels small during training, on the groups that are removed together.

use std::collections::{BTreeMap, BTreeSet};

use burn::module::{Module, Param};
use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData};
use burn_sfp_graph::{ChannelId, Network};
use burn_sfp_nn::ConfigError;
use burn_sfp_nn::walk::{ParamPath, ParamVisitor, visit_params};

use crate::group::Groups;
use crate::{PruneError, PrunePlan};

/// A penalty on channels, to add to the loss of one's own training. Channels that hardly count are driven to zero, and leave with little
/// harm afterwards.
///
/// The channels are those that could be removed, each with everything that leaves with it: the filters that make it, what normalises it, and
/// the inputs of the layers that read it.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::{GraphModule, Network};
/// use burn_sfp_prune::{PruneError, Regularizer};
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
/// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 3).init(&device) };
/// # let x = Tensor::ones([1, 4], &device);
/// let regularizer = Regularizer::group_lasso(&Network::capture(&mlp, &x)?, 1e-4)?;
/// // In the training loop:
/// let model = mlp.train();
/// let loss = model.run(x.autodiff()).powi_scalar(2).mean();
/// let gradients = (loss + regularizer.penalty(&model)?).backward();
/// # assert!(model.a.weight.val().grad(&gradients).is_some());
/// # Ok::<(), PruneError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Regularizer {
    kind: Kind,
    strength: f64,
    /// For each parameter by path, its shape, and for each axis that carries channels the places of their indices in `factors`.
    places: BTreeMap<String, Place>,
    /// The factor of each channel.
    factors: Vec<f32>,
    /// How often the penalty has grown.
    grown: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Sum of the norms of channels.
    Lasso,
    /// Sum of the squares of channels, half of it.
    Squares,
    /// Sum of absolute values.
    Absolute,
}

#[derive(Clone, Debug)]
struct Place {
    shape: Vec<usize>,
    /// An axis, indices along it, and for each the channel that it belongs to.
    axes: Vec<(usize, Vec<i64>, Vec<i64>)>,
}

impl Regularizer {
    /// Group lasso: `strength * sum over channels of sqrt(p_c) * ||w_c||`, with the norm of the channel's p_c weights (Yuan and Lin, 2006; for
    /// filters Wen et al., "Learning Structured Sparsity in Deep Neural Networks", NeurIPS 2016, arXiv 1608.03665, equation 3).
    ///
    /// # Errors
    /// [`PruneError::Config`] if the strength is negative or not finite.
    pub fn group_lasso(network: &Network, strength: f64) -> Result<Self, PruneError> {
        let mut all = Self::over(Kind::Lasso, network, strength, &free(network), |_| true)?;
        let mut sizes = vec![0.0f32; all.factors.len()];
        for place in all.places.values() {
            let elements: usize = place.shape.iter().product();
            for (axis, _, channels) in &place.axes {
                let each = (elements / place.shape[*axis].max(1)) as f32;
                channels.iter().for_each(|&channel| sizes[channel as usize] += each);
            }
        }
        all.factors.iter_mut().zip(sizes).for_each(|(factor, size)| *factor *= size.sqrt());
        Ok(all)
    }

    /// Slimming: `strength * sum of |gamma|` over the scales of batch normalisations whose channels could be removed (Liu et al., "Learning
    /// Efficient Convolutional Networks through Network Slimming", ICCV 2017, arXiv 1708.06519, equation 1).
    ///
    /// # Errors
    /// [`PruneError::Config`] if the strength is negative or not finite.
    pub fn batch_norm_scale(network: &Network, strength: f64) -> Result<Self, PruneError> {
        let gammas: BTreeSet<usize> = network.batch_norms().iter().map(|norm| norm.gamma).collect();
        Self::over(Kind::Absolute, network, strength, &free(network), |parameter| gammas.contains(&parameter))
    }

    /// Growing regularisation: `strength * times / 2 * sum of the squares` of the weights of the channels that a plan removes, and of no others.
    /// Each [`grow`](Regularizer::grow) raises `times` by one, from one (Wang et al., "Neural Pruning via Growing Regularization", ICLR
    /// 2021, arXiv 2012.09243, GReg-1). Apply the plan once the weights are small.
    ///
    /// # Errors
    /// [`PruneError::Config`] if the strength is negative or not finite, [`PruneError::ModelMismatch`] if the plan is of another model.
    pub fn growing(network: &Network, plan: &PrunePlan, strength: f64) -> Result<Self, PruneError> {
        plan.check()?;
        if plan.model != network.model_shapes() {
            return Err(PruneError::ModelMismatch { what: "the plan was made for other parameters".into() });
        }
        let channels: Vec<ChannelId> = plan.channels.clone();
        Self::over(Kind::Squares, network, strength, &channels, |_| true)
    }

    /// Raises the strength of [`growing`](Regularizer::growing) by what it was at first; others by as much.
    pub fn grow(&mut self) {
        self.grown = self.grown.saturating_add(1);
    }

    /// Returns the penalty on a model, one number on the model's device. On a model in training it is part of what `backward` follows.
    ///
    /// # Errors
    /// [`PruneError::ModelMismatch`] if the model is not the one that was captured.
    pub fn penalty<M: Module>(&self, model: &M) -> Result<Tensor<1>, PruneError> {
        let mut sum = Sum { of: self, squares: None, seen: 0, wrong: None };
        visit_params(model, &mut sum);
        let Sum { squares, seen, wrong, .. } = sum;
        if let Some(what) = wrong {
            return Err(PruneError::ModelMismatch { what });
        }
        if seen < self.places.len() {
            let what =
                format!("it lacks {} of the parameters whose channels are regularised", self.places.len() - seen);
            return Err(PruneError::ModelMismatch { what });
        }
        let device = model.devices().into_iter().next().unwrap_or_default();
        Ok(match squares {
            Some(squares) => self.total(squares),
            None => Tensor::zeros([1], &device),
        })
    }

    /// The penalty from the sum of each channel.
    fn total(&self, sums: Tensor<1>) -> Tensor<1> {
        let device = sums.device();
        let factors = TensorData::new(self.factors.clone(), [self.factors.len()]);
        let factors = Tensor::<1>::from_data(factors, (&device, sums.dtype()));
        let strength = self.strength * (1.0 + f64::from(self.grown));
        let each = match self.kind {
            // The slope of the root is infinite at nought.
            Kind::Lasso => sums.add_scalar(1e-12).sqrt(),
            Kind::Squares => sums.mul_scalar(0.5),
            Kind::Absolute => sums,
        };
        (each * factors).sum().mul_scalar(strength)
    }

    fn over(
        kind: Kind,
        network: &Network,
        strength: f64,
        channels: &[ChannelId],
        counts: impl Fn(usize) -> bool,
    ) -> Result<Self, PruneError> {
        if !(strength >= 0.0 && strength.is_finite()) {
            let expected = "at least 0 and finite";
            return Err(PruneError::Config(ConfigError { name: "strength", found: strength.to_string(), expected }));
        }
        let number: BTreeMap<ChannelId, i64> = channels.iter().copied().zip(0..).collect();
        let mut places = BTreeMap::new();
        for (index, parameter) in network.parameters().iter().enumerate() {
            if !parameter.is_trained() || !counts(index) {
                continue;
            }
            let mut axes = Vec::new();
            for axis in network.flow().parameter(index) {
                let (mut at, mut of) = (Vec::new(), Vec::new());
                for (position, channel) in axis.channels.iter().enumerate() {
                    for channel in network.flow().atoms_of(channel).iter().filter_map(|atom| number.get(atom)) {
                        at.push(position as i64);
                        of.push(*channel);
                    }
                }
                if !at.is_empty() {
                    axes.push((axis.axis, at, of));
                }
            }
            if !axes.is_empty() {
                places.insert(parameter.path.clone(), Place { shape: parameter.shape.clone(), axes });
            }
        }
        Ok(Self { kind, strength, places, factors: vec![1.0; channels.len()], grown: 0 })
    }
}

/// The channels that could be removed.
fn free(network: &Network) -> Vec<ChannelId> {
    let groups = Groups::of(network);
    groups.channels.iter().filter(|(_, channel)| channel.pinned.is_none()).map(|(id, _)| *id).collect()
}

/// Adds up the squares (or absolute values) of each channel.
struct Sum<'a> {
    of: &'a Regularizer,
    squares: Option<Tensor<1>>,
    seen: usize,
    /// The first parameter with another shape.
    wrong: Option<String>,
}

impl ParamVisitor for Sum<'_> {
    fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D>>) {
        let path = path.join();
        let Some(place) = self.of.places.get(&path) else { return };
        let value = param.val();
        if value.dims()[..] != place.shape[..] {
            let (found, expected) = (value.dims(), &place.shape);
            self.wrong.get_or_insert(format!("parameter `{path}` has shape {found:?}, at the capture {expected:?}"));
            return;
        }
        self.seen += 1;
        let device = value.device();
        let terms = if self.of.kind == Kind::Absolute { value.abs() } else { value.powi_scalar(2) };
        for (axis, at, of) in &place.axes {
            let lengths = terms.dims();
            let others = (0..D).filter(|other| other != axis).fold(terms.clone(), |sum, other| sum.sum_dim(other));
            let sums: Tensor<1> = others.reshape([lengths[*axis]]);
            let own = sums.select(0, indices(at, &device));
            let all =
                self.squares.take().unwrap_or_else(|| Tensor::zeros([self.of.factors.len()], (&device, own.dtype())));
            self.squares = Some(all.select_assign(0, indices(of, &device), own, IndexingUpdateOp::Add));
        }
    }
}

fn indices(values: &[i64], device: &Device) -> Tensor<1, Int> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), device)
}
