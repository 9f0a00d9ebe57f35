//! Tests of the Winograd convolution against the formula in double precision.

use proptest::prelude::*;

use super::super::tests::{Case, bits, same};
use super::*;
use crate::testing::{in_pool, random_f32, with_layout4};
use crate::vector::instruction_sets;

const TILES: [WinogradTile; 2] = [WinogradTile::Two, WinogradTile::Four];

fn run_with(case: &Case, arch: Arch, tile: WinogradTile, layout: u8) -> Array4<f32> {
    with_layout4(&case.weights, layout, |weights| {
        let conv = WinogradConv2d::new(weights, &case.geometry, tile).unwrap();
        with_layout4(&case.x, layout, |x| {
            with_layout4(&case.residual, layout, |residual| {
                let residual = case.parts.residual.then_some(residual);
                forward(arch, x, &conv, case.parts.epilogue(), residual).unwrap()
            })
        })
    })
}

/// Asserts the bound of the error: 5e-7 or 2e-6 of the largest sum of magnitudes that an input of such values can give,
/// besides the rounding of the epilogue.
fn check_values(case: &Case, arch: Arch, tile: WinogradTile, layout: u8) {
    let bound = if tile == WinogradTile::Two { 5e-7 } else { 2e-6 };
    let largest = |array: &Array4<f32>| array.iter().fold(0.0_f64, |most, &value| most.max(f64::from(value).abs()));
    let most = largest(&case.x);
    let scale = |filter: usize| case.parts.epilogue().scale.map_or(1.0, |scale| f64::from(scale[filter]));
    let found = run_with(case, arch, tile, layout);
    for ((index, &found), &(expected, magnitude)) in found.indexed_iter().zip(&case.expected()) {
        let weights = case.weights.index_axis(ndarray::Axis(0), index.1);
        let sum: f64 = weights.iter().map(|&weight| f64::from(weight).abs()).sum();
        let bound = bound * most * sum * scale(index.1) + 5e-7 * magnitude;
        assert!((f64::from(found) - expected).abs() <= bound, "{index:?}: {found} {expected} {bound}");
    }
}

/// Asserts the same bits for any number of threads and for each sample alone.
fn check_bits(case: &Case, tile: WinogradTile) {
    let all = in_pool(1, || bits(&run_with(case, Arch::new(), tile, 0)));
    for threads in [2, 3, 8] {
        assert_eq!(in_pool(threads, || bits(&run_with(case, Arch::new(), tile, 0))), all, "{threads} threads");
    }
    let samples = case.x.dim().0.max(1);
    for (n, all) in all.chunks(all.len().div_ceil(samples).max(1)).enumerate() {
        let one = |array: &Array4<f32>| array.slice(s![n..=n, .., .., ..]).to_owned();
        let alone = Case { x: one(&case.x), residual: one(&case.residual), ..case.clone() };
        assert_eq!(bits(&run_with(&alone, Arch::new(), tile, 0)), all, "sample {n} alone");
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let shape = (0_usize..5, 0_usize..14, 0_usize..24, 0_usize..40);
    let padding = [[0_usize..4, 0..4], [0_usize..4, 0..4]];
    (shape, 0_usize..20, padding, 0_u8..32, any::<u64>()).prop_filter_map(
        "the kernel fits",
        |((n, i, h, w), outputs, padding, chosen, seed)| {
            let geometry = ConvGeometry { padding, ..ConvGeometry::default() };
            Case::new([n, i, h, w], outputs, [3, 3], geometry, chosen, seed)
        },
    )
}

proptest! {
    #[test]
    fn matches_the_formula(
        case in cases(), layout in 0_u8..4, tile in 0_usize..2, arch in any::<prop::sample::Index>(),
    ) {
        let sets = instruction_sets();
        check_values(&case, sets[arch.index(sets.len())], TILES[tile], layout);
    }

    #[test]
    fn bits_do_not_depend_on_threads_or_batch(case in cases(), tile in 0_usize..2) {
        check_bits(&case, TILES[tile]);
    }
}

/// Usual layers: several blocks, groups of panels and widths of register tiles.
#[test]
fn usual_layers() {
    for (shape, outputs) in [
        ([2, 40, 33, 70], 37),
        ([3, 300, 7, 7], 21),
        ([1, 600, 4, 4], 40),
        ([70, 20, 4, 4], 9),
        ([9, 100, 2, 2], 9),
        ([2, 128, 14, 14], 24),
        ([1, 64, 56, 56], 16),
        ([1, 2, 3, 2100], 5),
    ] {
        let case = Case::new(shape, outputs, [3, 3], same(1), 15, 7).unwrap();
        for tile in TILES {
            for arch in instruction_sets() {
                check_values(&case, arch, tile, 0);
            }
            check_bits(&case, tile);
        }
    }
}

/// Padding of more columns than are computed at once: strips that read no input, or its first columns alone.
#[test]
fn wide_maps() {
    for padding in [[2500, 1], [1, 2500], [1023, 0]] {
        let geometry = ConvGeometry { padding: [[1, 0], padding], ..ConvGeometry::default() };
        let case = Case::new([2, 3, 3, 40], 4, [3, 3], geometry, 15, 3).unwrap();
        for tile in TILES {
            check_values(&case, Arch::new(), tile, 0);
        }
    }
}

/// The errors that the documentation states, relative to the sum of the magnitudes of the products.
#[test]
fn errors_of_random_values() {
    for (inputs, tile, most) in [
        (16, WinogradTile::Two, 5e-7),
        (256, WinogradTile::Two, 2e-7),
        (16, WinogradTile::Four, 1e-6),
        (256, WinogradTile::Four, 5e-7),
    ] {
        let geometry = ConvGeometry::default();
        let case = Case::new([1, inputs, 26, 26], 16, [3, 3], geometry, 0, 11).unwrap();
        let (found, expected) = (run_with(&case, Arch::new(), tile, 0), case.expected());
        let errors = found.iter().zip(&expected).map(|(&found, &(value, all))| (f64::from(found) - value).abs() / all);
        let largest = errors.fold(0.0, f64::max);
        assert!(largest <= most, "{inputs} inputs, {tile:?}: {largest:e}");
    }
}

#[test]
fn nan_passes_the_rectifier() {
    let x = Array4::from_elem((1, 1, 3, 3), f32::NAN);
    let conv = WinogradConv2d::new(Array4::ones((1, 1, 3, 3)).view(), &same(1), WinogradTile::Four).unwrap();
    let epilogue = Epilogue { relu: true, ..Epilogue::default() };
    for arch in instruction_sets() {
        let y = forward(arch, x.view(), &conv, epilogue, Some(x.view())).unwrap();
        assert!(y.iter().all(|value| value.is_nan()));
    }
}

#[test]
fn errors() {
    let plain = ConvGeometry::default();
    let geometry = |result: Result<(), KernelError>| matches!(result, Err(KernelError::Geometry { .. }));
    let new = |shape: (usize, usize, usize, usize), geometry: ConvGeometry| {
        WinogradConv2d::new(Array4::zeros(shape).view(), &geometry, WinogradTile::Four).map(|_| ())
    };
    assert_eq!(new((4, 2, 3, 3), same(1)), Ok(()));
    for wrong in [
        new((4, 2, 1, 3), plain),
        new((4, 2, 0, 3), plain),
        new((4, 2, 3, 3), ConvGeometry { stride: [1, 2], ..plain }),
        new((4, 2, 3, 3), ConvGeometry { dilation: [2, 1], ..plain }),
        new((4, 2, 3, 3), same(2)),
        new((4, 2, 3, 3), same(0)),
        new((4, 2, 3, 3), ConvGeometry { padding: [[1 << 29; 2]; 2], ..plain }),
    ] {
        assert!(geometry(wrong));
    }

    let weights = random_f32((4, 2, 3, 3), 1);
    let conv = WinogradConv2d::new(weights.view(), &same(1), WinogradTile::Two).unwrap();
    let shape = |result: Result<(), KernelError>| matches!(result, Err(KernelError::Shape { .. }));
    let run = |dim, epilogue, residual: (usize, usize, usize, usize)| {
        let (x, residual) = (Array4::zeros(dim), Array4::zeros(residual));
        winograd_conv2d(x.view(), &conv, epilogue, Some(residual.view())).map(|_| ())
    };
    let none = Epilogue::default();
    assert_eq!(run((1, 2, 5, 5), none, (1, 4, 5, 5)), Ok(()));
    assert!(shape(run((1, 3, 5, 5), none, (1, 4, 5, 5))));
    assert!(shape(run((1, 2, 5, 5), none, (1, 4, 5, 6))));
    assert!(shape(run((1, 2, 5, 5), Epilogue { scale: Some(&[1.0]), ..none }, (1, 4, 5, 5))));
    let small = KernelError::SmallInput { axis: 0, kernel: 3, input: 2 };
    assert_eq!(run((1, 2, 0, 5), none, (1, 4, 5, 5)), Err(small));
    let huge = ConvGeometry { padding: [[1 << 28; 2]; 2], ..plain };
    let conv = WinogradConv2d::new(Array4::zeros((64, 1, 3, 3)).view(), &huge, WinogradTile::Two).unwrap();
    let result = winograd_conv2d(Array4::zeros((1, 1, 1, 1)).view(), &conv, none, None).map(|_| ());
    assert!(geometry(result));
}
