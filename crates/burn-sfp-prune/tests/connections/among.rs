//! One policy chooses among the connections that another one keeps.

use burn_sfp_prune::{
    Afcc, Connections, MagnitudeConnections, PolicyContext, PolicyExt, PruneError, Ranking, RankingPolicy,
    ReconstructionConnections, Spread,
};

use super::net::{Known, LAYERS, Net, bits, highest};

/// Keeps what a rule says, of one layer.
struct Rule(usize);

impl RankingPolicy for Rule {
    fn name(&self) -> String {
        "rule".into()
    }

    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        let mut ranking = Ranking::default();
        let layer = context.network.layer("second").unwrap();
        let keep = |output: usize, input: usize| (5 * output + 3 * input) % 7 < self.0;
        ranking.connections.insert("second".into(), Connections::from_fn(layer.filters, layer.inputs, keep));
        Ok(ranking)
    }
}

#[test]
fn the_share_is_met_whatever_the_other_keeps() {
    let known = Known::of(&Net::new([10, 12], 31));
    for kept in 0..=7 {
        let rule = known.rank(&Rule(kept)).unwrap()["second"].clone();
        let first = bits(&rule);
        for share in [0.0, 0.2, 0.55, 0.9, 1.0] {
            let policy = MagnitudeConnections::l2().layers(LAYERS).removing(share).among(Rule(kept));
            let masks = known.rank(&policy).unwrap();
            if share == 0.0 {
                assert!(masks.is_empty());
                continue;
            }
            let count = 120 - (share * 120.0_f64).round() as usize;
            let found = bits(&masks["second"]);
            assert_eq!(found, highest(&known.norms("second"), &first, count), "{kept} {share}");
            let is_within = |a: &[bool], b: &[bool]| a.iter().zip(b).all(|(a, b)| !a | b);
            assert!(if rule.kept() >= count { is_within(&found, &first) } else { is_within(&first, &found) });
            // A layer without a mask is ranked by the first policy alone.
            let alone = known.rank(&MagnitudeConnections::l2().layers(LAYERS).removing(share)).unwrap();
            assert_eq!(masks["fc"], alone["fc"]);
        }
    }
}

#[test]
fn reconstruction_searches_what_is_kept_first() {
    let known = Known::of(&Net::new([10, 12], 32));
    let rule = known.rank(&Rule(3)).unwrap()["second"].clone();
    for spread in [Spread::PerOutput, Spread::PerLayer, Spread::Global] {
        for share in [0.3, 0.8] {
            let policy = ReconstructionConnections::new().layers(["second"]).removing(share).spread(spread);
            let mask = known.rank(&policy.clone().among(Rule(3))).unwrap()["second"].clone();
            let plain = known.rank(&policy).unwrap()["second"].clone();
            assert_eq!(mask.kept(), plain.kept());
            assert_eq!(mask.kept(), 120 - (share * 120.0_f64).round() as usize);
            assert_ne!(mask, plain);
            for output in 0..12 {
                let of =
                    |mask: &Connections| (0..10).filter(|&input| mask.keeps(output, input)).collect::<Vec<usize>>();
                let (found, first) = (of(&mask), of(&rule));
                let is_within = |a: &[usize], b: &[usize]| a.iter().all(|k| b.contains(k));
                assert!(spread != Spread::PerOutput || is_within(&found, &first) || is_within(&first, &found));
            }
        }
    }
}

#[test]
fn afcc_restricts_and_needs_its_analysis() {
    let net = Net::new([10, 12], 33);
    let known = Known::of(&net);
    let afcc = Afcc::new().layers(["second"]);
    let kept = known.rank(&afcc).unwrap()["second"].clone();
    assert!(kept.kept() > 0 && kept.kept() < 120);
    let share = 1.0 - (kept.kept() as f64 / 2.0).floor() / 120.0;
    let half = MagnitudeConnections::l1().layers(["second"]).removing(share).among(&afcc);
    let mask = known.rank(&half).unwrap()["second"].clone();
    assert_eq!(mask.kept(), kept.kept() / 2);
    assert!((0..120).all(|k| !mask.keeps(k / 10, k % 10) || kept.keeps(k / 10, k % 10)));
    assert_eq!(half.name(), "magnitude-connections-l1 among afcc");
    let context = PolicyContext::new(&known.network, None);
    assert!(matches!(half.rank(&context), Err(PruneError::NeedsAnalysis { .. })));
}
