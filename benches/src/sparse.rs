//! Convolutions whose kernels are gone in part, against Burn's dense ones.

use std::sync::Arc;
use std::time::Instant;

use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::{Device, Distribution, Tensor};
use burn_sfp::graph::latency::fetch;
use burn_sfp::nn::SparseConv2d;
use burn_sfp::nn::sparse::{KernelPattern, WeightFormat};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use support::DeviceName;

use crate::measure::{Kind, Pairs, Row, Unit};
use crate::subject::Session;
use crate::{Bench, Result};

/// Filters and channels.
pub const WIDTH: usize = 512;
/// What the rows measure.
const ABOUT: &str = "3x3 convolution 512 -> 512, padding 1, with that share of its kernels gone, against the faster of Burn's \
                     dense ones on flex and ndarray; faster from 75 % on, 4 times at 90 %";
/// The same on the GPU.
const ABOUT_WGPU: &str = "the same on the default wgpu device, against Burn's dense one there; faster from 90 % on";

macro_rules! rows {
    ($($gone:literal $side:literal $batch:literal),* $(,)?) => {
        /// All rows on the CPU.
        pub const ROWS: &[Bench] = &[$(Bench {
            name: concat!("sparse_conv_", $gone, "_", $side, "x", $side, "_b", $batch),
            about: ABOUT,
            run: |session| cpu(session, concat!("sparse_conv_", $gone, "_", $side, "x", $side, "_b", $batch), &Case {
                gone: $gone, side: $side, batch: $batch,
            }),
        }),*];
        /// All rows on the GPU.
        pub const ROWS_WGPU: &[Bench] = &[$(Bench {
            name: concat!("sparse_conv_", $gone, "_", $side, "x", $side, "_b", $batch, "_wgpu"),
            about: ABOUT_WGPU,
            run: |session| wgpu(session, concat!("sparse_conv_", $gone, "_", $side, "x", $side, "_b", $batch, "_wgpu"), &Case {
                gone: $gone, side: $side, batch: $batch,
            }),
        }),*];
    };
}
rows!(
    50 4 1, 75 4 1, 90 4 1, 95 4 1, 50 8 1, 75 8 1, 90 8 1, 95 8 1,
    50 4 64, 75 4 64, 90 4 64, 95 4 64, 50 8 64, 75 8 64, 90 8 64, 95 8 64,
);

/// A sparse convolution to measure.
pub struct Case {
    /// Kernels that are gone, percent.
    pub gone: usize,
    /// Height and width of the maps.
    pub side: usize,
    /// Samples.
    pub batch: usize,
}

impl Case {
    fn dense(&self, device: &Device) -> Conv2d {
        Conv2dConfig::new([WIDTH, WIDTH], [3, 3]).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1)).init(device)
    }

    /// Kernels that stay are drawn one by one: no structure that could be made use of.
    ///
    /// # Errors
    /// As [`SparseConv2d::with_format`].
    pub fn sparse(&self, device: &Device) -> Result<SparseConv2d> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.gone as u64);
        let pattern = KernelPattern::from_fn(WIDTH, WIDTH, |_, _| rng.random_range(0..100) >= self.gone);
        Ok(SparseConv2d::from(self.dense(device)).with_format(Some(WeightFormat::Kernels(Arc::new(pattern))))?)
    }

    fn input(&self, device: &Device) -> Tensor<4> {
        Tensor::random([self.batch, WIDTH, self.side, self.side], Distribution::Uniform(-1.0, 1.0), device)
    }

    /// Multiply-adds of the dense convolution.
    pub fn macs(&self) -> f64 {
        (self.batch * self.side * self.side * WIDTH * WIDTH * 9) as f64
    }

    /// Products that are not with padding, over all.
    fn inside(&self) -> f64 {
        ((3 * self.side - 2) as f64 / (3 * self.side) as f64).powi(2)
    }

    /// Runs to a measurement, so that it lasts some milliseconds.
    fn runs(&self) -> usize {
        if self.batch == 1 { 20 } else { 2 }
    }

    /// Seconds of a run, the whole output read each time.
    fn seconds(&self, forward: impl Fn(Tensor<4>) -> Tensor<4>, x: &Tensor<4>) -> Result<f64> {
        let started = Instant::now();
        for _ in 0..self.runs() {
            fetch(&forward(x.clone()).try_into_data()?);
        }
        Ok(started.elapsed().as_secs_f64() / self.runs() as f64)
    }
}

fn cpu(session: &Session, name: &'static str, case: &Case) -> Result<Row> {
    let (flex, ndarray) = (DeviceName::Flex.device()?, DeviceName::Ndarray.device()?);
    let mut best = [f64::INFINITY; 2];
    for (device, best) in [&flex, &ndarray].into_iter().zip(&mut best) {
        let (dense, x) = (case.dense(device), case.input(device));
        for _ in 0..3 {
            *best = best.min(case.seconds(|x| dense.forward(x), &x)?);
        }
    }
    let (faster, its_name) = if best[0] <= best[1] { (&flex, "flex") } else { (&ndarray, "ndarray") };
    let (sparse, x) = (case.sparse(&flex)?, case.input(&flex));
    let (dense, dense_x) = (case.dense(faster), case.input(faster));
    let pairs = Pairs::in_turn(
        session.pairs,
        || case.seconds(|x| sparse.forward(x), &x),
        || case.seconds(|x| dense.forward(x), &dense_x),
    )?;
    let about = format!(
        "flex against dense on {its_name} (beforehand flex {:.3} ms, ndarray {:.3} ms)",
        1e3 * best[0],
        1e3 * best[1]
    );
    row(&pairs, name, case, &about)
}

fn wgpu(session: &Session, name: &'static str, case: &Case) -> Result<Row> {
    let device = DeviceName::Wgpu.device()?;
    let (sparse, dense, x) = (case.sparse(&device)?, case.dense(&device), case.input(&device));
    let pairs = Pairs::in_turn(
        session.pairs,
        || case.seconds(|x| sparse.forward(x), &x),
        || case.seconds(|x| dense.forward(x), &x),
    )?;
    row(&pairs, name, case, "the default wgpu device, both")
}

fn row(pairs: &Pairs, name: &'static str, case: &Case, about: &str) -> Result<Row> {
    let left = case.macs() * (100 - case.gone) as f64 / 100.0;
    let wanted = match case.gone {
        90 => "at least 4 (above 1 on wgpu)",
        75 | 95 => "above 1 (on wgpu from 90 % on)",
        _ => "nothing",
    };
    let row = pairs.row(name, Kind::Speedup, Unit::Seconds, String::new());
    let note = format!(
        "{about}; wanted: {wanted}; floor: {:.3} G of {:.3} G multiply-adds, {:.0} % of them not with padding; {:.0} G a second against \
         {:.0} G",
        1e-9 * left,
        1e-9 * case.macs(),
        100.0 * case.inside(),
        1e-9 * left / row.ours_s,
        1e-9 * case.macs() / row.against_s
    );
    Ok(Row { note, ..row })
}
