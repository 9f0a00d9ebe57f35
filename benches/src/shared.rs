//! Convolutions whose filters share their inputs in groups: dense blocks, against as many kernels one by one.

use std::sync::Arc;
use std::time::Instant;

use burn::nn::PaddingConfig2d;
use burn::nn::conv::Conv2dConfig;
use burn::tensor::{Device, Distribution, Tensor};
use burn_sfp::graph::latency::fetch;
use burn_sfp::nn::SparseConv2d;
use burn_sfp::nn::sparse::{Block, Blocks, KernelPattern, WeightFormat};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use support::DeviceName;

use crate::measure::{Kind, Pairs, Row, Unit};
use crate::subject::Session;
use crate::{Bench, Result};

/// Filters and channels.
const WIDTH: usize = 512;
/// Samples of a batch.
const BATCH: usize = 64;
const ABOUT: &str = "3x3 convolution 512 -> 512, padding 1, batch 64, with that share of its kernels gone: groups of filters that read the \
                     same inputs, as dense blocks, against as many kernels one by one; above 1";

macro_rules! rows {
    ($($gone:literal $side:literal $outputs:literal),* $(,)?) => {
        /// All rows.
        pub const ROWS: &[Bench] = &[$(Bench {
            name: concat!("sparse_shared_", $gone, "_", $side, "x", $side, "_by_", $outputs),
            about: ABOUT,
            run: |session| {
                let name = concat!("sparse_shared_", $gone, "_", $side, "x", $side, "_by_", $outputs);
                measure(session, name, &Case { gone: $gone, side: $side, outputs: $outputs })
            },
        }),*];
    };
}
rows!(75 4 64, 90 4 64, 75 8 64, 90 8 64, 90 4 128, 90 8 128);

struct Case {
    gone: usize,
    side: usize,
    /// Filters that share their inputs.
    outputs: usize,
}

impl Case {
    /// The inputs of each group, drawn.
    fn groups(&self) -> Vec<Vec<u32>> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.gone as u64);
        let kept = WIDTH * (100 - self.gone) / 100;
        let draw = |_| {
            let mut inputs: Vec<u32> = (0..WIDTH as u32).collect();
            inputs.shuffle(&mut rng);
            inputs.truncate(kept);
            inputs.sort_unstable();
            inputs
        };
        (0..WIDTH / self.outputs).map(draw).collect()
    }

    fn layer(&self, device: &Device, format: WeightFormat) -> Result<SparseConv2d> {
        let dense = Conv2dConfig::new([WIDTH, WIDTH], [3, 3]).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1));
        Ok(SparseConv2d::from(dense.init(device)).with_format(Some(format))?)
    }

    fn blocks(&self) -> WeightFormat {
        let block = |(group, inputs): (usize, Vec<u32>)| {
            let first = (group * self.outputs) as u32;
            let keep = vec![true; self.outputs * inputs.len()];
            Block { outputs: (first..first + self.outputs as u32).collect(), inputs, keep }
        };
        let blocks = self.groups().into_iter().enumerate().map(block).collect();
        WeightFormat::Blocks(Arc::new(Blocks { outputs: WIDTH, inputs: WIDTH, blocks }))
    }

    fn kernels(&self) -> WeightFormat {
        let groups = self.groups();
        let keeps = |output: usize, input: usize| groups[output / self.outputs].binary_search(&(input as u32)).is_ok();
        WeightFormat::Kernels(Arc::new(KernelPattern::from_fn(WIDTH, WIDTH, keeps)))
    }
}

/// Seconds of a run, the whole output read.
fn seconds(layer: &SparseConv2d, x: &Tensor<4>) -> Result<f64> {
    let started = Instant::now();
    fetch(&layer.forward(x.clone()).try_into_data()?);
    Ok(started.elapsed().as_secs_f64())
}

fn measure(session: &Session, name: &'static str, case: &Case) -> Result<Row> {
    let device = DeviceName::Flex.device()?;
    let shape = [BATCH, WIDTH, case.side, case.side];
    let x = Tensor::random(shape, Distribution::Uniform(-1.0, 1.0), &device);
    let (blocks, kernels) = (case.layer(&device, case.blocks())?, case.layer(&device, case.kernels())?);
    let pairs = Pairs::in_turn(session.pairs, || seconds(&blocks, &x), || seconds(&kernels, &x))?;
    let note = format!("{} blocks of {} filters; wanted: above 1", WIDTH / case.outputs, case.outputs);
    Ok(pairs.row(name, Kind::Speedup, Unit::Seconds, note))
}
