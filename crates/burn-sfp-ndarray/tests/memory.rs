//! The memory of threads does not grow with the square of the number of classes.
#![cfg(target_os = "linux")]

use burn_sfp_ndarray::filter_performances;
use ndarray::Array3;

/// Most memory that the process ever had, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

/// Eight whole matrices of 6,000 classes would take 1.2 GB.
#[test]
fn eight_threads_of_many_classes() {
    let (classes, filters) = (6_000, 16);
    let value = |k: usize| ((k * 7919 % 104_729) as f32 / 104_729.0 - 0.4) * 2.0;
    let means = Array3::from_shape_fn((classes, filters, 1), |(c, f, _)| value(c * filters + f));
    let readout = Array3::from_shape_fn((filters, 1, classes), |(f, _, c)| value(1000 + f * classes + c));
    let before = peak();
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| filter_performances(means.view(), readout.view(), 0.3).unwrap())
    };
    let eight = run(8);
    let grown = peak() - before;
    assert!(grown < 300 << 20, "{} MB", grown >> 20);
    assert!(eight == run(1));
}
