//! [`Random`]: the control for every ranking of filters.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::context::PolicyContext;
use super::ranking::{Ranking, RankingPolicy};
use crate::PruneError;

/// Ranks filters and heads at random: what a policy has to beat.
///
/// The scores are uniform between 0 and 1. Those of a layer depend on the seed and on the path of the layer alone, so they stay the
/// same when other layers come or go.
///
/// ```
/// use burn_sfp_prune::{Random, RankingPolicy};
/// assert_eq!(Random::new(7).name(), "random");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Random {
    seed: u64,
}

impl Random {
    /// Creates the policy with the seed of its scores.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    fn scores(self, path: &str, count: usize) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(fnv1a(path));
        (0..count).map(|_| rng.random()).collect()
    }
}

impl RankingPolicy for Random {
    fn name(&self) -> String {
        "random".into()
    }

    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        let mut ranking = Ranking::default();
        for layer in context.prunable_layers() {
            ranking.filters.insert(layer.path.clone(), self.scores(&layer.path, layer.filters));
        }
        for heads in context.network.heads().iter().filter(|heads| heads.not_prunable.is_none()) {
            ranking.filters.insert(heads.path.clone(), self.scores(&heads.path, heads.heads));
        }
        Ok(ranking)
    }
}

/// The hash FNV-1a with 64 bits: the same on every machine and in every version.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_standard() {
        assert_eq!(fnv1a(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a("foobar"), 0x8594_4171_f739_67e8);
    }
}
