//! [`PolicyExt`]: policies combined by method.

use super::super::choice::ConnectionPolicy;
use super::super::ranking::RankingPolicy;
use super::among::Among;
use super::blocks::{BlockScore, WithBlocks};
use super::fallback::Fallback;
use super::product::Product;
use super::rank_average::RankAverage;
use super::restrict::Restrict;
use super::weighted_sum::WeightedSum;

/// Combines policies. Every [`RankingPolicy`] has these methods, also a boxed one or a reference, and what they return can be combined
/// further.
///
/// | call | score of a filter | a layer that only one policy scores |
/// | --- | --- | --- |
/// | `a.times(b)` | product | keeps its filters |
/// | `a.plus(0.3, b)` | a's and 0.3 of b's | keeps its filters |
/// | `a.rank_average(b)` | mean rank | keeps its filters |
/// | `a.or(b)` | a's, or else b's | is ranked by that one |
/// | `a.within(b, 0.2)` | a's; the fifth that is lowest by b goes first | is ranked if a scores it |
///
/// `a.among(b)` is for policies over connections: a chooses among those that b keeps.
///
/// `a.with_blocks(score)` adds scores of whole residual blocks to a's. Combinations of policies leave scores of blocks out: add them last.
///
/// Heads of an attention count as a layer of their own here: where only one of two policies scores them, their product, sum or mean rank
/// is that of their nodes in the layers of queries, keys and values.
///
/// ```
/// use burn_sfp_prune::{GeometricMedian, Magnitude, PolicyExt, RankingPolicy, SfpRanking};
///
/// let policy = SfpRanking::new().plus(0.3, Magnitude::l2()).within(GeometricMedian::new(), 0.1).or(Magnitude::l2());
/// let boxed: Box<dyn RankingPolicy> = Box::new(policy);
/// let policy = boxed.times(Magnitude::l1());
/// ```
pub trait PolicyExt: RankingPolicy {
    /// Multiplies the scores of two policies: see [`Product`].
    fn times<'a>(self, other: impl RankingPolicy + 'a) -> Product<'a>
    where
        Self: Sized + 'a,
    {
        Product::new(self, other)
    }

    /// Adds the scores of another policy with a weight: see [`WeightedSum`].
    fn plus<'a>(self, weight: f64, other: impl RankingPolicy + 'a) -> WeightedSum<'a>
    where
        Self: Sized + 'a,
    {
        WeightedSum::new(1.0, self).plus(weight, other)
    }

    /// Takes the mean of the ranks of two policies: see [`RankAverage`].
    fn rank_average<'a>(self, other: impl RankingPolicy + 'a) -> RankAverage<'a>
    where
        Self: Sized + 'a,
    {
        RankAverage::new(self, other)
    }

    /// Has another policy rank what this one does not: see [`Fallback`].
    fn or<'a>(self, other: impl RankingPolicy + 'a) -> Fallback<'a>
    where
        Self: Sized + 'a,
    {
        Fallback::new(self, other)
    }

    /// Scores whole residual blocks besides: see [`WithBlocks`].
    fn with_blocks<'a>(self, score: BlockScore) -> WithBlocks<'a>
    where
        Self: Sized + 'a,
    {
        WithBlocks::new(self, score)
    }

    /// Lets this policy choose among what another one keeps: see [`Restrict`].
    fn within<'a>(self, keeper: impl RankingPolicy + 'a, share: f64) -> Restrict<'a>
    where
        Self: Sized + 'a,
    {
        Restrict::new(self, keeper, share)
    }

    /// Lets this policy choose among the connections that another one keeps: see [`Among`].
    fn among<'a>(self, keeper: impl RankingPolicy + 'a) -> Among<'a>
    where
        Self: ConnectionPolicy + Sized + 'a,
    {
        Among::new(self, keeper)
    }
}

impl<P: RankingPolicy> PolicyExt for P {}
