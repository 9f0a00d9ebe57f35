//! Tests of the sparse convolution and its gradients against the formula in double precision.

use ndarray::{Array3, Array4};
use proptest::prelude::*;

use super::*;
use crate::testing::{in_pool, random_f32, with_layout, with_layout4};
use crate::vector::instruction_sets;

/// A convolution with random arrays.
#[derive(Debug, Clone)]
struct Case {
    x: Array4<f32>,
    values: Array3<f32>,
    pattern: KernelPattern,
    geometry: ConvGeometry,
    grad: Array4<f32>,
}

impl Case {
    fn new(
        shape: [usize; 4],
        outputs: usize,
        kernel: [usize; 2],
        geometry: ConvGeometry,
        density: f64,
        seed: u64,
    ) -> Option<Self> {
        let [samples, per_group, height, width] = shape;
        let [rows, columns] = geometry.output_size([height, width], kernel).ok()?;
        let outputs = outputs * geometry.groups;
        let chance = random_f32((outputs, per_group), seed ^ 3);
        let pattern =
            KernelPattern::from_fn(outputs, per_group, |o, i| f64::from(chance[[o, i]]) < 2.0 * density - 1.0);
        Some(Self {
            x: random_f32((samples, per_group * geometry.groups, height, width), seed),
            values: random_f32((pattern.kept(), kernel[0], kernel[1]), seed ^ 1),
            grad: random_f32((samples, outputs, rows, columns), seed ^ 2),
            pattern,
            geometry,
        })
    }

    fn shape(&self) -> [usize; 4] {
        shape(&self.x.view())
    }

    fn kernel(&self) -> [usize; 2] {
        kernel_of(&self.values.view())
    }

    /// Calls `term` with the indices of x, of the values and of the output of every product of the convolution.
    fn each(&self, mut term: impl FnMut([usize; 4], [usize; 3], [usize; 4])) {
        let ConvGeometry { stride, padding, dilation, groups } = self.geometry;
        let [_, _, height, width] = self.shape();
        for (n, o, y, x) in ndarray::indices(self.grad.dim()) {
            let group = o / (self.pattern.outputs() / groups);
            let first = self.pattern.offsets()[o] as usize;
            for (place, &input) in self.pattern.row(o).iter().enumerate() {
                for (a, b) in ndarray::indices((self.kernel()[0], self.kernel()[1])) {
                    let row = (y * stride[0] + a * dilation[0]).checked_sub(padding[0][0]).filter(|&row| row < height);
                    let column =
                        (x * stride[1] + b * dilation[1]).checked_sub(padding[1][0]).filter(|&column| column < width);
                    if let (Some(row), Some(column)) = (row, column) {
                        let channel = group * self.pattern.inputs_per_group() + input as usize;
                        term([n, channel, row, column], [first + place, a, b], [n, o, y, x]);
                    }
                }
            }
        }
    }

    fn check(&self, arch: Arch, way: Option<Way>, layout: u8) {
        let (x, values, grad) = (&self.x, &self.values, &self.grad);
        let scale: Vec<f32> = (0..self.pattern.outputs()).map(|o| 0.5 + o as f32 / 8.0).collect();
        let shift: Vec<f32> = (0..self.pattern.outputs()).map(|o| 0.3 - o as f32 / 16.0).collect();
        let epilogue = Epilogue {
            scale: (layout != 1).then_some(&scale),
            shift: (layout != 2).then_some(&shift),
            relu: layout != 3,
            most: None,
        };
        let mut expected = Array4::<f64>::zeros(grad.dim());
        let mut magnitude = Array4::<f64>::zeros(grad.dim());
        let mut to_input = Array4::<f64>::zeros(x.dim());
        let mut to_input_magnitude = Array4::<f64>::zeros(x.dim());
        let mut to_values = Array3::<f64>::zeros(values.dim());
        let mut to_values_magnitude = Array3::<f64>::zeros(values.dim());
        self.each(|at, tap, out| {
            let (x, value, grad) = (f64::from(x[at]), f64::from(values[tap]), f64::from(grad[out]));
            expected[out] += x * value;
            magnitude[out] += (x * value).abs();
            to_input[at] += grad * value;
            to_input_magnitude[at] += (grad * value).abs();
            to_values[tap] += grad * x;
            to_values_magnitude[tap] += (grad * x).abs();
        });
        for ((_, o, ..), value) in expected.indexed_iter_mut() {
            *value = epilogue.scale.map_or(1.0, |scale| f64::from(scale[o])) * *value
                + epilogue.shift.map_or(0.0, |shift| f64::from(shift[o]));
            *value = if epilogue.relu { value.max(0.0) } else { *value };
        }
        for ((_, o, ..), value) in magnitude.indexed_iter_mut() {
            *value = epilogue.scale.map_or(1.0, |scale| f64::from(scale[o])) * *value + 1.0;
        }

        let found = with_layout4(x, layout, |x| {
            with_layout(values, layout, |values| forward(arch, way, x, values, &self.pattern, &self.geometry, epilogue))
        });
        assert_near(found.unwrap().iter(), expected.iter(), magnitude.iter());
        let found = with_layout4(grad, layout, |grad| {
            with_layout(values, layout, |values| {
                grad_input(arch, way, grad, values, &self.pattern, &self.geometry, self.shape())
            })
        });
        assert_near(found.unwrap().iter(), to_input.iter(), to_input_magnitude.iter());
        let found = with_layout4(x, layout, |x| {
            with_layout4(grad, layout, |grad| {
                grad_values(arch, way, x, grad, &self.pattern, &self.geometry, self.kernel())
            })
        });
        assert_near(found.unwrap().iter(), to_values.iter(), to_values_magnitude.iter());
    }

    /// Returns the bits of all results.
    fn bits(&self, way: Option<Way>) -> Vec<u32> {
        let arch = Arch::new();
        let (x, values, grad) = (self.x.view(), self.values.view(), self.grad.view());
        let y = forward(arch, way, x, values, &self.pattern, &self.geometry, Epilogue::default()).unwrap();
        let to_input = grad_input(arch, way, grad, values, &self.pattern, &self.geometry, self.shape()).unwrap();
        let to_values = grad_values(arch, way, x, grad, &self.pattern, &self.geometry, self.kernel()).unwrap();
        y.iter().chain(&to_input).chain(&to_values).map(|value| value.to_bits()).collect()
    }
}

/// Asserts that every element differs by at most 1e-5 times the sum of the magnitudes of its terms.
fn assert_near<'a>(
    found: impl Iterator<Item = &'a f32>,
    expected: impl Iterator<Item = &'a f64>,
    magnitude: impl Iterator<Item = &'a f64>,
) {
    for (place, (&found, (&expected, &magnitude))) in found.zip(expected.zip(magnitude)).enumerate() {
        assert!((f64::from(found) - expected).abs() <= 1e-5 * magnitude, "{place}: {found} {expected}");
    }
}

/// Densities among which 0 and 1 are frequent.
fn densities() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), Just(1.0), 0.0..1.0]
}

fn cases() -> impl Strategy<Value = Case> {
    let geometry = ([1_usize..4, 1..4], [[0_usize..4, 0..4], [0_usize..4, 0..4]], [1_usize..3, 1..3], 1_usize..4);
    let geometry =
        geometry.prop_map(|(stride, padding, dilation, groups)| ConvGeometry { stride, padding, dilation, groups });
    let shape = (prop_oneof![0_usize..4, 14_usize..40], 0_usize..5, 0_usize..11, 0_usize..19);
    (shape, 0_usize..5, [1_usize..4, 1..4], geometry, densities(), any::<u64>()).prop_filter_map(
        "the kernel fits",
        |((n, i, h, w), outputs, kernel, geometry, density, seed)| {
            Case::new([n, i, h, w], outputs, kernel, geometry, density, seed)
        },
    )
}

proptest! {
    #[test]
    fn matches_the_formula(case in cases(), layout in 0_u8..4, way in 0_usize..3, arch in any::<prop::sample::Index>()) {
        let sets = instruction_sets();
        case.check(sets[arch.index(sets.len())], [None, Some(Way::Samples), Some(Way::Columns)][way], layout);
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits(case in cases(), way in 0_usize..3) {
        let way = [None, Some(Way::Samples), Some(Way::Columns)][way];
        let one = in_pool(1, || case.bits(way));
        prop_assert!(in_pool(2, || case.bits(way)) == one && in_pool(5, || case.bits(way)) == one);
    }
}

fn same(groups: usize) -> ConvGeometry {
    ConvGeometry { stride: [1, 1], padding: [[1, 1], [1, 1]], dilation: [1, 1], groups }
}

/// Shapes with several chunks of channels, several waves of blocks and many tasks.
#[test]
fn large_shapes() {
    let plain = ConvGeometry { padding: [[0, 0], [0, 0]], ..same(1) };
    for (shape, outputs, kernel, geometry, density) in [
        ([17, 70, 16, 16], 12, [3, 3], same(1), 0.2),
        ([3, 90, 14, 14], 9, [3, 3], same(2), 0.4),
        ([33, 300, 1, 1], 40, [1, 1], plain, 0.1),
        ([1, 600, 4, 4], 40, [3, 3], same(1), 0.1),
    ] {
        let case = Case::new(shape, outputs, kernel, geometry, density, 7).unwrap();
        for way in [None, Some(Way::Samples), Some(Way::Columns)] {
            case.check(Arch::new(), way, 0);
            let one = in_pool(1, || case.bits(way));
            assert!(in_pool(2, || case.bits(way)) == one && in_pool(5, || case.bits(way)) == one);
        }
    }
}

#[test]
fn the_shapes_decide_the_layout() {
    let decided = |samples: usize, side: usize, kernel: usize| {
        let padding = [[kernel / 2; 2]; 2];
        let problem = Problem::new(
            [samples, 1, side, side],
            [kernel, kernel],
            &KernelPattern::from_fn(1, 1, |_, _| true),
            &ConvGeometry { padding, ..same(1) },
        );
        let lattice = problem.unwrap().forward();
        let tiling = Tiling::new(&lattice, [side, side], &Columns::new(side, 1), 32);
        let blocks = Blocks::new(&lattice, samples, 16, 32);
        cheaper(samples.div_ceil(16), &[tiling], &[blocks], &[lattice])
    };
    assert_eq!(decided(64, 4, 3), Way::Samples);
    assert_eq!(decided(64, 8, 3), Way::Samples);
    assert_eq!(decided(1, 4, 3), Way::Columns);
    assert_eq!(decided(1, 8, 3), Way::Columns);
    assert_eq!(decided(64, 8, 1), Way::Columns);
}

#[test]
fn nan_passes_the_rectifier() {
    let x = Array4::from_elem((1, 1, 1, 2), f32::NAN);
    let pattern = KernelPattern::from_fn(1, 1, |_, _| true);
    let values = Array3::ones((1, 1, 1));
    let geometry = ConvGeometry { padding: [[0, 0], [0, 0]], ..same(1) };
    for (arch, way) in instruction_sets().into_iter().flat_map(|arch| [(arch, Way::Samples), (arch, Way::Columns)]) {
        let epilogue = Epilogue { relu: true, ..Epilogue::default() };
        let y = forward(arch, Some(way), x.view(), values.view(), &pattern, &geometry, epilogue).unwrap();
        assert!(y.iter().all(|value| value.is_nan()));
    }
}

#[test]
fn errors() {
    let (pattern, geometry) = (KernelPattern::from_fn(3, 2, |o, i| o != i), same(1));
    let x = Array4::zeros((1, 2, 4, 4));
    let values = Array3::zeros((4, 3, 3));
    let run = |x: &Array4<f32>, values: &Array3<f32>, epilogue: Epilogue| {
        sparse_conv2d(x.view(), values.view(), &pattern, &geometry, epilogue).map(|_| ())
    };
    let shape = |result: Result<(), KernelError>| matches!(result, Err(KernelError::Shape { .. }));
    assert_eq!(run(&x, &values, Epilogue::default()), Ok(()));
    assert!(shape(run(&x, &Array3::zeros((5, 3, 3)), Epilogue::default())));
    assert!(shape(run(&Array4::zeros((1, 3, 4, 4)), &values, Epilogue::default())));
    assert!(shape(run(&x, &values, Epilogue { scale: Some(&[1.0]), ..Epilogue::default() })));
    assert!(shape(run(&x, &values, Epilogue { shift: Some(&[1.0; 4]), ..Epilogue::default() })));
    let small = run(&Array4::zeros((1, 2, 0, 4)), &values, Epilogue::default());
    assert_eq!(small, Err(KernelError::SmallInput { axis: 0, kernel: 3, input: 2 }));
    for wrong in [(2, 3, 4, 4), (1, 2, 4, 4), (1, 3, 3, 4), (1, 3, 4, 5)] {
        let grad = Array4::zeros(wrong);
        let to_input = sparse_conv2d_grad_input(grad.view(), values.view(), &pattern, &geometry, [1, 2, 4, 4]);
        assert!(shape(to_input.map(|_| ())));
        let to_values = sparse_conv2d_grad_values(x.view(), grad.view(), &pattern, &geometry, [3, 3]);
        assert!(shape(to_values.map(|_| ())));
    }
}
