//! Seconds at several widths as a smooth function, where they are one.

/// How far a measurement may be from the function, as a share of itself.
const MOST: f64 = 0.15;
/// Steps of the coordinate descent; the four coefficients have settled long before.
const SWEEPS: usize = 20_000;

/// Fits `a + b i + c o + d i o` with coefficients of at least 0 to the seconds of a layer at its numbers of inputs `i` and outputs `o`, those of a
/// number of inputs in a row: a call, reading the input, writing the output, and the multiply-adds. Returns its values, or `None` where a
/// measurement is off by more than 15 %, as on devices that compute in steps of many channels.
///
/// What one channel saves is a difference of two measurements, in which their errors are many times larger.
pub(super) fn smoothed(inputs: &[usize], outputs: &[usize], seconds: &[f64]) -> Option<Vec<f64>> {
    let [most_in, most_out] = [inputs.last(), outputs.last()].map(|width| width.copied().unwrap_or(1).max(1) as f64);
    let terms: Vec<[f64; 4]> = inputs
        .iter()
        .flat_map(|&input| outputs.iter().map(move |&output| (input as f64 / most_in, output as f64 / most_out)))
        .map(|(input, output)| [1.0, input, output, input * output])
        .collect();
    if terms.len() != seconds.len() || seconds.iter().any(|seconds| *seconds <= 0.0) {
        return None;
    }
    // Errors count as shares: the rest is 1 minus what the terms give, each over its measurement.
    let rows: Vec<[f64; 4]> = terms.iter().zip(seconds).map(|(row, seconds)| row.map(|term| term / seconds)).collect();
    let mut coefficients = [0.0; 4];
    let mut rest = vec![1.0; rows.len()];
    for sweep in 0..4 * SWEEPS {
        let at = sweep % 4;
        let square: f64 = rows.iter().map(|row| row[at] * row[at]).sum();
        let slope: f64 = rows.iter().zip(&rest).map(|(row, rest)| row[at] * rest).sum();
        let next = (coefficients[at] + slope / square).max(0.0);
        let step = next - coefficients[at];
        rows.iter().zip(&mut rest).for_each(|(row, rest)| *rest -= step * row[at]);
        coefficients[at] = next;
    }
    let is_near = rest.iter().all(|rest| rest.abs() <= MOST);
    let value = |row: &[f64; 4]| row.iter().zip(&coefficients).map(|(term, coefficient)| term * coefficient).sum();
    is_near.then(|| terms.iter().map(value).collect())
}

#[cfg(test)]
mod tests {
    use super::smoothed;

    #[test]
    fn noise_goes_and_steps_stay() {
        let (inputs, outputs) = ([16, 32, 48, 64], [32, 64, 96, 128]);
        let grid = |of: &dyn Fn(f64, f64, usize) -> f64| -> Vec<f64> {
            let pairs = inputs.iter().flat_map(|&i| outputs.iter().map(move |&o| (i as f64, o as f64)));
            pairs.enumerate().map(|(at, (i, o))| of(i, o, at)).collect()
        };
        let exact = |i: f64, o: f64| 1e-5 + 1e-7 * i + 3e-8 * i * o;
        let noisy = grid(&|i, o, at| exact(i, o) * if at % 2 == 0 { 1.03 } else { 0.97 });
        let found = smoothed(&inputs, &outputs, &noisy).unwrap();
        for (found, exact) in found.iter().zip(grid(&|i, o, _| exact(i, o))) {
            // The measurements are off by 0.03.
            assert!((found / exact - 1.0).abs() < 0.025, "{found} {exact}");
        }
        // Without noise it is found again.
        let found = smoothed(&inputs, &outputs, &grid(&|i, o, _| exact(i, o))).unwrap();
        assert!(
            found.iter().zip(grid(&|i, o, _| exact(i, o))).all(|(found, exact)| (found / exact - 1.0).abs() < 1e-3)
        );
        // A device that computes 64 outputs in the time of 32.
        let steps = grid(&|i, o, _| i * (o / 64.0).ceil());
        assert_eq!(smoothed(&inputs, &outputs, &steps), None);
        assert_eq!(smoothed(&[4], &[4], &[0.0]), None);
        assert_eq!(smoothed(&[4], &[4], &[2.0]).map(|found| found.len()), Some(1));
    }
}
