//! Tests of the convolution and its gradients against plain loops in double precision, with tiles and without.

#[path = "../../tests/common/mod.rs"]
mod common;

use super::*;
use burn::tensor::{DType, Device, TensorData};
use burn_backend::ops::FloatTensorOps;
use burn_cubecl::CubeBackend;
use burn_sfp_kernels::{KernelError, KernelPattern};
use common::{assert_close, bits, cube, cube_device, device, download, random, rng, tensor, upload};
use proptest::prelude::*;
use rand::RngExt;

/// Returns offsets and inputs of a pattern that keeps each kernel with probability `keep`.
fn random_pattern(outputs: usize, inputs: usize, keep: f64, seed: u64) -> (Vec<u32>, Vec<u32>) {
    let mut rng = rng(seed);
    let (mut offsets, mut kept) = (vec![0], Vec::new());
    for _ in 0..outputs {
        kept.extend((0..inputs as u32).filter(|_| rng.random_range(0.0..1.0) < keep));
        offsets.push(kept.len() as u32);
    }
    (offsets, kept)
}

/// A convolution with random arrays.
#[derive(Debug)]
struct Case {
    from: [usize; 4],
    outputs: usize,
    kernel: [usize; 2],
    geometry: ConvGeometry,
    offsets: Vec<u32>,
    inputs: Vec<u32>,
    seed: u64,
}

impl Case {
    fn new(from: [usize; 4], outputs: usize, kernel: [usize; 2], geometry: ConvGeometry, keep: f64, seed: u64) -> Self {
        let (offsets, inputs) = random_pattern(outputs, from[1] / geometry.groups, keep, seed);
        Self { from, outputs, kernel, geometry, offsets, inputs, seed }
    }

    fn to(&self) -> [usize; 4] {
        let [height, width] = self.geometry.output_size([self.from[2], self.from[3]], self.kernel).unwrap();
        [self.from[0], self.outputs, height, width]
    }

    /// Returns the pattern on the device.
    fn pattern(&self, device: &Device) -> DevicePattern {
        let per_group = self.from[1] / self.geometry.groups;
        let pattern = KernelPattern::new(per_group, self.offsets.clone(), self.inputs.clone()).unwrap();
        DevicePattern::upload(&cube_device(device), &pattern, self.geometry.groups).unwrap()
    }

    /// Calls `visit` with the places in input, values and output of every product.
    fn products(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let ([n, i, h, w], [_, o, oh, ow]) = (self.from, self.to());
        let g = &self.geometry;
        let per_group = i / g.groups;
        for sample in 0..n {
            for output in 0..o {
                for k in self.offsets[output] as usize..self.offsets[output + 1] as usize {
                    let channel = output / (o / g.groups) * per_group + self.inputs[k] as usize;
                    for y in 0..oh {
                        for x in 0..ow {
                            for ky in 0..self.kernel[0] {
                                for kx in 0..self.kernel[1] {
                                    let sy = (y * g.stride[0] + ky * g.dilation[0]) as isize - g.padding[0][0] as isize;
                                    let sx = (x * g.stride[1] + kx * g.dilation[1]) as isize - g.padding[1][0] as isize;
                                    if (0..h as isize).contains(&sy) && (0..w as isize).contains(&sx) {
                                        visit(
                                            ((sample * i + channel) * h + sy as usize) * w + sx as usize,
                                            (k * self.kernel[0] + ky) * self.kernel[1] + kx,
                                            ((sample * o + output) * oh + y) * ow + x,
                                        );
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    /// Checks all three functions: with the plan that they choose, twice, and without tiles.
    fn check(&self, device: &Device) {
        let (from, to, kernel) = (self.from, self.to(), self.kernel);
        let (kernels, o) = (self.inputs.len(), self.outputs);
        let x = random(from.iter().product(), self.seed);
        let values = random(kernels * kernel[0] * kernel[1], self.seed ^ 1);
        let bias = random(o, self.seed ^ 2);
        let grad = random(to.iter().product(), self.seed ^ 3);
        let map = (to[2] * to[3]).max(1);
        let start = |place: usize| f64::from(bias[place / map % o]);
        let mut y: Vec<(f64, f64)> = (0..grad.len()).map(|at| (start(at), start(at).abs())).collect();
        let mut gx = vec![(0.0, 0.0); x.len()];
        let mut gv = vec![(0.0, 0.0); values.len()];
        let add = |slot: &mut (f64, f64), a: f32, b: f32| {
            let term = f64::from(a) * f64::from(b);
            *slot = (slot.0 + term, slot.1 + term.abs());
        };
        self.products(|from, value, to| {
            add(&mut y[to], x[from], values[value]);
            add(&mut gx[from], grad[to], values[value]);
            add(&mut gv[value], grad[to], x[from]);
        });

        let g = &self.geometry;
        let pattern = self.pattern(device);
        let x = || upload(&x, from, device);
        let values = || upload(&values, [kernels, kernel[0], kernel[1]], device);
        let bias = || Some(upload(&bias, [o], device));
        let grad = || upload(&grad, to, device);

        let found = [0, 1].map(|_| download(sparse_conv2d(x(), values(), bias(), &pattern, g).unwrap()));
        assert_close(&found[0], &y, "output");
        assert_eq!(bits(&found[0]), bits(&found[1]), "output, twice");
        let plain = forward(x(), values(), bias(), &pattern, g, |gather| gather.run_by(None)).unwrap();
        assert_close(&download(plain), &y, "output without tiles");

        let run = || sparse_conv2d_grad_input(grad(), values(), &pattern, g, from).unwrap();
        let found = [0, 1].map(|_| download(run()));
        assert_close(&found[0], &gx, "gradient by the input");
        assert_eq!(bits(&found[0]), bits(&found[1]), "gradient by the input, twice");
        let plain = backward(grad(), values(), &pattern, g, from, |gather| gather.run_by(None)).unwrap();
        assert_close(&download(plain), &gx, "gradient by the input without tiles");

        let run = || sparse_conv2d_grad_values(x(), grad(), &pattern, g, kernel).unwrap();
        let found = [0, 1].map(|_| download(run()));
        assert_close(&found[0], &gv, "gradient by the values");
        assert_eq!(bits(&found[0]), bits(&found[1]), "gradient by the values, twice");
        let plain = values_gradient(x(), grad(), &pattern, g, kernel, |gradient| gradient.run_by(None)).unwrap();
        assert_close(&download(plain), &gv, "gradient by the values without tiles");
    }
}

fn geometry(stride: usize, padding: usize, dilation: usize, groups: usize) -> ConvGeometry {
    let (stride, dilation) = ([stride; 2], [dilation; 2]);
    ConvGeometry { stride, padding: [[padding; 2]; 2], dilation, groups }
}

#[test]
fn usual_layers() {
    let Some(device) = device() else { return };
    let case = |from, outputs, kernel: usize, geometry, keep| Case::new(from, outputs, [kernel; 2], geometry, keep, 7);
    case([3, 8, 4, 4], 6, 3, geometry(1, 1, 1, 1), 0.4).check(&device); // one tile per map
    case([1, 40, 4, 4], 6, 3, geometry(1, 1, 1, 1), 0.6).check(&device); // several threads per row
    case([70, 6, 4, 4], 4, 3, geometry(1, 1, 1, 1), 0.5).check(&device); // more samples than threads in a cube
    case([2, 24, 8, 8], 4, 3, geometry(1, 1, 1, 1), 0.5).check(&device);
    case([2, 5, 17, 13], 3, 3, geometry(1, 1, 1, 1), 0.5).check(&device); // several tiles
    case([2, 6, 16, 16], 4, 3, geometry(2, 1, 1, 2), 0.5).check(&device); // groups, stride
    case([2, 6, 15, 14], 4, 3, geometry(2, 1, 1, 2), 0.5).check(&device);
    case([2, 8, 6, 6], 8, 1, geometry(1, 0, 1, 1), 0.3).check(&device);
    case([2, 8, 6, 6], 8, 1, geometry(2, 0, 1, 8), 0.9).check(&device); // depthwise
    case([1, 3, 20, 20], 2, 7, geometry(2, 3, 1, 1), 0.9).check(&device);
    case([1, 3, 20, 20], 2, 11, geometry(4, 2, 1, 1), 0.9).check(&device);
    case([1, 2, 30, 30], 2, 28, geometry(1, 1, 1, 1), 0.9).check(&device); // too large to unroll
    case([2, 4, 9, 9], 3, 3, geometry(1, 2, 2, 1), 0.6).check(&device); // dilation
    case([2, 4, 5, 5], 3, 1, geometry(3, 2, 1, 1), 0.6).check(&device); // padding beyond the kernel
}

#[test]
fn unequal_axes() {
    let Some(device) = device() else { return };
    let geometry = ConvGeometry { stride: [2, 1], padding: [[0, 2], [3, 1]], dilation: [1, 2], groups: 2 };
    Case::new([3, 4, 9, 6], 4, [2, 3], geometry, 0.7, 5).check(&device);
    let geometry = ConvGeometry { stride: [1, 3], padding: [[1, 0], [0, 4]], dilation: [2, 1], groups: 1 };
    Case::new([2, 3, 8, 31], 2, [3, 5], geometry, 0.7, 5).check(&device);
}

#[test]
fn nothing_to_add_up() {
    let Some(device) = device() else { return };
    // No kernels, rows without kernels, no samples, no outputs, empty maps.
    Case::new([2, 3, 4, 4], 4, [3, 3], geometry(1, 1, 1, 1), 0.0, 1).check(&device);
    let mut case = Case::new([2, 3, 4, 4], 4, [3, 3], geometry(1, 1, 1, 1), 0.0, 1);
    (case.offsets, case.inputs) = (vec![0, 0, 2, 2, 3], vec![0, 2, 2]);
    case.check(&device);
    Case::new([0, 3, 4, 4], 4, [3, 3], geometry(1, 1, 1, 1), 0.5, 1).check(&device);
    Case::new([2, 3, 4, 4], 0, [3, 3], geometry(1, 1, 1, 1), 0.5, 1).check(&device);
    Case::new([2, 3, 0, 0], 2, [3, 3], geometry(1, 2, 1, 1), 0.9, 1).check(&device);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(20) })]
    #[test]
    fn any_layer(
        from in (1_usize..4, 1_usize..6, 1_usize..12, 1_usize..12), outputs in 1_usize..5, groups in 1_usize..3,
        kernel in (1_usize..5, 1_usize..5), stride in (1_usize..4, 1_usize..4), dilation in (1_usize..3, 1_usize..3),
        padding in ((0_usize..4, 0_usize..4), (0_usize..4, 0_usize..4)), keep in 0.0_f64..1.0, seed: u64,
    ) {
        let Some(device) = device() else { return Ok(()) };
        let ((before, after), (left, right)) = padding;
        let geometry = ConvGeometry {
            stride: [stride.0, stride.1],
            padding: [[before, after], [left, right]],
            dilation: [dilation.0, dilation.1],
            groups,
        };
        prop_assume!(geometry.output_size([from.2, from.3], [kernel.0, kernel.1]).is_ok());
        let from = [from.0, from.1 * groups, from.2, from.3];
        Case::new(from, outputs * groups, [kernel.0, kernel.1], geometry, keep, seed).check(&device);
    }
}

#[test]
fn any_strides_and_half_precision() {
    let Some(device) = device() else { return };
    let case = Case::new([2, 6, 4, 4], 4, [3, 3], geometry(1, 1, 1, 1), 0.5, 3);
    let (x, values) = (random(2 * 6 * 16, 1), random(case.inputs.len() * 9, 2));
    let pattern = case.pattern(&device);
    let expect = |x: &[f32], values: &[f32]| {
        let mut y = vec![(0.0, 0.0); 2 * 4 * 16];
        case.products(|from, value, to| {
            let term = f64::from(x[from]) * f64::from(values[value]);
            y[to] = (y[to].0 + term, y[to].1 + term.abs());
        });
        y
    };
    let shape = [case.inputs.len(), 3, 3];
    let strided = (tensor(&x, case.from, &device).permute([0, 2, 3, 1]) * 1.0).permute([0, 3, 1, 2]);
    let flipped = (tensor(&values, shape, &device).swap_dims(1, 2) * 1.0).swap_dims(1, 2);
    let y = sparse_conv2d(cube(strided), cube(flipped), None, &pattern, &case.geometry).unwrap();
    assert_close(&download(y), &expect(&x, &values), "strides");

    // The output is rounded to half precision, so it is compared as coarsely.
    let half = |values: &[f32], shape: Vec<usize>| TensorData::new(values.to_vec(), shape).convert_dtype(DType::F16);
    let (x, values) = (half(&x, case.from.to_vec()), half(&values, shape.to_vec()));
    let host = |data: &TensorData| data.clone().convert::<f32>().try_to_vec::<f32>().unwrap();
    let expected = expect(&host(&x), &host(&values));
    let put = |data| CubeBackend::float_from_data(data, &cube_device(&device));
    match sparse_conv2d(put(x), put(values), None, &pattern, &case.geometry) {
        Err(GpuError::Dtype { found, .. }) => println!("skipped: this device does not read {found:?}"),
        y => {
            for (found, (sum, size)) in download(y.unwrap()).into_iter().zip(expected) {
                assert!((f64::from(found) - sum).abs() <= 1e-3 * size.max(1e-3), "{found} for {sum}");
            }
        }
    }
}

#[test]
fn wrong_patterns_are_rejected() {
    let Some(device) = device() else { return };
    let device = cube_device(&device);
    for (inputs, groups, offsets, channels, index) in [
        (2, 1, &[][..], &[][..], 0),
        (2, 0, &[0, 1], &[0], 1),
        (2, 2, &[0, 1], &[0], 1),
        (2, 1, &[1, 1], &[0], 0),
        (2, 1, &[0, 2, 1], &[0], 2),
        (2, 1, &[0, 2], &[0], 1),
        (2, 1, &[0, 2], &[0, 2], 1),
    ] {
        let error = match KernelPattern::new(inputs, offsets.to_vec(), channels.to_vec()) {
            Ok(pattern) => DevicePattern::upload(&device, &pattern, groups).unwrap_err(),
            Err(error) => error.into(),
        };
        let found = match error {
            GpuError::Argument(KernelError::Pattern { index, .. }) => index,
            GpuError::Argument(KernelError::Groups { filters, .. }) => filters,
            error => panic!("{error}"),
        };
        assert_eq!(found, index);
    }
    let empty = KernelPattern::new(0, vec![0], vec![]).unwrap();
    assert!(DevicePattern::upload(&device, &empty, 1).is_ok());
}

#[test]
fn errors() {
    let Some(device) = device() else { return };
    let pattern = KernelPattern::new(2, vec![0, 1, 2], vec![0, 1]).unwrap();
    let pattern = DevicePattern::upload(&cube_device(&device), &pattern, 1).unwrap();
    let good = geometry(1, 1, 1, 1);
    let zeros = |shape: [usize; 4]| upload(&vec![0.0; shape.iter().product()], shape, &device);
    let values = |count: usize| upload(&vec![0.0; count * 9], [count, 3, 3], &device);
    let run = |x, values, bias, geometry| sparse_conv2d(x, values, bias, &pattern, &geometry).unwrap_err();
    let shape = |error| matches!(error, GpuError::Argument(KernelError::Shape { .. }));
    assert!(shape(run(zeros([1, 3, 4, 4]), values(2), None, good)));
    assert!(shape(run(zeros([1, 2, 4, 4]), values(3), None, good)));
    assert!(shape(run(zeros([1, 2, 4, 4]), values(2), Some(upload(&[0.0; 3], [3], &device)), good)));
    assert!(shape(run(zeros([1, 2, 4, 4]), values(2), None, geometry(1, 1, 1, 2))));
    assert!(shape(run(values(2), values(2), None, good)));
    let wrong = |error| matches!(error, GpuError::Argument(KernelError::Geometry { .. }));
    assert!(wrong(run(zeros([1, 2, 4, 4]), values(2), None, geometry(0, 1, 1, 1))));
    assert!(wrong(run(zeros([1, 2, 4, 4]), values(2), None, geometry(1, 1, 0, 1))));
    let small = run(zeros([1, 2, 1, 1]), values(2), None, geometry(1, 0, 1, 1));
    assert!(matches!(small, GpuError::Argument(KernelError::SmallInput { .. })), "{small}");
    assert!(wrong(run(zeros([1, 2, 1, 1]), values(2), None, geometry(1, usize::MAX, 1, 1))));
    let huge = run(zeros([1, 2, 4, 4]), values(2), None, geometry(1, 1 << 24, 1, 1));
    assert!(matches!(huge, GpuError::OutOfMemory { .. }), "{huge}");
    let half = cube(tensor(&[0.0; 18], [2, 3, 3], &device).cast(DType::F16));
    assert!(matches!(run(zeros([1, 2, 4, 4]), half, None, good), GpuError::Dtype { .. }));
    for to in [[2, 2, 4, 4], [1, 3, 4, 4], [1, 2, 5, 4], [1, 2, 4, 3]] {
        let input = sparse_conv2d_grad_input(zeros(to), values(2), &pattern, &good, [1, 2, 4, 4]);
        assert!(shape(input.unwrap_err()));
        let values = sparse_conv2d_grad_values(zeros([1, 2, 4, 4]), zeros(to), &pattern, &good, [3, 3]);
        assert!(shape(values.unwrap_err()));
    }
}
