//! [`WithBlocks`]: a policy that scores whole residual blocks too.

use std::collections::BTreeMap;

use burn_sfp_core::BlockStream;

use super::super::context::PolicyContext;
use super::super::ranking::{Ranking, RankingPolicy};
use super::part::Part;
use crate::PruneError;
use crate::evidence::Needs;

/// What a residual block is worth.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum BlockScore {
    /// What a readout of the stream gains across the block: the top-1 behind it less that in front of it, from 0 (not from below) to 1. Not
    /// from the paper, whose readouts are those of filters; this is its accuracy along the depth (section 2) at the streams.
    ReadoutGain,
    /// How much the block changes its stream, as the root of the ratio of the sums of squares of the change and of the stream. A block that changes little does little;
    /// compare the cosine of Men et al., "ShortGPT: Layers in Large Language Models are More Redundant Than You Expect", 2024,
    /// arXiv 2403.03853, equation 1.
    StreamChange,
    /// Your own scores, by module path. Others stay.
    Given(BTreeMap<String, f64>),
}

/// A policy whose ranking says what whole residual blocks are worth besides, so that width and depth are cut in one budget.
///
/// The scores of blocks are divided by their mean, and multiplied by the mean score that the policy gives the block's own filters. So a
/// block of average worth goes when channels of its own filters' average go; one at a tenth of it goes far earlier. In a budget that goes by
/// score for each unit of cost ([`Keep::by_cost`](crate::Keep::by_cost), [`KeepLatency`](crate::KeepLatency)), the sum over the block's
/// filters stands against all that the block saves.
///
/// Blocks are left out in the user's own type where they stand in a `Vec` or in an `Option` ([`Shrink`](burn_sfp_nn::Shrink)), if what
/// they add to their stream is zero with their parameters, so that the result equals the original with them at zero. Others stay and are
/// named ([`PrunePlan::kept_blocks`](crate::PrunePlan::kept_blocks)). The budget has to be one in units of cost.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::GraphModule;
/// # use burn_sfp_nn::Shrink;
/// use burn_sfp_prune::{BlockScore, Keep, Magnitude, Planner, PolicyExt};
/// #[derive(Module, Debug, Shrink)]
/// struct Net { first: Linear, blocks: Vec<Linear>, last: Linear }
///
/// impl GraphModule for Net {
///     type Inputs = Tensor<2>;
///     type Outputs = Tensor<2>;
///     fn run(&self, x: Tensor<2>) -> Tensor<2> {
///         let block = |x: Tensor<2>, block: &Linear| x.clone() + burn::tensor::activation::relu(block.forward(x));
///         self.last.forward(self.blocks.iter().fold(self.first.forward(x), block))
///     }
///     fn shrinkable(&mut self) -> Option<&mut dyn Shrink> { Some(self) }
/// }
/// # let device = Device::flex();
/// # let linear = |from, to| LinearConfig::new(from, to).init(&device);
/// # let net = Net { first: linear(4, 8), blocks: vec![linear(8, 8), linear(8, 8), linear(8, 8)], last: linear(8, 3) };
/// let scores = [("blocks.0".to_string(), 1.0), ("blocks.1".to_string(), 0.01), ("blocks.2".to_string(), 2.0)];
/// let policy = Magnitude::l2().with_blocks(BlockScore::Given(scores.into()));
/// let smaller = Planner::new().budget(Keep::macs(0.75)).prune(&net, &Tensor::zeros([1, 4], &device), &policy)?;
/// assert_eq!(smaller.model.blocks.len(), 2);
/// assert_eq!(smaller.plan.path_after("blocks.2").as_deref(), Some("blocks.1"));
/// # Ok::<(), burn_sfp_prune::PruneError>(())
/// ```
#[derive(Debug)]
pub struct WithBlocks<'a> {
    policy: Part<'a>,
    score: BlockScore,
}

impl<'a> WithBlocks<'a> {
    /// Creates the policy with scores of blocks.
    pub fn new(policy: impl RankingPolicy + 'a, score: BlockScore) -> Self {
        Self { policy: Part::new(policy), score }
    }

    fn own_needs(&self) -> Needs {
        match self.score {
            BlockScore::ReadoutGain | BlockScore::StreamChange => Needs::none().blocks(),
            BlockScore::Given(_) => Needs::none(),
        }
    }
}

impl RankingPolicy for WithBlocks<'_> {
    fn name(&self) -> String {
        let by = match self.score {
            BlockScore::ReadoutGain => "readout gain",
            BlockScore::StreamChange => "stream change",
            BlockScore::Given(_) => "given scores",
        };
        format!("{} with blocks by {by}", self.policy.name())
    }

    fn needs(&self) -> Needs {
        self.policy.needs().and(self.own_needs())
    }

    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        let mut ranking = self.policy.rank(context)?;
        let of_evidence = |score: fn(&BlockStream) -> f64| {
            let evidence = context.require_evidence(&self.name(), self.own_needs())?;
            Ok::<_, PruneError>(evidence.blocks.iter().map(|(path, found)| (path.clone(), score(found))).collect())
        };
        ranking.blocks = match &self.score {
            BlockScore::ReadoutGain => of_evidence(|found| (found.accuracy_after - found.accuracy_before).max(0.0))?,
            BlockScore::StreamChange => of_evidence(|found| found.change)?,
            BlockScore::Given(scores) => scores.clone(),
        };
        Ok(ranking)
    }
}
