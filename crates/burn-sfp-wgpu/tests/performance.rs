//! Tests of largest elements and Boolean matrices against double precision and against the CPU kernels.

mod common;

use burn_sfp_ndarray::boolean_matrices;
use burn_sfp_wgpu::{GpuError, KernelError, PackedPerformances, filter_performances};
use common::{bits, cube, device, random, tensor, upload};
use ndarray::ArrayView3;
use proptest::prelude::*;

/// Computes the filters for means `[C, F, S]` and a readout `[F, S, C]`.
fn run(
    device: &burn::tensor::Device,
    means: &[f32],
    readout: &[f32],
    [c, f, s]: [usize; 3],
    threshold: f64,
    chunk: Option<usize>,
) -> PackedPerformances {
    let (means, readout) = (upload(means, [c, f, s], device), upload(readout, [f, s, c], device));
    filter_performances(means, readout, threshold, chunk).unwrap()
}

/// Compares with the definition in double precision and with the CPU's bits; returns the number of elements that are 1.
fn compare(found: &PackedPerformances, means: &[f32], readout: &[f32], [c, f, s]: [usize; 3], threshold: f64) -> usize {
    let row_words = c.div_ceil(32);
    assert_eq!((found.max.len(), found.near.len(), found.words.len()), (f, f, f * c * row_words));
    let cpu = boolean_matrices(
        ArrayView3::from_shape((c, f, s), means).unwrap(),
        ArrayView3::from_shape((f, s, c), readout).unwrap(),
        threshold,
    )
    .unwrap();
    let mut ones = 0;
    for filter in 0..f {
        let mut performance = vec![0.0_f64; c * c];
        let mut sizes = vec![0.0_f64; c * c];
        for i in 0..c {
            for p in 0..s {
                for j in 0..c {
                    let term =
                        f64::from(means[(i * f + filter) * s + p]) * f64::from(readout[(filter * s + p) * c + j]);
                    performance[i * c + j] += term;
                    sizes[i * c + j] += term.abs();
                }
            }
        }
        let max = performance.iter().copied().reduce(f64::max).unwrap_or(0.0);
        let size = sizes.iter().copied().fold(0.0, f64::max);
        assert!((f64::from(found.max[filter]) - max).abs() <= 1e-5 * size, "{} for {max}", found.max[filter]);
        if max <= 1e-5 * size {
            continue; // rounding decides whether it is silent
        }
        // The distance by which rounding of the sums may move an element.
        let rounding = 1e-6 * size / max;
        let within = |p: f64, band: f64| (p / max - threshold).abs() <= band;
        let slack = |p: f64| within(p, 1e-5 + rounding);
        let count = |band| performance.iter().filter(|&&p| within(p, band)).count();
        let near = found.near[filter] as usize;
        assert!((count(1e-5 - rounding)..=count(1e-5 + rounding)).contains(&near), "near: {near}");
        for i in 0..c {
            for word in 0..row_words {
                let bits = found.words[(filter * c + i) * row_words + word];
                for bit in 0..32 {
                    let (j, one) = (32 * word + bit, bits >> bit & 1 == 1);
                    if j >= c {
                        assert!(!one, "a stray bit behind the last column");
                        continue;
                    }
                    ones += usize::from(one);
                    if slack(performance[i * c + j]) {
                        continue;
                    }
                    assert_eq!(one, performance[i * c + j] > threshold * max, "filter {filter}, {i}, {j}");
                    if found.near[filter] == 0 {
                        assert_eq!(one, cpu[filter].get(i, j), "filter {filter}, {i}, {j}: not the CPU's");
                    }
                }
            }
        }
    }
    ones
}

#[test]
fn matches_the_definition_and_the_cpu() {
    let Some(device) = device() else { return };
    let mut ones = 0;
    for (seed, shape) in
        [[1, 1, 1], [3, 4, 5], [10, 7, 16], [33, 3, 17], [100, 5, 4], [130, 2, 1], [64, 2, 35]].into_iter().enumerate()
    {
        let [c, f, s] = shape;
        let (means, readout) = (random(c * f * s, seed as u64), random(c * f * s, !(seed as u64)));
        for threshold in [0.3, -0.2, 0.9] {
            let found = run(&device, &means, &readout, shape, threshold, None);
            ones += compare(&found, &means, &readout, shape, threshold);
            for chunk in [1, 2, 1000] {
                let other = run(&device, &means, &readout, shape, threshold, Some(chunk));
                assert_eq!(bits(&other.max), bits(&found.max), "{shape:?} in chunks of {chunk}");
                assert_eq!((&other.words, &other.near), (&found.words, &found.near), "{shape:?} in chunks of {chunk}");
            }
        }
    }
    assert!(ones > 1000, "{ones}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]
    #[test]
    fn any_shape(shape in (1_usize..70, 1_usize..5, 1_usize..20), threshold in -0.5_f64..1.2, seed: u64) {
        if let Some(device) = device() {
            let (c, f, s) = shape;
            let (means, readout) = (random(c * f * s, seed), random(c * f * s, !seed));
            let found = run(&device, &means, &readout, [c, f, s], threshold, None);
            compare(&found, &means, &readout, [c, f, s], threshold);
        }
    }
}

#[test]
fn any_strides() {
    let Some(device) = device() else { return };
    let (c, f, s) = (12, 3, 5);
    let (means, readout) = (random(c * f * s, 1), random(c * f * s, 2));
    let strided = |values: &[f32], shape| cube((tensor(values, shape, &device).swap_dims(0, 2) * 1.0).swap_dims(0, 2));
    let found = filter_performances(strided(&means, [c, f, s]), strided(&readout, [f, s, c]), 0.3, None).unwrap();
    assert_eq!(found, run(&device, &means, &readout, [c, f, s], 0.3, None));
}

#[test]
fn the_comparison_is_strict_and_near_counts() {
    let Some(device) = device() else { return };
    // P = [4, 1; 1 + ulp, 0.25 + ulp] and the cut at 1: P[0][1] is exactly on it, P[1][0] just above it.
    let readout = [4.0, 1.0];
    let means = [1.0, 0.25_f32.next_up()];
    let found = run(&device, &means, &readout, [2, 1, 1], 0.25, None);
    assert_eq!(found.max, [4.0]);
    assert_eq!(found.words, [0b01, 0b01]); // P[1][0] = 1 + ulp
    assert_eq!(found.near, [2]); // P[0][1] = 1 and P[1][0]
}

#[test]
fn nothing_is_recognized_without_a_positive_finite_maximum() {
    let Some(device) = device() else { return };
    let (c, f) = (5, 7);
    let values = [0.0, -0.0, -1.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1.0];
    let means: Vec<f32> = (0..c * f).map(|at| values[at % f]).collect();
    let found = run(&device, &means, &vec![1.0; f * c], [c, f, 1], -1.0, None);
    for (filter, (&max, &value)) in found.max.iter().zip(&values).enumerate() {
        assert!(max == value || max.is_nan() && value.is_nan(), "{max} for {value}");
        let words = &found.words[filter * c..][..c];
        assert_eq!(words, if value == 1.0 { [0b11111; 5] } else { [0; 5] }, "{value}");
        assert_eq!(found.near[filter], 0, "{value}");
    }
    // One NaN anywhere silences the filter.
    for place in 0..c {
        let mut means = vec![1.0; c];
        means[place] = f32::NAN;
        let found = run(&device, &means, &vec![1.0; c], [c, 1, 1], 0.3, None);
        assert!(found.max[0].is_nan() && found.words.iter().all(|&word| word == 0));
    }
}

#[test]
fn nothing_to_do() {
    let Some(device) = device() else { return };
    for [c, f, s] in [[0, 3, 2], [3, 0, 2], [3, 2, 0]] {
        let found = run(&device, &[], &[], [c, f, s], 0.3, None);
        assert_eq!(found.max, vec![0.0; f]);
        assert_eq!(found.words, vec![0; f * c]);
        assert_eq!(found.near, vec![0; f]);
    }
}

#[test]
fn errors() {
    let Some(device) = device() else { return };
    let means = || upload(&[0.0; 24], [4, 3, 2], &device);
    for (wrong, expected, found) in [([2, 2, 4], 3, 2), ([3, 1, 4], 2, 1), ([3, 2, 5], 4, 5)] {
        let readout = upload(&vec![0.0; wrong.iter().product()], wrong, &device);
        let error = filter_performances(means(), readout, 0.3, None).unwrap_err();
        assert!(
            matches!(error, GpuError::Argument(KernelError::Shape { expected: e, found: f, .. }) if e == expected && f == found)
        );
    }
    let readout = || upload(&[0.0; 24], [3, 2, 4], &device);
    for threshold in [f64::NAN, f64::INFINITY] {
        let error = filter_performances(means(), readout(), threshold, None);
        assert!(matches!(error, Err(GpuError::Argument(KernelError::Threshold { .. }))));
    }
    let half = cube(tensor(&[0.0; 24], [3, 2, 4], &device).cast(burn::tensor::DType::F16));
    assert!(matches!(filter_performances(means(), half, 0.3, None), Err(GpuError::Dtype { .. })));
    assert!(filter_performances(means(), readout(), 0.3, Some(0)).is_ok()); // one at a time
}
