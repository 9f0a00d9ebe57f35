//! Connections that stay or go together.

use burn_sfp_prune::{
    ChosenFormat, MagnitudeConnections, Pattern, Planner, PruneError, ReconstructionConnections, SparseConfig, sparsify,
};

use super::net::{Known, Net, bits, highest, images};

#[test]
fn n_of_m_neighbours_stay() {
    let known = Known::of(&Net::new([10, 12], 51));
    let policy = MagnitudeConnections::l2().layers(["second"]).pattern(Pattern::NOfM { n: 2, m: 4 });
    let found = bits(&known.rank(&policy).unwrap()["second"]);
    for (found, norms) in found.chunks(10).zip(known.norms("second").chunks(10)) {
        for (found, norms) in found.chunks(4).zip(norms.chunks(4)) {
            assert_eq!(found, highest(norms, &vec![true; norms.len()], 2));
        }
    }
    for (n, m) in [(0, 4), (5, 4)] {
        let wrong = MagnitudeConnections::l2().pattern(Pattern::NOfM { n, m });
        assert!(matches!(known.rank(&wrong), Err(PruneError::Config(_))));
    }
}

#[test]
fn groups_share_the_inputs_with_the_highest_sums() {
    let known = Known::of(&Net::new([10, 12], 52));
    let policy = MagnitudeConnections::l2().layers(["second"]).removing(0.7).pattern(Pattern::Shared { outputs: 4 });
    let mask = &known.rank(&policy).unwrap()["second"];
    let rows: Vec<Vec<bool>> = bits(mask).chunks(10).map(<[bool]>::to_vec).collect();
    let mut sets = rows.clone();
    sets.sort();
    sets.dedup();
    assert!(sets.len() <= 3);
    assert_eq!(mask.kept(), 36);
    // No input that a group leaves out has a higher sum than one that any group keeps.
    let norms = known.norms("second");
    let sum = |set: &Vec<bool>, input: usize| {
        let members = (0..12).filter(|&output| rows[output] == *set);
        members.map(|output| norms[output * 10 + input]).sum::<f64>()
    };
    for set in &sets {
        let of = |keep: bool| (0..10).filter(move |&input| set[input] == keep).map(|input| sum(set, input));
        assert!(of(true).fold(f64::INFINITY, f64::min) >= of(false).fold(0.0, f64::max));
    }
    let wrong = MagnitudeConnections::l2().pattern(Pattern::Shared { outputs: 0 });
    assert!(matches!(known.rank(&wrong), Err(PruneError::Config(_))));
}

#[test]
fn sparse_layers_take_shared_inputs_as_blocks() {
    let net = Net::new([128, 128], 53);
    let known = Known::of(&net);
    let policy =
        ReconstructionConnections::new().layers(["second"]).removing(0.75).pattern(Pattern::Shared { outputs: 64 });
    let policy = known.evidence.policy(policy);
    let plan = Planner::new().keep_empty(true).plan(&known.network, &known.analysis, &policy).unwrap();
    // The more positions, the less starting another operation counts.
    let batch = images().repeat_dim(0, 30);
    let sparse = sparsify(&plan.apply(&net).unwrap(), &batch, &SparseConfig::new()).unwrap();
    assert_eq!(sparse.layers.len(), 1);
    assert!(matches!(sparse.layers[0].format, ChosenFormat::Blocks(2)), "{:?}", sparse.layers[0].format);
    assert_eq!(sparse.layers[0].macs, sparse.layers[0].macs_dense / 4);
}
