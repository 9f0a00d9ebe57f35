//! Tests of the gradients of the dense convolution against the formula in double precision.

use ndarray::{Array4, Axis};
use proptest::prelude::*;
use pulp::Arch;

use super::grad::grad_weights;
use super::grad_bias::grad_bias;
use super::tests::{Case, same};
use super::winograd::grad_weights as winograd_grad_weights;
use super::*;
use crate::testing::{in_pool, random_f32, with_layout4};
use crate::vector::instruction_sets;

const WINOGRAD: [WinogradTile; 2] = [WinogradTile::Two, WinogradTile::Four];

/// The gradients by weights and input in double precision, each with the sum of the magnitudes of its terms. The gradient of the result is
/// the case's residual.
fn expected(case: &Case) -> [Array4<(f64, f64)>; 2] {
    let ConvGeometry { stride, padding, dilation, groups } = case.geometry;
    let (outputs, inputs, high, wide) = case.weights.dim();
    let (.., height, width) = case.x.dim();
    let [mut dw, mut dx] = [case.weights.raw_dim(), case.x.raw_dim()].map(|shape| Array4::from_elem(shape, (0.0, 0.0)));
    for ((n, o, y, x), &grad) in case.residual.indexed_iter() {
        let first = o / (outputs / groups) * inputs;
        for (i, a, b) in ndarray::indices((inputs, high, wide)) {
            let row = (y * stride[0] + a * dilation[0]).checked_sub(padding[0][0]).filter(|&row| row < height);
            let column = (x * stride[1] + b * dilation[1]).checked_sub(padding[1][0]).filter(|&at| at < width);
            if let (Some(row), Some(column)) = (row, column) {
                let at = [n, first + i, row, column];
                for (sum, factor) in [(&mut dw[[o, i, a, b]], case.x[at]), (&mut dx[at], case.weights[[o, i, a, b]])] {
                    let term = f64::from(grad) * f64::from(factor);
                    *sum = (sum.0 + term, sum.1 + term.abs());
                }
            }
        }
    }
    [dw, dx]
}

fn assert_near(found: &Array4<f32>, expected: &Array4<(f64, f64)>, relative: f64, absolute: f64) {
    assert_eq!(found.dim(), expected.dim());
    for ((index, &found), &(expected, magnitude)) in found.indexed_iter().zip(expected) {
        let bound = relative * magnitude + absolute;
        assert!((f64::from(found) - expected).abs() <= bound, "{index:?}: {found} {expected} {bound:e}");
    }
}

fn check(case: &Case, arch: Arch, layout: u8) {
    let kernel = [case.weights.dim().2, case.weights.dim().3];
    let [dw, dx] = expected(case);
    with_layout4(&case.x, layout, |x| {
        with_layout4(&case.residual, layout, |grad| {
            let found = grad_weights(arch, x, grad, &case.geometry, kernel).unwrap();
            assert_near(&found, &dw, 1e-6, 0.0);
            if WinogradConv2d::supports(kernel, &case.geometry) {
                // A tile's error is that of its largest product, so small sums of a few tiles are less exact relative to themselves.
                let all: f64 = case.residual.iter().map(|&grad| f64::from(grad).abs()).sum();
                let each = all / (case.residual.dim().1 * case.residual.dim().0).max(1) as f64;
                for tile in WINOGRAD {
                    let found = winograd_grad_weights(arch, x, grad, &case.geometry, tile).unwrap();
                    assert_near(&found, &dw, 1e-6, 2e-6 * each.max(1.0));
                }
            }
        });
    });
    with_layout4(&case.residual, layout, |grad| {
        for ((filter, grad), found) in grad.axis_iter(Axis(1)).enumerate().zip(grad_bias(arch, grad)) {
            let [sum, magnitude] =
                [|value: f64| value, f64::abs].map(|of| grad.iter().map(|&value| of(f64::from(value))).sum::<f64>());
            assert!((f64::from(found) - sum).abs() <= 1e-6 * magnitude, "filter {filter}: {found} {sum}");
        }
        with_layout4(&case.weights, layout, |weights| {
            let taken = takes_conv2d_grad_input(kernel, &case.geometry);
            let found = conv2d_grad_input(grad, weights, &case.geometry, None);
            match found {
                Ok(found) => assert!(taken, "{:?}", assert_near(&found, &dx, 1e-5, 0.0)),
                Err(KernelError::Geometry { .. }) => assert!(!taken),
                Err(other) => panic!("{other}"),
            }
        });
    });
}

fn bits(array: &Array4<f32>) -> Vec<u32> {
    array.iter().map(|value| value.to_bits()).collect()
}

fn cases(winograd: bool) -> impl Strategy<Value = Case> {
    let shape = (0_usize..5, 1_usize..7, 0_usize..14, 0_usize..20);
    let padding = [[0_usize..4, 0..4], [0_usize..4, 0..4]];
    let geometry = (padding, [1_usize..4, 1..4], [1_usize..3, 1..3], 1_usize..4);
    (shape, 0_usize..9, [0_usize..6, 0..6], geometry, any::<u64>()).prop_filter_map(
        "the kernel fits",
        move |((n, i, h, w), outputs, kernel, (padding, stride, dilation, groups), seed)| {
            let plain = ConvGeometry { padding, ..ConvGeometry::default() };
            let (geometry, kernel) = match winograd {
                true => (plain, [3, 3]),
                false => (ConvGeometry { stride, dilation, groups, ..plain }, kernel),
            };
            Case::new([n, i, h, w], outputs, kernel, geometry, 0, seed)
        },
    )
}

proptest! {
    #[test]
    fn match_the_formula(
        case in prop_oneof![cases(false), cases(true)], layout in 0_u8..4, arch in any::<prop::sample::Index>(),
    ) {
        let sets = instruction_sets();
        check(&case, sets[arch.index(sets.len())], layout);
    }

    #[test]
    fn bits_do_not_depend_on_threads(case in prop_oneof![cases(false), cases(true)]) {
        check_threads(&case);
    }
}

fn check_threads(case: &Case) {
    let kernel = [case.weights.dim().2, case.weights.dim().3];
    let (x, grad, geometry) = (case.x.view(), case.residual.view(), &case.geometry);
    let run = || {
        let mut all = vec![bits(&conv2d_grad_weights(x, grad, geometry, kernel).unwrap())];
        if WinogradConv2d::supports(kernel, geometry) {
            all.extend(WINOGRAD.map(|tile| bits(&winograd_conv2d_grad_weights(x, grad, geometry, tile).unwrap())));
        }
        all
    };
    let one = in_pool(1, run);
    for threads in [2, 3, 8] {
        assert_eq!(in_pool(threads, run), one, "{threads} threads");
    }
}

/// Usual layers: several blocks, chunks of rows, and samples that end inside of a block.
#[test]
fn usual_layers() {
    for (shape, outputs, kernel, geometry) in [
        ([2, 40, 33, 70], 37, [3, 3], same(1)),
        ([9, 10, 14, 14], 130, [3, 3], same(1)),
        ([70, 20, 4, 4], 9, [3, 3], same(1)),
        ([3, 70, 9, 9], 65, [1, 1], ConvGeometry::default()),
        ([2, 3, 30, 30], 16, [7, 7], ConvGeometry { stride: [2, 2], ..same(1) }),
        ([2, 1, 20, 20], 1, [3, 3], ConvGeometry { groups: 24, ..same(1) }),
    ] {
        let case = Case::new(shape, outputs, kernel, geometry, 0, 7).unwrap();
        for arch in instruction_sets() {
            check(&case, arch, 0);
        }
        check_threads(&case);
    }
}

/// The gradient by the input through a Winograd convolution, and the error that the documentation of that by the weights states.
#[test]
fn winograd() {
    let case = Case::new([2, 64, 26, 26], 64, [3, 3], same(1), 0, 11).unwrap();
    let [dw, dx] = expected(&case);
    for tile in WINOGRAD {
        let found = conv2d_grad_input(case.residual.view(), case.weights.view(), &case.geometry, Some(tile)).unwrap();
        assert_near(&found, &dx, 2e-6, 0.0);
        let found = winograd_conv2d_grad_weights(case.x.view(), case.residual.view(), &case.geometry, tile).unwrap();
        assert_near(&found, &dw, 5e-7, 0.0);
    }
}

#[test]
fn errors() {
    let plain = ConvGeometry::default();
    let array = |shape: (usize, usize, usize, usize)| random_f32(shape, 1);
    let general =
        |x, grad, geometry| conv2d_grad_weights(array(x).view(), array(grad).view(), &geometry, [3, 3]).map(|_| ());
    let winograd = |x, grad, geometry| {
        winograd_conv2d_grad_weights(array(x).view(), array(grad).view(), &geometry, WinogradTile::Four).map(|_| ())
    };
    let shape = |result: Result<(), KernelError>| matches!(result, Err(KernelError::Shape { .. }));
    assert_eq!(general((2, 3, 5, 5), (2, 4, 3, 3), plain), Ok(()));
    assert_eq!(winograd((2, 3, 5, 5), (2, 4, 3, 3), plain), Ok(()));
    for grad in [(1, 4, 3, 3), (2, 4, 2, 3), (2, 4, 3, 4)] {
        assert!(shape(general((2, 3, 5, 5), grad, plain)) && shape(winograd((2, 3, 5, 5), grad, plain)));
    }
    let small = KernelError::SmallInput { axis: 0, kernel: 3, input: 2 };
    assert_eq!(general((2, 3, 2, 5), (2, 4, 3, 3), plain), Err(small.clone()));
    assert_eq!(winograd((2, 3, 2, 5), (2, 4, 3, 3), plain), Err(small));
    let two = ConvGeometry { groups: 2, ..plain };
    assert_eq!(general((2, 3, 5, 5), (2, 4, 3, 3), two), Err(KernelError::Groups { filters: 3, groups: 2 }));
    assert!(matches!(winograd((2, 4, 5, 5), (2, 4, 3, 3), two), Err(KernelError::Geometry { .. })));

    let input = |grad, weights, geometry| {
        conv2d_grad_input(array(grad).view(), array(weights).view(), &geometry, None).map(|_| ())
    };
    assert_eq!(input((2, 4, 3, 3), (4, 3, 3, 3), plain), Ok(()));
    assert!(shape(input((2, 5, 3, 3), (4, 3, 3, 3), plain)));
    assert_eq!(input((2, 5, 3, 3), (5, 3, 3, 3), two), Err(KernelError::Groups { filters: 5, groups: 2 }));
    for wrong in [ConvGeometry { stride: [1, 2], ..plain }, ConvGeometry { padding: [[0, 3], [0, 0]], ..plain }] {
        assert!(matches!(input((2, 4, 3, 3), (4, 3, 3, 3), wrong), Err(KernelError::Geometry { .. })));
    }
}
