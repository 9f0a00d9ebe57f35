//! What the topics share: layers, random weights, and the checks that every pruning has to pass.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::{Device, Tensor, TensorData};
use burn_sfp_graph::Network;
use burn_sfp_graph::{GraphModule, ModuleInput};
use burn_sfp_prune::{
    Budget, GroupCut, Magnitude, Planner, PolicyContext, PruneError, PrunePlan, PrunedModule, Ranking, RankingPolicy,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub use crate::inspect::{bytes, values};
use crate::inspect::{edited, trained};

/// Largest relative difference between the smaller model and the original with zeros in place of what was removed.
pub const TOLERANCE: f64 = 1e-5;

/// `graph!(Net: Tensor<4> => Tensor<2>, |net, x| ..)` makes `Net` a `GraphModule`; with `shrink` in front one that hands
/// itself out to have its plain fields set.
macro_rules! graph {
    (shrink $model:ty: $inputs:ty => $outputs:ty, |$net:ident, $x:pat_param| $body:expr) => {
        impl burn_sfp_graph::GraphModule for $model {
            type Inputs = $inputs;
            type Outputs = $outputs;
            fn run(&self, $x: $inputs) -> $outputs {
                let $net = self;
                $body
            }
            fn shrinkable(&mut self) -> Option<&mut dyn burn_sfp_nn::Shrink> {
                Some(self)
            }
        }
    };
    ($model:ty: $inputs:ty => $outputs:ty, |$net:ident, $x:pat_param| $body:expr) => {
        impl burn_sfp_graph::GraphModule for $model {
            type Inputs = $inputs;
            type Outputs = $outputs;
            fn run(&self, $x: $inputs) -> $outputs {
                let $net = self;
                $body
            }
        }
    };
}
pub(crate) use graph;

pub fn device() -> Device {
    Device::flex()
}

/// A 3x3 convolution that keeps height and width.
pub fn conv(from: usize, to: usize) -> Conv2d {
    grouped(from, to, 1)
}

/// [`conv`] with groups.
pub fn grouped(from: usize, to: usize, groups: usize) -> Conv2d {
    let config = Conv2dConfig::new([from, to], [3, 3]).with_groups(groups);
    config.with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1)).init(&device())
}

/// A 1x1 convolution.
pub fn point(from: usize, to: usize) -> Conv2d {
    Conv2dConfig::new([from, to], [1, 1]).init(&device())
}

pub fn linear(from: usize, to: usize) -> Linear {
    LinearConfig::new(from, to).init(&device())
}

/// A parameter that belongs to no layer; [`random`] fills it.
pub fn bare<const D: usize>(shape: [usize; D]) -> Param<Tensor<D>> {
    Param::from_tensor(Tensor::zeros(shape, &device()))
}

/// `[samples, channels, height, width]` to `[samples, channels]`.
pub fn mean(x: Tensor<4>) -> Tensor<2> {
    let [samples, channels, _, _] = x.dims();
    x.mean_dim(3).mean_dim(2).reshape([samples, channels])
}

/// Random values, the same in every run.
pub fn input<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_data(TensorData::new(values, shape), &device())
}

/// The model with random parameters and statistics; scales and variances are positive.
pub fn random<M: Module>(model: M) -> M {
    map(&model, 5, |name, _, values, rng| {
        let positive = name.ends_with("gamma") || name.ends_with("running_var");
        let (low, high) = if positive { (0.5, 1.5) } else { (-0.5, 0.5) };
        values.iter_mut().for_each(|value| *value = rng.random_range(low..high));
    })
}

/// The model with some indices of some axes at zero, by parameter path.
pub fn silence<M: Module>(model: &M, what: &[(&str, usize, &[usize])]) -> M {
    let mut hit = 0;
    let silent = map(model, 0, |path, shape, values, _| {
        for (_, axis, gone) in what.iter().filter(|(name, ..)| *name == path) {
            hit += 1;
            let inner: usize = shape[axis + 1..].iter().product();
            let zero = |(at, value): (usize, &mut f32)| {
                if gone.contains(&(at / inner % shape[*axis])) {
                    *value = 0.0;
                }
            };
            values.iter_mut().enumerate().for_each(zero);
        }
    });
    assert_eq!(hit, what.len(), "a path is not in the model");
    silent
}

fn map<M: Module>(model: &M, seed: u64, mut edit: impl FnMut(&str, &[usize], &mut [f32], &mut ChaCha8Rng)) -> M {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    edited(model, |path, shape, values| edit(path, shape, values, &mut rng))
}

/// Largest difference of any output over its largest value.
pub fn difference<O: ModuleInput>(a: O, b: O) -> f64 {
    crate::inspect::difference(a, b, 1e-6)
}

/// Scores of all layers but one.
pub struct AllBut(pub &'static str);

impl RankingPolicy for AllBut {
    fn name(&self) -> String {
        format!("all but {}", self.0)
    }
    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        let mut ranking = Magnitude::l2().rank(context)?;
        ranking.filters.remove(self.0);
        Ok(ranking)
    }
}

/// Scores that have nothing to do with the weights.
pub struct RandomScores(pub u64);

impl RankingPolicy for RandomScores {
    fn name(&self) -> String {
        "random".into()
    }
    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.0);
        let mut ranking = Ranking::default();
        for layer in context.prunable_layers() {
            ranking.filters.insert(layer.path.clone(), (0..layer.filters).map(|_| rng.random()).collect());
        }
        Ok(ranking)
    }
}

pub fn capture<M: GraphModule>(model: &M, x: &M::Inputs) -> Network {
    Network::capture(model, x).unwrap()
}

/// Prunes and checks what holds for every pruning: the smaller model has the size and the cost that its plan says, its
/// output is that of the original with zeros, and the original is as it was.
pub fn prune_with<M: GraphModule>(
    model: &M,
    x: &M::Inputs,
    planner: &Planner,
    policy: &dyn RankingPolicy,
) -> Result<PrunedModule<M>, PruneError> {
    let before = bytes(model);
    let made = planner.prune(model, x, policy);
    assert_eq!(bytes(model), before, "the model changed");
    let made = made?;
    let (smaller, plan) = (&made.model, &made.plan);
    assert_eq!(trained(smaller), plan.parameters_after);
    let recount = capture(smaller, x);
    assert_eq!(recount.macs(), plan.macs_after);
    let off = difference(smaller.run(x.clone()), plan.zeroed(model)?.run(x.clone()));
    assert!(off < TOLERANCE, "off by {off}");
    assert_eq!(bytes(model), before, "the model changed");
    Ok(made)
}

/// By magnitude, this share of every group of layers.
pub fn prune<M: GraphModule>(model: &M, x: &M::Inputs, ratio: f64) -> PrunedModule<M> {
    prune_with(model, x, &Planner::new().budget(Budget::PerLayer(ratio)), &Magnitude::l2()).unwrap()
}

/// Whole blocks instead of members of blocks.
pub fn prune_whole<M: GraphModule>(model: &M, x: &M::Inputs, ratio: f64) -> PrunedModule<M> {
    let planner = Planner::new().budget(Budget::PerLayer(ratio)).group_cut(GroupCut::WholeGroups);
    prune_with(model, x, &planner, &Magnitude::l2()).unwrap()
}

/// Every ratio, budget and policy; each has to pass the checks of [`prune_with`].
pub fn sweep<M: GraphModule>(model: &M, x: &M::Inputs, blocks: GroupCut) {
    let policies: [&dyn RankingPolicy; 4] = [&Magnitude::l1(), &Magnitude::l2(), &RandomScores(1), &RandomScores(2)];
    for ratio in [0.25, 0.5, 0.75, 0.95] {
        for budget in [Budget::PerLayer(ratio), Budget::Global(ratio)] {
            for policy in policies {
                let planner = Planner::new().budget(budget).group_cut(blocks);
                if let Err(error) = prune_with(model, x, &planner, policy) {
                    panic!("{budget:?} by {}: {error}", policy.name());
                }
            }
        }
    }
}

/// The indices of an axis of a parameter that stay, `None` where it is not cut.
pub fn cut(plan: &PrunePlan, path: &str, axis: usize) -> Option<Vec<usize>> {
    let cut = plan.cuts.iter().find(|cut| cut.path == path)?;
    Some(cut.axes.iter().find(|cut| cut.axis == axis)?.keep.clone())
}

/// [`cut`], where there is one.
pub fn kept(plan: &PrunePlan, path: &str, axis: usize) -> Vec<usize> {
    cut(plan, path, axis).unwrap_or_else(|| panic!("axis {axis} of {path} is not cut"))
}

/// What is not there any more.
pub fn gone(kept: &[usize], length: usize) -> Vec<usize> {
    (0..length).filter(|k| !kept.contains(k)).collect()
}

/// The norm of each slice along an axis, over the mean of all: what magnitude pruning goes by.
pub fn norms<const D: usize>(weight: &Param<Tensor<D>>, axis: usize) -> Vec<f64> {
    let (weights, shape) = (values(weight.val()), weight.dims());
    let inner: usize = shape[axis + 1..].iter().product();
    let mut sums = vec![0.0; shape[axis]];
    for (at, value) in weights.iter().enumerate() {
        sums[at / inner % shape[axis]] += f64::from(*value).powi(2);
    }
    let norms: Vec<f64> = sums.into_iter().map(f64::sqrt).collect();
    let mean = norms.iter().sum::<f64>() / norms.len() as f64;
    norms.into_iter().map(|norm| norm / mean).collect()
}

/// The indices that stay when the `remove` lowest scores leave.
pub fn strongest(scores: &[f64], remove: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    let mut stay = order[remove..].to_vec();
    stay.sort_unstable();
    stay
}

/// Scores of tied layers, index by index.
pub fn together(all: &[&[f64]]) -> Vec<f64> {
    (0..all[0].len()).map(|k| all.iter().map(|scores| scores[k]).sum()).collect()
}

/// The scores of blocks of an axis: `length` members each where members leave, or the blocks themselves.
pub fn folded(scores: &[f64], length: usize, blocks: GroupCut) -> Vec<f64> {
    match blocks {
        GroupCut::WholeGroups => scores.chunks(length).map(|block| block.iter().sum()).collect(),
        GroupCut::WithinGroups => (0..length).map(|k| scores.iter().skip(k).step_by(length).sum()).collect(),
    }
}

/// Asserts that a message holds all texts.
pub fn holds(error: impl std::fmt::Display, texts: &[&str]) {
    let message = error.to_string();
    for text in texts {
        assert!(message.contains(text), "`{text}` is not in: {message}");
    }
}

/// What an axis of a parameter loses.
pub fn gone_of(plan: &PrunePlan, path: &str, axis: usize, length: usize) -> Vec<usize> {
    gone(&kept(plan, path, axis), length)
}

/// Why a plan leaves a layer alone.
pub fn why<'a>(plan: &'a PrunePlan, layer: &str) -> &'a str {
    let unpruned = plan.unpruned.iter().find(|unpruned| unpruned.path == layer);
    &unpruned.unwrap_or_else(|| panic!("`{layer}` lost filters: {plan:?}")).reason
}
