//! Tests of the packed convolution and linear layer against the formula in double precision.

use ndarray::{Array2, Array4, ArrayView2, Axis as Along, s};
use proptest::prelude::*;

use super::storage::nearest;
use super::*;
use crate::testing::{in_pool, random_f32, with_layout4};
use crate::vector::instruction_sets;

/// Asserts that every element differs by at most 1e-5 times the sum of the magnitudes of its terms.
fn assert_near<'a>(found: impl IntoIterator<Item = &'a f32>, expected: impl IntoIterator<Item = &'a (f64, f64)>) {
    for (place, (&found, &(expected, magnitude))) in found.into_iter().zip(expected).enumerate() {
        assert!((f64::from(found) - expected).abs() <= 1e-5 * magnitude, "{place}: {found} {expected}");
    }
}

/// Scale and shift of some filters, the activation, and whether there is a residual.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    scale: Option<Vec<f32>>,
    shift: Option<Vec<f32>>,
    relu: bool,
    pub(super) residual: bool,
    most: Option<f32>,
}

impl Parts {
    /// Bits of `chosen` say what there is.
    fn new(filters: usize, chosen: u8) -> Self {
        let values = |from: f32, step: f32| (0..filters).map(|o| from + step * o as f32).collect();
        Self {
            scale: (chosen & 1 > 0).then(|| values(0.5, 0.125)),
            shift: (chosen & 2 > 0).then(|| values(0.3, -0.0625)),
            relu: chosen & 4 > 0,
            residual: chosen & 8 > 0,
            most: (chosen & 16 > 0).then_some(0.75),
        }
    }

    pub(super) fn epilogue(&self) -> Epilogue<'_> {
        Epilogue { scale: self.scale.as_deref(), shift: self.shift.as_deref(), relu: self.relu, most: self.most }
    }

    /// Returns the expected value and the magnitude of its terms, from those of the sum.
    fn apply(&self, (sum, magnitude): (f64, f64), filter: usize, residual: f32) -> (f64, f64) {
        let of = |values: &Option<Vec<f32>>, absent| values.as_ref().map_or(absent, |values| f64::from(values[filter]));
        let residual = if self.residual { f64::from(residual) } else { 0.0 };
        let value = of(&self.scale, 1.0) * sum + of(&self.shift, 0.0) + residual;
        let value = if self.relu { value.max(0.0) } else { value };
        let value = self.most.map_or(value, |most| value.min(f64::from(most)));
        (value, of(&self.scale, 1.0) * magnitude + of(&self.shift, 0.0).abs() + residual.abs())
    }
}

/// A convolution with random arrays.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) x: Array4<f32>,
    pub(super) weights: Array4<f32>,
    pub(super) residual: Array4<f32>,
    pub(super) geometry: ConvGeometry,
    pub(super) parts: Parts,
}

impl Case {
    /// `shape` and `outputs` count the filters of a group.
    pub(super) fn new(
        [samples, inputs, height, width]: [usize; 4],
        outputs: usize,
        kernel: [usize; 2],
        geometry: ConvGeometry,
        chosen: u8,
        seed: u64,
    ) -> Option<Self> {
        let [rows, columns] = geometry.output_size([height, width], kernel).ok()?;
        let outputs = outputs * geometry.groups;
        Some(Self {
            x: random_f32((samples, inputs * geometry.groups, height, width), seed),
            weights: random_f32((outputs, inputs, kernel[0], kernel[1]), seed ^ 1),
            residual: random_f32((samples, outputs, rows, columns), seed ^ 2),
            geometry,
            parts: Parts::new(outputs, chosen),
        })
    }

    /// Returns every value expected and the sum of the magnitudes of its terms.
    pub(super) fn expected(&self) -> Array4<(f64, f64)> {
        let ConvGeometry { stride, padding, dilation, groups } = self.geometry;
        let (outputs, inputs, high, wide) = self.weights.dim();
        let (.., height, width) = self.x.dim();
        Array4::from_shape_fn(self.residual.dim(), |(n, o, y, x)| {
            let first = o / (outputs / groups) * inputs;
            let (mut sum, mut magnitude) = (0.0, 0.0);
            for (i, a, b) in ndarray::indices((inputs, high, wide)) {
                let row = (y * stride[0] + a * dilation[0]).checked_sub(padding[0][0]).filter(|&row| row < height);
                let column = (x * stride[1] + b * dilation[1]).checked_sub(padding[1][0]).filter(|&at| at < width);
                if let (Some(row), Some(column)) = (row, column) {
                    let term = f64::from(self.x[[n, first + i, row, column]]) * f64::from(self.weights[[o, i, a, b]]);
                    sum += term;
                    magnitude += term.abs();
                }
            }
            self.parts.apply((sum, magnitude), o, self.residual[[n, o, y, x]])
        })
    }

    fn run(&self, arch: Arch, way: Option<Way>, layout: u8) -> Array4<f32> {
        with_layout4(&self.weights, layout, |weights| {
            let conv = PackedConv2d::new(weights, &self.geometry).unwrap();
            with_layout4(&self.x, layout, |x| {
                with_layout4(&self.residual, layout, |residual| {
                    let residual = self.parts.residual.then_some(residual);
                    forward(arch, way, x, &conv, self.parts.epilogue(), residual).unwrap()
                })
            })
        })
    }

    /// Asserts that weights in 16 bits give the bits of weights that were rounded before.
    fn check_storage(&self) {
        let rounded = Self { weights: self.weights.mapv(nearest), ..self.clone() };
        let conv = PackedConv2d::new(self.weights.view(), &self.geometry).unwrap().stored_as(Storage::BFloat16);
        let residual = self.parts.residual.then(|| self.residual.view());
        for arch in instruction_sets() {
            let found = forward(arch, None, self.x.view(), &conv, self.parts.epilogue(), residual).unwrap();
            assert_eq!(bits(&found), bits(&rounded.run(arch, None, 0)));
        }
    }

    /// Asserts the same bits for any number of threads, for both layouts and for each sample alone.
    fn check_bits(&self) {
        let run = |way| bits(&self.run(Arch::new(), way, 0));
        let all = in_pool(1, || run(None));
        for threads in [2, 3, 8] {
            assert_eq!(in_pool(threads, || run(None)), all, "{threads} threads");
        }
        assert_eq!(run(Some(Way::Shifted)), all);
        assert_eq!(run(Some(Way::Gathered)), all);
        let samples = self.x.dim().0.max(1);
        for (n, all) in all.chunks(all.len().div_ceil(samples).max(1)).enumerate() {
            let one = |array: &Array4<f32>| array.slice(s![n..=n, .., .., ..]).to_owned();
            let alone = Case { x: one(&self.x), residual: one(&self.residual), ..self.clone() };
            assert_eq!(bits(&alone.run(Arch::new(), None, 0)), all, "sample {n} alone");
        }
    }
}

pub(super) fn bits(array: &Array4<f32>) -> Vec<u32> {
    array.iter().map(|value| value.to_bits()).collect()
}

fn cases() -> impl Strategy<Value = Case> {
    let geometry = ([1_usize..4, 1..4], [[0_usize..4, 0..4], [0_usize..4, 0..4]], [1_usize..4, 1..4], 1_usize..4);
    let geometry =
        geometry.prop_map(|(stride, padding, dilation, groups)| ConvGeometry { stride, padding, dilation, groups });
    let shape = (0_usize..5, 0_usize..14, 0_usize..20, 0_usize..40);
    (shape, 0_usize..14, [1_usize..8, 1..8], geometry, 0_u8..32, any::<u64>()).prop_filter_map(
        "the kernel fits",
        |((n, i, h, w), outputs, kernel, geometry, chosen, seed)| {
            Case::new([n, i, h, w], outputs, kernel, geometry, chosen, seed)
        },
    )
}

proptest! {
    #[test]
    fn matches_the_formula(
        case in cases(), layout in 0_u8..4, way in 0_usize..3, arch in any::<prop::sample::Index>(),
    ) {
        let sets = instruction_sets();
        let way = [None, Some(Way::Shifted), Some(Way::Gathered)][way];
        assert_near(&case.run(sets[arch.index(sets.len())], way, layout), &case.expected());
    }

    #[test]
    fn bits_do_not_depend_on_threads_layout_or_batch(case in cases()) {
        case.check_bits();
            case.check_storage();
    }
}

proptest! {
    /// Each output filter reads an input filter of its own; the gathered layout has the general task's sums.
    #[test]
    fn depthwise(
        (samples, channels) in (1_usize..4, 1_usize..20), size in [1_usize..70, 1..70], kernel in [1_usize..6, 1..6],
        stride in [1_usize..4, 1..4], dilation in [1_usize..3, 1..3], padding in [[0_usize..4, 0..4], [0..4, 0..4]],
        chosen in 0_u8..32, seed: u64,
    ) {
        let geometry = ConvGeometry { stride, padding, dilation, groups: channels };
        if let Some(case) = Case::new([samples, 1, size[0], size[1]], 1, kernel, geometry, chosen, seed) {
            for arch in instruction_sets() {
                assert_near(&case.run(arch, Some(Way::Shifted), 0), &case.expected());
            }
            case.check_bits();
        }
    }
}

pub(super) fn same(groups: usize) -> ConvGeometry {
    ConvGeometry { padding: [[1, 1], [1, 1]], groups, ..ConvGeometry::default() }
}

/// Usual layers: several strips, blocks of inputs, panels and tiles.
#[test]
fn usual_layers() {
    let plain = ConvGeometry::default();
    let down = |side: usize| ConvGeometry { stride: [2, 2], padding: [[side, side], [side, side]], ..plain };
    for (shape, outputs, kernel, geometry) in [
        ([2, 40, 33, 70], 37, [3, 3], same(1)),
        ([3, 300, 7, 7], 21, [3, 3], same(1)),
        ([1, 600, 4, 4], 40, [3, 3], same(1)),
        ([5, 100, 2, 2], 9, [3, 3], same(1)),
        ([2, 128, 14, 14], 24, [1, 1], plain),
        ([2, 64, 15, 15], 16, [1, 1], down(0)),
        ([2, 3, 65, 66], 12, [7, 7], down(3)),
        ([2, 1, 30, 31], 1, [3, 3], same(24)),
        ([1, 1, 29, 30], 1, [5, 5], ConvGeometry { groups: 40, ..down(2) }),
        ([1, 20, 14, 14], 4, [3, 3], ConvGeometry { padding: [[12; 2]; 2], dilation: [12, 12], ..plain }),
        ([1, 2, 300, 300], 3, [3, 3], same(1)),
    ] {
        let case = Case::new(shape, outputs, kernel, geometry, 15, 7).unwrap();
        let expected = case.expected();
        for arch in instruction_sets() {
            for way in [None, Some(Way::Shifted), Some(Way::Gathered)] {
                assert_near(&case.run(arch, way, 0), &expected);
            }
        }
        case.check_bits();
    }
}

#[test]
fn the_shapes_decide_the_layout() {
    let decided = |samples: usize, side: usize, geometry: ConvGeometry| {
        let weights = Array4::zeros((64, 64 / geometry.groups, 3, 3));
        let conv = PackedConv2d::new(weights.view(), &geometry).unwrap();
        let size = geometry.output_size([side, side], [3, 3]).unwrap();
        let axes = Axis::both(&geometry, [side, side], size, [3, 3]);
        match Plan::new(&conv, axes, samples, 16, None).layout {
            plan::Layout::Shifted(_) => Way::Shifted,
            plan::Layout::Gathered(_) => Way::Gathered,
        }
    };
    for (samples, side) in [(1, 56), (1, 28), (64, 28), (1, 7)] {
        assert_eq!(decided(samples, side, same(1)), Way::Shifted, "{side}");
    }
    assert_eq!(decided(1, 4, same(1)), Way::Gathered);
    assert_eq!(decided(64, 2, same(1)), Way::Gathered);
    assert_eq!(decided(1, 14, same(64)), Way::Shifted);
}

#[test]
fn long_padding_and_dilation_need_no_memory_for_zeros() {
    let far = 1 << 27;
    let geometry = ConvGeometry { padding: [[far; 2]; 2], dilation: [far; 2], ..ConvGeometry::default() };
    let case = Case::new([2, 3, 2, 2], 4, [3, 3], geometry, 0, 3).unwrap();
    assert_near(&case.run(Arch::new(), None, 0), &case.expected());
}

#[test]
fn nan_passes_the_rectifier() {
    let x = Array4::from_elem((1, 1, 1, 2), f32::NAN);
    let conv = PackedConv2d::new(Array4::ones((1, 1, 1, 1)).view(), &ConvGeometry::default()).unwrap();
    let epilogue = Epilogue { relu: true, ..Epilogue::default() };
    for arch in instruction_sets() {
        let y = forward(arch, None, x.view(), &conv, epilogue, Some(x.view())).unwrap();
        assert!(y.iter().all(|value| value.is_nan()));
    }
}

#[test]
fn errors() {
    let weights = Array4::<f32>::zeros((4, 2, 3, 3));
    let shape = |result: Result<(), KernelError>| matches!(result, Err(KernelError::Shape { .. }));
    let packed = |geometry: ConvGeometry| PackedConv2d::new(weights.view(), &geometry).map(|_| ());
    assert_eq!(packed(same(3)), Err(KernelError::Groups { filters: 4, groups: 3 }));
    assert!(matches!(packed(same(0)), Err(KernelError::Geometry { .. })));
    assert!(matches!(packed(ConvGeometry { stride: [0, 1], ..same(1) }), Err(KernelError::Geometry { .. })));
    assert!(matches!(
        PackedConv2d::new(Array4::zeros((4, 2, 0, 3)).view(), &same(1)),
        Err(KernelError::Geometry { .. })
    ));

    let conv = PackedConv2d::new(weights.view(), &same(2)).unwrap();
    let run = |dim, epilogue, residual: Option<(usize, usize, usize, usize)>| {
        let (x, residual) = (Array4::zeros(dim), residual.map(Array4::zeros));
        packed_conv2d(x.view(), &conv, epilogue, residual.as_ref().map(|array| array.view())).map(|_| ())
    };
    let plain = Epilogue::default();
    assert_eq!(run((1, 4, 5, 5), plain, Some((1, 4, 5, 5))), Ok(()));
    assert!(shape(run((1, 3, 5, 5), plain, None)));
    assert!(shape(run((1, 4, 5, 5), Epilogue { scale: Some(&[1.0]), ..plain }, None)));
    assert!(shape(run((1, 4, 5, 5), Epilogue { shift: Some(&[1.0; 5]), ..plain }, None)));
    for wrong in [(2, 4, 5, 5), (1, 3, 5, 5), (1, 4, 4, 5), (1, 4, 5, 6)] {
        assert!(shape(run((1, 4, 5, 5), plain, Some(wrong))));
    }
    let small = KernelError::SmallInput { axis: 0, kernel: 3, input: 2 };
    assert_eq!(run((1, 4, 0, 5), plain, None), Err(small));

    let huge = ConvGeometry { padding: [[1 << 28; 2]; 2], ..ConvGeometry::default() };
    let conv = PackedConv2d::new(Array4::zeros((64, 1, 1, 1)).view(), &huge).unwrap();
    let x = Array4::zeros((1, 1, 1, 1));
    assert!(matches!(packed_conv2d(x.view(), &conv, plain, None), Err(KernelError::Geometry { .. })));
}

/// Returns the result and, for each element, the value expected and the magnitude of its terms.
fn linear(arch: Arch, x: ArrayView2<f32>, weights: ArrayView2<f32>, chosen: u8) -> (Array2<f32>, Array2<(f64, f64)>) {
    let parts = Parts::new(weights.ncols(), chosen);
    let residual = random_f32((x.nrows(), weights.ncols()), 9);
    let packed = PackedLinear::new(weights);
    let other = parts.residual.then_some(residual.view());
    let found = linear::forward(arch, x, &packed, parts.epilogue(), other).unwrap();
    let expected = Array2::from_shape_fn(residual.dim(), |(n, o)| {
        let terms = || (0..x.ncols()).map(|i| f64::from(x[[n, i]]) * f64::from(weights[[i, o]]));
        parts.apply((terms().sum(), terms().map(f64::abs).sum()), o, residual[[n, o]])
    });
    (found, expected)
}

proptest! {
    #[test]
    fn linear_matches_the_formula(
        samples in prop_oneof![0_usize..14, 45_usize..52], inputs in prop_oneof![0_usize..20, 500_usize..530],
        outputs in prop_oneof![0_usize..20, 60_usize..150], transposed: bool, chosen in 0_u8..32, seed: u64,
    ) {
        let mut x = random_f32((samples, inputs), seed);
        let mut weights = random_f32((inputs, outputs), seed ^ 1);
        if transposed {
            x = random_f32((inputs, samples), seed).reversed_axes();
            weights.invert_axis(Along(0));
        }
        for arch in instruction_sets() {
            let (found, expected) = linear(arch, x.view(), weights.view(), chosen);
            assert_near(&found, &expected);
        }
        let run = || linear(Arch::new(), x.view(), weights.view(), chosen & 7).0;
        let all = in_pool(1, run);
        for threads in [2, 3, 8] {
            prop_assert_eq!(&in_pool(threads, run), &all);
        }
        let parts = Parts::new(outputs, chosen & 7);
        let half = PackedLinear::new(weights.view()).stored_as(Storage::BFloat16);
        for arch in instruction_sets() {
            let found = linear::forward(arch, x.view(), &half, parts.epilogue(), None).unwrap();
            prop_assert_eq!(found, linear(arch, x.view(), weights.mapv(nearest).view(), chosen & 7).0);
        }
        for n in 0..samples {
            let (alone, _) = linear(Arch::new(), x.slice(s![n..=n, ..]), weights.view(), chosen & 7);
            prop_assert_eq!(alone.row(0), all.row(n));
        }
    }
}

#[test]
fn errors_of_linear_layers() {
    let packed = PackedLinear::new(Array2::zeros((3, 5)).view());
    let run = |x: (usize, usize), epilogue, residual: (usize, usize)| {
        let (x, residual) = (Array2::zeros(x), Array2::zeros(residual));
        packed_linear(x.view(), &packed, epilogue, Some(residual.view())).map(|_| ())
    };
    let shape = |result: Result<(), KernelError>| matches!(result, Err(KernelError::Shape { .. }));
    let plain = Epilogue::default();
    assert_eq!(run((2, 3), plain, (2, 5)), Ok(()));
    assert!(shape(run((2, 4), plain, (2, 5))));
    assert!(shape(run((2, 3), plain, (1, 5))));
    assert!(shape(run((2, 3), plain, (2, 4))));
    assert!(shape(run((2, 3), Epilogue { shift: Some(&[0.0; 4]), ..plain }, (2, 5))));
}
