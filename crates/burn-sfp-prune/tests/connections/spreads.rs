//! How the connections that stay are spread.

use burn_sfp_prune::{MagnitudeConnections, Normalizer, Planner, PruneError, ReconstructionConnections, Spread};

use super::net::{Known, LAYERS, Net, bits, highest};

/// Weights of a connection of each layer.
fn weights(path: &str) -> usize {
    if path == "second" { 9 } else { 1 }
}

#[test]
fn every_output_keeps_its_number() {
    let known = Known::of(&Net::new([10, 12], 41));
    let policy = MagnitudeConnections::l2().layers(["second"]).removing(0.74).spread(Spread::PerOutput);
    let found = bits(&known.rank(&policy).unwrap()["second"]);
    for (found, norms) in found.chunks(10).zip(known.norms("second").chunks(10)) {
        assert_eq!(found, highest(norms, &[true; 10], 3));
    }
}

#[test]
fn layers_are_compared_by_weight() {
    let known = Known::of(&Net::new([10, 12], 42));
    let whole = (120 * 9 + 12 * 16 * 3) as f64;
    for share in [0.25, 0.6, 0.95] {
        let most = (1.0 - share) * whole;
        let magnitude = MagnitudeConnections::l2().layers(LAYERS).removing(share).spread(Spread::Global);
        let reconstruction = ReconstructionConnections::new().layers(LAYERS).removing(share).spread(Spread::Global);
        let masks = known.rank(&magnitude).unwrap();
        for masks in [&masks, &known.rank(&reconstruction).unwrap()] {
            let used: usize = LAYERS.iter().map(|path| masks[*path].kept() * weights(path)).sum();
            assert!(used as f64 <= most + 1e-6 && used as f64 > most - 9.0, "{used} {most}");
        }
        // No score for a weight that goes is above one that stays.
        let mut all: Vec<(f64, bool)> = Vec::new();
        for path in LAYERS {
            let scores =
                Normalizer::Lamp.apply(&known.norms(path)).into_iter().map(|score| score / weights(path) as f64);
            all.extend(scores.zip(bits(&masks[path])));
        }
        let of = |keep: bool| all.iter().filter(move |(_, kept)| *kept == keep).map(|(score, _)| *score);
        assert!(of(true).fold(f64::INFINITY, f64::min) >= of(false).fold(0.0, f64::max));
    }
}

#[test]
fn weights_and_multiply_adds_are_counted() {
    let known = Known::of(&Net::new([10, 12], 43));
    let whole = 120 * 9 + 12 * 16 * 3;
    let even = known.rank(&MagnitudeConnections::l2().layers(LAYERS).keeping_weights(whole / 4)).unwrap();
    assert_eq!((even["second"].kept(), even["fc"].kept()), (30, 12 * 16 * 3 / 4));
    let policy = MagnitudeConnections::l2().layers(LAYERS).keeping_weights(333).spread(Spread::Global);
    let masks = known.rank(&policy).unwrap();
    let used = masks["second"].kept() * 9 + masks["fc"].kept();
    assert!(used <= 333 && used > 324, "{used}");
    // A kernel is multiplied at 16 positions.
    let policy = MagnitudeConnections::l2().layers(LAYERS).keeping_macs(5000).spread(Spread::Global);
    let masks = known.rank(&policy).unwrap();
    let layer = known.network.layer("second").unwrap();
    let each = layer.macs as usize / 120;
    let used = masks["second"].kept() * each + masks["fc"].kept();
    assert!(used <= 5000 && used + each > 5000, "{used}");
    // More than there is removes nothing.
    assert!(known.rank(&MagnitudeConnections::l2().keeping_weights(1 << 40)).unwrap().is_empty());
}

#[test]
fn another_plan_gives_the_numbers() {
    let net = Net::new([10, 12], 44);
    let known = Known::of(&net);
    let plan = |share: f64| {
        let policy = MagnitudeConnections::l1().layers(["second"]).removing(share);
        Planner::new().keep_empty(true).plan(&known.network, &known.analysis, &policy).unwrap()
    };
    let made = plan(0.63);
    for spread in [Spread::PerLayer, Spread::Global] {
        let like = ReconstructionConnections::new().like(&made).spread(spread);
        let masks = known.rank(&like).unwrap();
        assert_eq!(masks.keys().collect::<Vec<_>>(), ["second"]);
        assert_eq!(masks["second"].kept(), 120 - 76);
    }
    // The plan of another model is refused by every policy over connections.
    let other = Net::new([11, 12], 45);
    let other = Known::of(&other);
    for error in [
        other.rank(&ReconstructionConnections::new().like(&made)).unwrap_err(),
        other.rank(&MagnitudeConnections::l1().like(&made)).unwrap_err(),
    ] {
        assert!(matches!(&error, PruneError::ModelMismatch { what } if what.contains("weight")), "{error}");
    }
}
