//! [`LayerRule`]: what holds for some layers beside the budget.

use std::fmt;
use std::sync::Arc;

use burn_sfp_graph::{GraphError, Layer, Network};
use burn_sfp_nn::ConfigError;

use super::exclude::{is_inside, names};
use super::settings::Planner;
use crate::PruneError;
use crate::group::Groups;
use crate::select::Bounds;

/// A number of filters: a count, or a share of a layer's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// So many filters.
    Count(usize),
    /// This share of a layer's filters, rounded up; from 0 to 1.
    Share(f64),
}

/// What holds for some layers beside the budget: how few and how many filters they keep, in which steps they shrink, and whether they lose
/// a share of their own.
///
/// Rules are given to [`Planner::layers`](crate::Planner::layers). Where several speak of one layer, the later one wins, setting by setting.
/// Layers whose filters are tied together keep the most that one of them has to keep, and the fewest that another one may keep; what
/// stays is a multiple of the largest of their multiples.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::GraphModule;
/// use burn_sfp_prune::{Amount, Budget, LayerRule, Magnitude, Planner};
/// # #[derive(Module, Debug)]
/// # struct Mlp { a: Linear, b: Linear, c: Linear }
/// # impl GraphModule for Mlp {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<2>) -> Tensor<2> { self.c.forward(self.b.forward(self.a.forward(x))) }
/// # }
/// # let device = Device::flex();
/// # let linear = |from, to| LinearConfig::new(from, to).init(&device);
/// # let mlp = Mlp { a: linear(16, 60), b: linear(60, 60), c: linear(60, 4) };
/// # let x = Tensor::zeros([1, 16], &device);
/// let planner = Planner::new()
///     .budget(Budget::Global(0.5))
///     .layers(LayerRule::all().multiple_of(8).keep_at_least(Amount::Share(0.1)))
///     .layers(LayerRule::at("b").ratio(0.2));
/// let smaller = planner.prune(&mlp, &x, &Magnitude::l2())?.model;
/// assert_eq!(smaller.b.weight.dims()[1], 48);
/// assert_eq!(smaller.a.weight.dims()[1] % 8, 0);
/// # Ok::<(), burn_sfp_prune::PruneError>(())
/// ```
#[derive(Clone)]
pub struct LayerRule {
    which: Which,
    ratio: Option<f64>,
    least: Option<Amount>,
    most: Option<Amount>,
    multiple: Option<usize>,
}

/// The layers that a rule speaks of.
#[derive(Clone)]
enum Which {
    All,
    /// A layer, or the layers inside a module.
    At(String),
    Where(Arc<dyn Fn(&str) -> bool + Send + Sync>),
}

impl LayerRule {
    /// A rule for all layers.
    pub fn all() -> Self {
        Self::of(Which::All)
    }

    /// A rule for the layer at this module path, or for all layers inside a module.
    pub fn at(path: impl Into<String>) -> Self {
        Self::of(Which::At(path.into()))
    }

    /// A rule for the layers whose module path meets a condition.
    ///
    /// ```
    /// use burn::store::PathFilter;
    /// use burn_sfp_prune::LayerRule;
    /// let expand = PathFilter::new().with_regex(r"^blocks\.\d+\.expand");
    /// let rule = LayerRule::matching(move |path| expand.matches(path)).ratio(0.6);
    /// ```
    pub fn matching(condition: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self::of(Which::Where(Arc::new(condition)))
    }

    fn of(which: Which) -> Self {
        Self { which, ratio: None, least: None, most: None, multiple: None }
    }

    /// These layers lose this share of their filters, rounded down; at least 0 and below 1. The budget does not ask them for more.
    pub fn ratio(mut self, share: f64) -> Self {
        self.ratio = Some(share);
        self
    }

    /// These layers keep at least so many filters.
    pub fn keep_at_least(mut self, amount: Amount) -> Self {
        self.least = Some(amount);
        self
    }

    /// These layers keep at most so many filters, whatever the budget says.
    pub fn keep_at_most(mut self, amount: Amount) -> Self {
        self.most = Some(amount);
        self
    }

    /// If these layers lose filters, they keep a multiple of this number (8 and 16 are what kernels like). Budgets are met in these steps:
    /// a share of channels as nearly as they allow, a cost from below.
    pub fn multiple_of(mut self, multiple: usize) -> Self {
        self.multiple = Some(multiple);
        self
    }

    fn holds_for(&self, network: &Network, layer: &Layer) -> bool {
        match &self.which {
            Which::All => true,
            Which::At(path) => names(network, layer).any(|name| is_inside(name, path)),
            Which::Where(condition) => condition(&layer.path),
        }
    }

    fn check(&self) -> Result<(), PruneError> {
        let refuse = |name, found: String, expected| Err(PruneError::Config(ConfigError { name, found, expected }));
        if let Some(ratio) = self.ratio.filter(|ratio| !(0.0..1.0).contains(ratio)) {
            return refuse("ratio", ratio.to_string(), "at least 0 and below 1");
        }
        for amount in [self.least, self.most].into_iter().flatten() {
            match amount {
                Amount::Share(share) if !(0.0..=1.0).contains(&share) => {
                    return refuse("share of the filters", share.to_string(), "from 0 to 1");
                }
                _ => {}
            }
        }
        match self.multiple {
            Some(0) => refuse("multiple", "0".into(), "at least 1"),
            _ => Ok(()),
        }
    }
}

impl Amount {
    fn of(self, filters: usize) -> usize {
        match self {
            Self::Count(count) => count,
            Self::Share(share) => (share * filters as f64 * (1.0 - 4.0 * f64::EPSILON)).ceil() as usize,
        }
    }
}

impl fmt::Debug for LayerRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let which = match &self.which {
            Which::All => "all layers",
            Which::At(path) => path,
            Which::Where(_) => "a condition",
        };
        let Self { ratio, least, most, multiple, .. } = self;
        let mut shown = f.debug_struct("LayerRule");
        shown.field("which", &which).field("ratio", ratio).field("least", least).field("most", most);
        shown.field("multiple", multiple).finish()
    }
}

impl Planner {
    /// Sets what holds for some layers beside the budget: how few and how many filters they keep, in which steps, or a share of their own; see
    /// [`LayerRule`]. Calls add up.
    ///
    /// A rule that speaks of no layer makes [`plan`](Planner::plan) return
    /// [`GraphError::UnknownLayer`](burn_sfp_graph::GraphError::UnknownLayer) or [`PruneError::NoSuchLayer`].
    pub fn layers(mut self, rule: LayerRule) -> Self {
        self.layers.push(rule);
        self
    }
}

/// Checks the settings of rules.
pub(super) fn check(rules: &[LayerRule]) -> Result<(), PruneError> {
    rules.iter().try_for_each(LayerRule::check)
}

/// Returns what holds for each group. A rule that speaks of no layer is an error.
pub(super) fn bounds(rules: &[LayerRule], network: &Network, groups: &Groups) -> Result<Vec<Bounds>, PruneError> {
    for rule in rules {
        if !network.layers().iter().any(|layer| rule.holds_for(network, layer)) {
            let available = network.layers().iter().map(|layer| layer.path.clone()).collect();
            return Err(match &rule.which {
                Which::At(path) => GraphError::UnknownLayer { path: path.clone(), available }.into(),
                _ => PruneError::NoSuchLayer { available },
            });
        }
    }
    let of_layer: Vec<Bounds> = network.layers().iter().map(|layer| of_layer(rules, network, layer)).collect();
    let of_group = |layers: &[usize]| layers.iter().map(|&layer| of_layer[layer]).reduce(join).unwrap_or_default();
    Ok(groups.groups.iter().map(|group| of_group(&group.layers)).collect())
}

fn of_layer(rules: &[LayerRule], network: &Network, layer: &Layer) -> Bounds {
    let mut bounds = Bounds::default();
    for rule in rules.iter().filter(|rule| rule.holds_for(network, layer)) {
        if let Some(least) = rule.least {
            bounds.least = least.of(layer.filters).clamp(1, layer.filters.max(1));
        }
        if let Some(most) = rule.most {
            bounds.most = most.of(layer.filters).max(1);
        }
        bounds.multiple = rule.multiple.unwrap_or(bounds.multiple);
        bounds.share = rule.ratio.or(bounds.share);
    }
    bounds
}

/// What holds for layers that are tied together.
fn join(a: Bounds, b: Bounds) -> Bounds {
    let share = match (a.share, b.share) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    Bounds { least: a.least.max(b.least), most: a.most.min(b.most), multiple: a.multiple.max(b.multiple), share }
}
