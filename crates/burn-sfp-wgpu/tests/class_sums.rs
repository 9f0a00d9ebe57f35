//! Tests of the class sums against a loop in double precision.

mod common;

use burn::tensor::{DType, TensorData};
use burn_backend::ops::{FloatTensorOps, IntTensorOps};
use burn_cubecl::CubeBackend;
use burn_sfp_wgpu::{GpuError, KernelError, class_sums};
use common::{assert_close, bits, cube, cube_device, device, download, random, rng, tensor, upload};
use rand::RngExt;

/// Returns each sum and the sum of the absolute values of its terms.
fn reference(acts: &[f32], [n, f, s]: [usize; 3], labels: &[usize], start: &[f32]) -> Vec<(f64, f64)> {
    let mut sums: Vec<(f64, f64)> = start.iter().map(|&v| (f64::from(v), f64::from(v.abs()))).collect();
    for sample in 0..n {
        for column in 0..f * s {
            let value = f64::from(acts[sample * f * s + column]);
            let (sum, size) = &mut sums[labels[sample] * f * s + column];
            *sum += value;
            *size += value.abs();
        }
    }
    sums
}

fn labels(samples: usize, classes: usize, seed: u64) -> Vec<usize> {
    let mut rng = rng(seed);
    (0..samples).map(|_| rng.random_range(0..classes)).collect()
}

#[test]
fn matches_the_plain_loop() {
    let Some(device) = device() else { return };
    for (seed, shape, classes) in [
        (0, [1, 1, 1], 1),
        (1, [30, 3, 5], 4),
        (2, [17, 4, 16], 100),
        (3, [64, 5, 7], 3),
        (4, [9, 300, 4], 2),
        (5, [0, 3, 4], 2),
        (6, [5, 0, 4], 2),
        (7, [40, 512, 16], 20), // enough columns for four per thread
    ] {
        let [n, f, s] = shape;
        let acts = random(n * f * s, seed);
        let labels = labels(n, classes, seed);
        let zeros = vec![0.0; classes * f * s];
        let run = || class_sums(upload(&acts, shape, &device), &labels, classes, None).unwrap();
        let found = download(run());
        assert_close(&found, &reference(&acts, shape, &labels, &zeros), &format!("{shape:?}"));
        assert_eq!(bits(&found), bits(&download(run())), "{shape:?} twice");

        // Running sums that nothing else refers to, and running sums that are shared.
        let start = random(classes * f * s, !seed);
        let expected = reference(&acts, shape, &labels, &start);
        let sums = upload(&start, [classes, f, s], &device);
        let found = class_sums(upload(&acts, shape, &device), &labels, classes, Some(sums)).unwrap();
        assert_close(&download(found), &expected, &format!("{shape:?} in place"));
        let sums = upload(&start, [classes, f, s], &device);
        let found = class_sums(upload(&acts, shape, &device), &labels, classes, Some(sums.clone())).unwrap();
        assert_close(&download(found), &expected, &format!("{shape:?} beside"));
        assert_eq!(download(sums), start, "{shape:?}: shared sums were overwritten");
    }
}

#[test]
fn any_strides() {
    let Some(device) = device() else { return };
    let (n, f, s) = (10, 6, 4);
    let acts = random(n * f * s, 1);
    let labels = labels(n, 3, 1);
    let start = random(3 * f * s, 2);
    let expected = reference(&acts, [n, f, s], &labels, &start);
    // [S, F, N] and [S, F, C] in memory.
    let acts = (tensor(&acts, [n, f, s], &device).swap_dims(0, 2) * 1.0).swap_dims(0, 2);
    let sums = (tensor(&start, [3, f, s], &device).swap_dims(0, 2) * 1.0).swap_dims(0, 2);
    let found = class_sums(cube(acts), &labels, 3, Some(cube(sums))).unwrap();
    assert_close(&download(found), &expected, "strides");
}

#[test]
fn half_precision_is_summed_in_single() {
    let Some(device) = device() else { return };
    let (n, f, s) = (40, 3, 8);
    let labels = labels(n, 3, 1);
    let values = random(n * f * s, 5);
    let data = TensorData::new(values, [n, f, s]);
    for dtype in [DType::F16, DType::BF16] {
        // Converted on the host, since the device may not support the type.
        let half = data.clone().convert_dtype(dtype);
        let values = half.clone().convert::<f32>().try_to_vec::<f32>().unwrap();
        let acts = CubeBackend::float_from_data(half, &cube_device(&device));
        match class_sums(acts, &labels, 3, None) {
            Err(GpuError::Dtype { found, .. }) => println!("skipped: this device does not read {found:?}"),
            sums => {
                let expected = reference(&values, [n, f, s], &labels, &vec![0.0; 3 * f * s]);
                assert_close(&download(sums.unwrap()), &expected, &format!("{dtype:?}"));
            }
        }
    }
}

#[test]
fn non_finite_activations_are_kept() {
    let Some(device) = device() else { return };
    let acts = [1.0, f32::INFINITY, 2.0, 1.0, 3.0, f32::NAN];
    let sums = download(class_sums(upload(&acts, [2, 1, 3], &device), &[0, 0], 2, None).unwrap());
    assert_eq!((sums[0], sums[1]), (2.0, f32::INFINITY));
    assert!(sums[2].is_nan());
    assert_eq!(sums[3..], [0.0; 3]);
}

#[test]
fn errors() {
    let Some(device) = device() else { return };
    let acts = || upload(&[1.0; 24], [3, 2, 4], &device);
    let label = class_sums(acts(), &[0, 2, 7], 2, None).unwrap_err();
    assert_eq!(label, KernelError::Label { index: 1, label: 2, classes: 2 }.into());
    assert!(matches!(
        class_sums(acts(), &[0, 1], 2, None),
        Err(GpuError::Argument(KernelError::Shape { expected: 3, found: 2, .. }))
    ));
    for wrong in [[1, 2, 4], [2, 3, 4], [2, 2, 5]] {
        let sums = upload(&vec![0.0; wrong.iter().product()], wrong, &device);
        assert!(matches!(
            class_sums(acts(), &[0, 1, 1], 2, Some(sums)),
            Err(GpuError::Argument(KernelError::Shape { .. }))
        ));
    }
    let flat = upload(&[1.0; 24], [24], &device);
    assert!(matches!(
        class_sums(flat, &[0], 2, None),
        Err(GpuError::Argument(KernelError::Shape { expected: 3, found: 1, .. }))
    ));
    let int = CubeBackend::int_from_data(TensorData::zeros::<i32, _>([3, 2, 4]), &cube_device(&device));
    assert!(matches!(class_sums(int, &[0, 1, 1], 2, None), Err(GpuError::Dtype { .. })));
    assert!(matches!(class_sums(acts(), &[0, 0, 0], 0, None), Err(GpuError::Argument(KernelError::Label { .. }))));
}

#[test]
fn lack_of_memory_is_an_error_and_the_device_remains_usable() {
    let Some(device) = device() else { return };
    let acts = || upload(&[1.0; 1 << 14], [1, 1 << 7, 1 << 7], &device);
    let error = class_sums(acts(), &[5], 1 << 24, None).unwrap_err(); // a terabyte
    assert_eq!(error, GpuError::OutOfMemory { bytes: Some(1 << 40) });
    assert!(error.to_string().contains("smaller batches"), "{error}");
    for classes in [1 << 40, 1 << 62, usize::MAX] {
        let error = class_sums(acts(), &[5], classes, None).unwrap_err();
        assert!(matches!(error, GpuError::OutOfMemory { .. }), "{error}");
    }
    assert!(class_sums(acts(), &[0], 1, None).is_ok());
}
