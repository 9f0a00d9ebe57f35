//! What bounds half a ResNet-18: each of its convolutions alone on flex, whole and with half of its channels.
//!
//! `cargo run --release -p benches --example convolutions`

use std::hint::black_box;
use std::time::Instant;

use burn::nn::PaddingConfig2d;
use burn::nn::conv::Conv2dConfig;
use burn::tensor::{Device, Distribution, Tensor};

/// Runs of which the fastest counts.
const RUNS: usize = 7;

/// Channels in and out, side of the kernel, stride, by how much the map is smaller than the image, how often it occurs.
const SHAPES: [(usize, usize, usize, usize, usize, usize); 11] = [
    (3, 64, 7, 2, 1, 1),
    (64, 64, 3, 1, 4, 4),
    (64, 128, 3, 2, 4, 1),
    (64, 128, 1, 2, 4, 1),
    (128, 128, 3, 1, 8, 3),
    (128, 256, 3, 2, 8, 1),
    (128, 256, 1, 2, 8, 1),
    (256, 256, 3, 1, 16, 3),
    (256, 512, 3, 2, 16, 1),
    (256, 512, 1, 2, 16, 1),
    (512, 512, 3, 1, 32, 3),
];

fn main() {
    for (samples, side) in [(64, 112_usize), (1, 224)] {
        let mut total = [0.0; 2];
        println!("{samples} images of {side}x{side}");
        for (from, to, kernel, stride, smaller, count) in SHAPES {
            let map = side.div_ceil(smaller);
            let halved = [1, 2].map(|by| (if from == 3 { 3 } else { from / by }, to / by));
            let times = halved.map(|channels| milliseconds(samples, map, channels, kernel, stride));
            for (sum, time) in total.iter_mut().zip(times) {
                *sum += time * count as f64;
            }
            let [whole, half] = times;
            println!(
                "{from:>4} -> {to:<4} {kernel}x{kernel} on {map:<3} stride {stride}, {count} times: {whole:7.2} ms, half {half:7.2} ms, \
                 ratio {:.2}",
                whole / half
            );
        }
        println!("all: {:.1} ms, half {:.1} ms, ratio {:.2}", total[0], total[1], total[0] / total[1]);
    }
}

fn milliseconds(samples: usize, side: usize, (from, to): (usize, usize), kernel: usize, stride: usize) -> f64 {
    let device = Device::flex();
    let pad = kernel / 2;
    let conv = Conv2dConfig::new([from, to], [kernel, kernel])
        .with_stride([stride, stride])
        .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
        .with_bias(false)
        .init(&device);
    let x = Tensor::<4>::random([samples, from, side, side], Distribution::Default, &device);
    let run = |_| {
        let started = Instant::now();
        black_box(conv.forward(x.clone()).into_data());
        1e3 * started.elapsed().as_secs_f64()
    };
    (0..RUNS).map(run).fold(f64::INFINITY, f64::min)
}
