//! What inputs explain, against plain loops.

use burn_sfp_core::Pursuit;

use super::net::{Known, Net, SAMPLES, SIDE, images, values};

/// The patches that a 3x3 kernel with padding reads: a row for each sample and position, `[channel * 9 + element]`, means taken out.
fn patches(map: &[Vec<Vec<f64>>]) -> Vec<Vec<f64>> {
    let side = SIDE as isize;
    let mut rows = Vec::new();
    for sample in map {
        for position in 0..side * side {
            let (y, x) = (position / side, position % side);
            let mut row = Vec::new();
            for channel in sample {
                for element in 0..9 {
                    let (v, u) = (y + element / 3 - 1, x + element % 3 - 1);
                    let inside = (0..side).contains(&v) && (0..side).contains(&u);
                    row.push(if inside { channel[(v * side + u) as usize] } else { 0.0 });
                }
            }
            rows.push(row);
        }
    }
    let number = rows.len() as f64;
    let means: Vec<f64> = (0..rows[0].len()).map(|k| rows.iter().map(|row| row[k]).sum::<f64>() / number).collect();
    rows.iter_mut().for_each(|row| row.iter_mut().zip(&means).for_each(|(value, mean)| *value -= mean));
    rows
}

/// Gaussian elimination with pivots.
fn solve(matrix: &[Vec<f64>], columns: &[usize], right: &[f64]) -> Vec<f64> {
    let n = columns.len();
    let mut rows: Vec<Vec<f64>> = (columns.iter().zip(right))
        .map(|(&a, value)| columns.iter().map(|&b| matrix[a][b]).chain([*value]).collect())
        .collect();
    for k in 0..n {
        let pivot = (k..n).max_by(|&a, &b| rows[a][k].abs().total_cmp(&rows[b][k].abs())).unwrap();
        rows.swap(k, pivot);
        let (above, below) = rows.split_at_mut(k + 1);
        for other in below {
            let factor = other[k] / above[k][k];
            other[k..].iter_mut().zip(&above[k][k..]).for_each(|(value, first)| *value -= factor * first);
        }
    }
    let mut solution = vec![0.0; n];
    for k in (0..n).rev() {
        let known: f64 = (k + 1..n).map(|at| rows[k][at] * solution[at]).sum();
        solution[k] = (rows[k][n] - known) / rows[k][k];
    }
    solution
}

#[test]
fn gains_are_those_of_plain_loops() {
    for (seed, with_first) in [(1, false), (2, true), (3, true)] {
        let net = Net::new([7, 5], seed);
        let known = Known::of(&net);
        let [read, ..] = net.around_second(images());
        let rows = patches(&values(&read));
        let number = SAMPLES as f64;
        let columns = rows[0].len();
        let of = |a: usize, b: usize| rows.iter().map(|row| row[a] * row[b]).sum::<f64>() / number;
        let gram: Vec<Vec<f64>> = (0..columns).map(|a| (0..columns).map(|b| of(a, b)).collect()).collect();
        let shift = 1e-3 * (0..columns).map(|k| gram[k][k]).sum::<f64>() / columns as f64;
        let mut shifted = gram.clone();
        (0..columns).for_each(|k| shifted[k][k] += shift);

        let is_first = |output: usize, input: usize| !with_first || (output + 2 * input).is_multiple_of(3);
        let kernels = known.kernels("second");
        let ask = Pursuit { count: 4, ridge: 1e-3, centered: true, first: Some(&is_first) };
        let gram_of = &known.evidence.inputs["second"];
        let found = gram_of.pursue("second", 5, &|output, input| &kernels[output][input], &ask).unwrap().unwrap();
        for (output, found) in found.iter().enumerate() {
            let weights: Vec<f64> = kernels[output].iter().flatten().map(|&w| f64::from(w)).collect();
            let products: Vec<f64> =
                gram.iter().map(|row| row.iter().zip(&weights).map(|(a, b)| a * b).sum()).collect();
            let power: f64 = products.iter().zip(&weights).map(|(a, b)| a * b).sum();
            assert!((found.power - power).abs() < 1e-4 * power, "{} {power}", found.power);
            let cols = |inputs: &[usize]| inputs.iter().flat_map(|i| i * 9..(i + 1) * 9).collect::<Vec<usize>>();
            let explained = |inputs: &[usize]| {
                let own = cols(inputs);
                let right: Vec<f64> = own.iter().map(|&k| products[k]).collect();
                right.iter().zip(solve(&shifted, &own, &right)).map(|(a, b)| a * b).sum::<f64>()
            };
            let alone = |inputs: &[usize], input: usize| {
                let own = cols(inputs);
                let right: Vec<f64> = own.iter().map(|&k| products[k]).collect();
                let solved = solve(&shifted, &own, &right);
                let left =
                    |k: usize| products[k] - own.iter().zip(&solved).map(|(&j, w)| shifted[k][j] * w).sum::<f64>();
                let rest: Vec<f64> = cols(&[input]).into_iter().map(left).collect();
                rest.iter().zip(solve(&shifted, &cols(&[input]), &rest)).map(|(a, b)| a * b).sum::<f64>()
            };
            let (mut chosen, mut least, mut firsts) = (Vec::<usize>::new(), f64::INFINITY, true);
            let mut gains = vec![0.0; 7];
            while chosen.len() < 4 {
                let open = (0..7).filter(|input| !chosen.contains(input) && is_first(output, *input) == firsts);
                let Some(next) = open.max_by(|&a, &b| alone(&chosen, a).total_cmp(&alone(&chosen, b))) else {
                    (firsts, least) = (false, f64::INFINITY);
                    continue;
                };
                let before = explained(&chosen);
                chosen.push(next);
                least = least.min(explained(&chosen) - before);
                gains[next] = least;
            }
            assert_eq!(found.chosen, chosen);
            for input in (0..7).filter(|input| !chosen.contains(input)) {
                let most = if is_first(output, input) == firsts { least } else { f64::INFINITY };
                gains[input] = alone(&chosen, input).min(most);
            }
            for (found, expected) in found.gains.iter().zip(&gains) {
                assert!((found - expected).abs() < 1e-4 * power, "{found} {expected}");
            }
        }
    }
}
