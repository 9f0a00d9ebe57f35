//! Seconds and peak memory of the performance matrices of many labels: `RAYON_NUM_THREADS=8 many_classes 10000 32`.

use std::time::Instant;

use burn_sfp_ndarray::filter_performances;
use ndarray::Array3;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let numbers: Vec<usize> = std::env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    let (classes, filters) = match numbers[..] {
        [classes, filters] => (classes, filters),
        _ => (10_000, 32),
    };
    let value = |k: usize| ((k * 7919 % 104_729) as f32 / 104_729.0 - 0.4) * 2.0;
    let means = Array3::from_shape_fn((classes, filters, 1), |(c, f, _)| value(c * filters + f));
    let readout = Array3::from_shape_fn((filters, 1, classes), |(f, _, c)| value(1000 + f * classes + c));
    let started = Instant::now();
    let found = filter_performances(means.view(), readout.view(), 0.3)?;
    println!("{} filters of {classes} labels in {:.1} s", found.len(), started.elapsed().as_secs_f64());
    // Where the system tells.
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        status.lines().filter(|line| line.starts_with("VmHWM")).for_each(|line| println!("{line}"));
    }
    Ok(())
}
