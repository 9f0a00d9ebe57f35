//! Evidence from calibration data, and the policies that rank by it, against plain references in double precision.

mod activations;
mod gradients;
#[allow(dead_code)]
#[path = "../common/graph/mod.rs"]
mod graph;
mod handed_out;
mod plain;
mod pool;
mod random;
mod reconstruction;
#[path = "../common/small.rs"]
mod small;
mod varied;

use burn_sfp_core::{NoProgress, TensorCalibration};
use burn_sfp_graph::Network;
use burn_sfp_prune::{Evidence, PolicyContext, PruneError, Ranking, RankingPolicy};
use small::{Small, images};

/// Samples of the calibration data, in batches of 5, 5 and 2.
pub(crate) const SAMPLES: usize = 12;
pub(crate) const BATCH: usize = 5;

pub(crate) fn data() -> TensorCalibration<burn::tensor::Tensor<4>> {
    let (x, labels) = images(SAMPLES);
    TensorCalibration::new(x, labels, BATCH)
}

pub(crate) fn gathered(model: &Small, policy: &dyn RankingPolicy) -> (Network, Evidence) {
    let network = Network::capture(model, &images(3).0).unwrap();
    (network, Evidence::gather(model, &data(), policy.needs(), &NoProgress).unwrap())
}

/// The ranking of a policy with the evidence that it needs.
pub(crate) fn ranking(model: &Small, policy: &dyn RankingPolicy) -> Ranking {
    let (network, evidence) = gathered(model, policy);
    policy.rank(&PolicyContext::new(&network, None).with_evidence(&evidence)).unwrap()
}

/// The ranking of a policy without evidence, or with what was gathered.
pub(crate) fn try_rank(
    network: &Network,
    evidence: Option<&Evidence>,
    policy: &dyn RankingPolicy,
) -> Result<Ranking, PruneError> {
    policy.rank(&PolicyContext { evidence, ..PolicyContext::new(network, None) })
}

/// Whether numbers agree up to a share of the largest.
pub(crate) fn close(found: &[f64], expected: &[f64], share: f64) {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    assert!(largest > 0.0, "nothing to compare");
    for (k, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= share * largest, "{k}: {found} for {expected}");
    }
}
