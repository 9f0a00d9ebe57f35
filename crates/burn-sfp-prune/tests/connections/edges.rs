//! Zero weights, one filter, wrong scores, threads.

use burn::module::Param;
use burn::tensor::{Device, Tensor};
use burn_sfp_graph::{GraphError, Layer};
use burn_sfp_prune::{
    Afcc, ConnectionChoice, ConnectionPolicy, MagnitudeConnections, PolicyContext, PolicyExt, PruneError, Ranking,
    RankingPolicy, ReconstructionConnections, Spread, Wanted, choose_connections,
};

use super::net::{Known, LAYERS, Net};

struct Given {
    choice: ConnectionChoice,
    scores: Vec<f64>,
}

impl RankingPolicy for Given {
    fn name(&self) -> String {
        "given".into()
    }
    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        choose_connections(self, context)
    }
}

impl ConnectionPolicy for Given {
    fn choice(&self) -> &ConnectionChoice {
        &self.choice
    }
    fn scores(&self, _: &PolicyContext<'_>, _: &Layer, wanted: &Wanted<'_>) -> Result<Option<Vec<f64>>, PruneError> {
        assert!(wanted.first.is_none() && wanted.spread == Spread::PerLayer);
        Ok(Some(self.scores.clone()))
    }
}

#[test]
fn scores_of_ones_own_are_checked() {
    let known = Known::of(&Net::new([2, 3], 61));
    let choice = || ConnectionChoice::new().layers(["second"]);
    let given = |scores: &[f64]| Given { choice: choice(), scores: scores.to_vec() };
    let mask = known.rank(&given(&[1.0, 6.0, 2.0, 5.0, 3.0, 4.0])).unwrap()["second"].clone();
    assert!(mask.keeps(0, 1) && mask.keeps(1, 1) && mask.keeps(2, 1) && mask.kept() == 3);
    // Of equal scores the later ones stay.
    let mask = known.rank(&given(&[1.0; 6])).unwrap()["second"].clone();
    assert!(mask.keeps(1, 1) && mask.keeps(2, 0) && mask.keeps(2, 1));
    for wrong in [&[1.0; 5][..], &[1.0, f64::NAN, 1.0, 1.0, 1.0, 1.0]] {
        let error = known.rank(&given(wrong)).unwrap_err();
        assert!(matches!(&error, PruneError::BadRanking { policy, path, .. } if policy == "given" && path == "second"));
    }
    for share in [-0.1, 1.1, f64::NAN] {
        let wrong = Given { choice: choice().removing(share), scores: vec![1.0; 6] };
        assert!(matches!(known.rank(&wrong), Err(PruneError::Config(_))));
    }
    let unknown = MagnitudeConnections::l1().layers(["third"]);
    assert!(matches!(known.rank(&unknown), Err(PruneError::Graph(GraphError::UnknownLayer { .. }))));
}

#[test]
fn zero_weights_and_single_filters_are_pruned_without_ado() {
    for (widths, zero) in [([1, 1], false), ([3, 1], true), ([1, 4], true)] {
        let mut net = Net::new(widths, 62);
        if zero {
            let shape = net.second.weight.dims();
            net.second.weight = Param::from_tensor(Tensor::<4>::zeros(shape, &Device::flex()));
        }
        let known = Known::of(&net);
        for spread in [Spread::PerOutput, Spread::PerLayer, Spread::Global] {
            for share in [0.5, 1.0] {
                let reconstruction = || ReconstructionConnections::new().layers(LAYERS).removing(share).spread(spread);
                let policies: [&dyn RankingPolicy; 4] = [
                    &reconstruction(),
                    &reconstruction().in_label_fields(),
                    &MagnitudeConnections::l2().layers(LAYERS).removing(share).spread(spread),
                    &reconstruction().among(Afcc::new()),
                ];
                for policy in policies {
                    let masks = known.rank(policy).unwrap();
                    assert!(share < 1.0 || masks.values().all(|mask| mask.kept() == 0), "{}", policy.name());
                }
            }
        }
    }
}

#[test]
fn threads_change_no_bit() {
    let known = Known::of(&Net::new([10, 12], 63));
    let masks = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let policy = ReconstructionConnections::new().layers(LAYERS).removing(0.8).spread(Spread::Global);
            known.rank(&policy.in_label_fields().among(Afcc::new())).unwrap()
        })
    };
    assert_eq!(masks(1), masks(3));
}
