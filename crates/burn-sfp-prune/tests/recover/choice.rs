//! Connections chosen by what they explain, against plain loops; and what that is worth once weights are re-solved.

use burn_sfp_core::NoProgress;
use burn_sfp_prune::{
    Evidence, MagnitudeConnections, Planner, PrunedModule, RankingPolicy, ReconstructionConnections, Recover,
    RecoveryStep, recover,
};

use super::net::{Net, Seen, calibration, images};
use super::plain::{Map, eliminate, patches};
use super::steps::weight;

const SAMPLES: usize = 13;
const SHARE: f64 = 0.6;

fn pruned(net: &Net, policy: impl RankingPolicy) -> PrunedModule<Net> {
    let evidence = Evidence::gather(net, &calibration(SAMPLES), policy.needs(), &NoProgress).unwrap();
    Planner::new().keep_empty(true).prune(net, &images(2, 3), &evidence.policy(policy)).unwrap()
}

/// For each output of a layer the inputs that orthogonal matching pursuit chooses.
fn pursue(net: &Net, layer: &Seen, is_centered: bool, count: usize) -> Vec<Vec<u32>> {
    let [_, _, height, width] = layer.output.dims();
    let mut rows = patches(&Map::new(&layer.input), layer.geometry, 0, [height, width]);
    let (columns, number) = (rows[0].len(), rows.len() as f64);
    if is_centered {
        let means: Vec<f64> = (0..columns).map(|k| rows.iter().map(|row| row[k]).sum::<f64>() / number).collect();
        rows.iter_mut().for_each(|row| row.iter_mut().zip(&means).for_each(|(value, mean)| *value -= mean));
    }
    let gram = |a: usize, b: usize| rows.iter().map(|row| row[a] * row[b]).sum::<f64>();
    let mut matrix: Vec<Vec<f64>> = (0..columns).map(|a| (0..columns).map(|b| gram(a, b)).collect()).collect();
    let plain = matrix.clone();
    let shift = 1e-3 * (0..columns).map(|k| matrix[k][k]).sum::<f64>() / columns as f64;
    (0..columns).for_each(|k| matrix[k][k] += shift);
    let elements = layer.geometry.kernel * layer.geometry.kernel;
    let of = |input: usize| (input * elements..(input + 1) * elements).collect::<Vec<usize>>();
    let solve = |columns: &[usize], right: &[f64]| {
        let row = |(a, value): (&usize, &f64)| columns.iter().map(|&b| matrix[*a][b]).chain([*value]).collect();
        eliminate(&mut columns.iter().zip(right).map(row).collect::<Vec<Vec<f64>>>())
    };
    let choose = |weights: &Vec<f64>| {
        let products: Vec<f64> = plain.iter().map(|row| row.iter().zip(weights).map(|(a, b)| a * b).sum()).collect();
        let mut chosen: Vec<usize> = Vec::new();
        while chosen.len() < count {
            let own: Vec<usize> = chosen.iter().flat_map(|&input| of(input)).collect();
            let right: Vec<f64> = own.iter().map(|&k| products[k]).collect();
            let solved = solve(&own, &right);
            let explained = |k: usize| own.iter().zip(&solved).map(|(&j, w)| matrix[k][j] * w).sum::<f64>();
            let gain = |input: usize| {
                let rest: Vec<f64> = of(input).into_iter().map(|k| products[k] - explained(k)).collect();
                rest.iter().zip(solve(&of(input), &rest)).map(|(a, b)| a * b).sum::<f64>()
            };
            let open = (0..columns / elements).filter(|input| !chosen.contains(input));
            chosen.push(open.max_by(|&a, &b| gain(a).total_cmp(&gain(b))).unwrap());
        }
        chosen.sort_unstable();
        chosen.into_iter().map(|input| input as u32).collect()
    };
    weight(net, layer.path).iter().map(choose).collect()
}

#[test]
fn connections_are_those_of_plain_loops() {
    let net = Net::new(31);
    // The convolution before the sum has neither a bias nor a normalisation directly behind it.
    let layers = [("dilated", false), ("classifier", false)];
    let policy = ReconstructionConnections::new().layers(["dilated", "classifier"]).removing(SHARE);
    let made = pruned(&net, policy);
    assert_eq!(made.plan.masks.len(), 2);
    let (_, seen, _) = net.trace(images(SAMPLES, 11));
    for (path, is_centered) in layers {
        let layer = seen.iter().find(|layer| layer.path == path).unwrap();
        let inputs = layer.input.dims()[1];
        let count = inputs - (SHARE * inputs as f64).round() as usize;
        let mask = made.plan.masks.iter().find(|mask| mask.layer == path).unwrap();
        assert_eq!(mask.keep, pursue(&net, layer, is_centered, count), "{path}");
    }
}

#[test]
fn means_are_taken_out_where_there_is_a_bias() {
    let net = Net::new(32);
    let made = pruned(&net, ReconstructionConnections::new().layers(["hidden"]).removing(0.95));
    let (_, seen, _) = net.trace(images(SAMPLES, 11));
    let inputs = seen[3].input.dims()[1];
    let count = inputs - (0.95 * inputs as f64).round() as usize;
    assert_eq!(made.plan.masks[0].keep, pursue(&net, &seen[3], true, count));
}

#[test]
fn re_solved_they_explain_more_than_the_largest() {
    let net = Net::new(33);
    let layers = ["dilated", "hidden"];
    let error = |made: PrunedModule<Net>| {
        let config = Recover::new().patches(1 << 20);
        let result = recover(&net, &made.model, &made.plan, &calibration(SAMPLES), &config, &NoProgress).unwrap();
        result.report.correction("dilated", RecoveryStep::LeastSquares).unwrap().error.unwrap().1
    };
    let by_error = error(pruned(&net, ReconstructionConnections::new().layers(layers).removing(SHARE)));
    let by_size = error(pruned(&net, MagnitudeConnections::l2().layers(layers).removing(SHARE)));
    assert!(by_error < 0.9 * by_size, "{by_error} {by_size}");
}
