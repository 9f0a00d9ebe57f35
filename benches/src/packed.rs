//! Convolutions with weights packed once against the gemm crate's rate, with transformed weights against those, and sparse ones against both.

use std::time::Instant;

use burn_sfp_ndarray::{
    ConvGeometry, Epilogue, KernelPattern, PackedConv2d, WinogradConv2d, WinogradTile, packed_conv2d, sparse_conv2d,
    winograd_conv2d,
};
use gemm::Parallelism;
use ndarray::{Array2, Array4, Axis};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::measure::{Kind, Pairs, Row, Unit, mean, sum};
use crate::product::{product, random};
use crate::subject::Session;
use crate::{Bench, Result};

/// The rows.
pub const ROWS: &[Bench] = &[
    Bench { name: NAME, about: ABOUT, run },
    Bench { name: WINOGRAD, about: WINOGRAD_ABOUT, run: winograd },
    Bench { name: "sparse_vs_packed_80_b1", about: SPARSE_ABOUT, run: |s| sparse(s, "sparse_vs_packed_80_b1", 80, 1) },
    Bench { name: "sparse_vs_packed_90_b1", about: SPARSE_ABOUT, run: |s| sparse(s, "sparse_vs_packed_90_b1", 90, 1) },
    Bench {
        name: "sparse_vs_packed_80_b64",
        about: SPARSE_ABOUT,
        run: |s| sparse(s, "sparse_vs_packed_80_b64", 80, 64),
    },
    Bench {
        name: "sparse_vs_packed_90_b64",
        about: SPARSE_ABOUT,
        run: |s| sparse(s, "sparse_vs_packed_90_b64", 90, 64),
    },
];
/// Its name.
const NAME: &str = "packed_conv_vs_gemm";
/// What it measures.
const ABOUT: &str = "3x3 convolutions of ResNet-18 with weights packed once, one sample, against as many \
                     multiply-adds at the gemm crate's rate for 2048 x 2048; at least 0.7 of it for each";
/// Name of the row of transformed weights.
const WINOGRAD: &str = "winograd_vs_packed";
/// What it measures.
const WINOGRAD_ABOUT: &str = "3x3 convolutions of ResNet-18, one sample, with weights packed once, over the same with transformed weights by the faster of two sizes \
                              of tiles; above 1 for most";
/// What the rows of sparse convolutions measure.
const SPARSE_ABOUT: &str = "3x3 convolution 512 -> 512 on maps of 4x4 with that share of its kernels gone, by the sparse kernel, over the fastest dense one: \
                            packed or transformed weights; above 1";
/// Channels and side of the maps.
const LAYERS: [(usize, usize); 4] = [(64, 56), (128, 28), (256, 14), (512, 7)];
/// Rows and columns of the product.
const SIDE: usize = 2048;
/// What follows the products.
const EPILOGUE: Epilogue<'_> = Epilogue { scale: None, shift: None, relu: true, most: None };
/// Runs of all layers to a measurement.
const RUNS: usize = 10;

struct Layer {
    conv: PackedConv2d,
    transformed: [WinogradConv2d; 2],
    input: Array4<f32>,
}

impl Layer {
    fn new(channels: usize, side: usize) -> Result<Self> {
        let weights = random((channels, channels, 9), -1.0, 1).into_shape_with_order((channels, channels, 3, 3))?;
        Self::with(weights, random((channels, side, side), -1.0, 2).insert_axis(Axis(0)))
    }

    fn with(weights: Array4<f32>, input: Array4<f32>) -> Result<Self> {
        let geometry = geometry();
        let transform = |tile| WinogradConv2d::new(weights.view(), &geometry, tile);
        let transformed = [transform(WinogradTile::Two)?, transform(WinogradTile::Four)?];
        Ok(Self { conv: PackedConv2d::new(weights.view(), &geometry)?, transformed, input })
    }

    /// Multiply-adds of a run, those with padding included.
    fn macs(&self) -> f64 {
        (self.input.len() * self.conv.outputs() * 9) as f64
    }

    /// Seconds of a run.
    fn seconds(&self) -> Result<f64> {
        timed(|| Ok(packed_conv2d(self.input.view(), &self.conv, EPILOGUE, None)?))
    }

    /// Seconds of a run with transformed weights, by each size of tiles.
    fn transformed_seconds(&self) -> Result<[f64; 2]> {
        let [two, four] = &self.transformed;
        let run = |conv: &WinogradConv2d| timed(|| Ok(winograd_conv2d(self.input.view(), conv, EPILOGUE, None)?));
        Ok([run(two)?, run(four)?])
    }
}

fn timed(pass: impl FnMut() -> Result<Array4<f32>>) -> Result<f64> {
    mean(RUNS, pass)
}

fn geometry() -> ConvGeometry {
    ConvGeometry { padding: [[1, 1], [1, 1]], ..ConvGeometry::default() }
}

fn sparse(session: &Session, name: &'static str, gone: usize, samples: usize) -> Result<Row> {
    const WIDTH: usize = 512;
    let mut rng = ChaCha8Rng::seed_from_u64(gone as u64);
    let pattern = KernelPattern::from_fn(WIDTH, WIDTH, |_, _| rng.random_range(0..100) >= gone);
    let values = random((pattern.kept(), 3, 3), -1.0, 3);
    // The kernels are what counts for the time, their values are not.
    let weights = random((WIDTH, WIDTH, 9), -1.0, 1).into_shape_with_order((WIDTH, WIDTH, 3, 3))?;
    let input = random((samples * WIDTH, 4, 4), -1.0, 2).into_shape_with_order((samples, WIDTH, 4, 4))?;
    let dense = Layer::with(weights, input)?;
    let (x, geometry) = (dense.input.view(), geometry());
    let pairs = Pairs::in_turn(
        session.pairs,
        || timed(|| Ok(sparse_conv2d(x, values.view(), &pattern, &geometry, EPILOGUE)?)),
        || Ok(dense.transformed_seconds()?.into_iter().fold(dense.seconds()?, f64::min)),
    )?;
    Ok(pairs.row(name, Kind::Speedup, Unit::Seconds, "wanted: above 1".into()))
}

fn layers() -> Result<Vec<Layer>> {
    LAYERS.iter().map(|&(channels, side)| Layer::new(channels, side)).collect()
}

fn winograd(session: &Session) -> Result<Row> {
    let layers = layers()?;
    let mut packed = [f64::INFINITY; LAYERS.len()];
    let mut best = [[f64::INFINITY; 2]; LAYERS.len()];
    let pairs = Pairs::in_turn(
        session.pairs,
        || {
            let mut all = 0.0;
            for (layer, best) in layers.iter().zip(&mut best) {
                let seconds = layer.transformed_seconds()?;
                *best = [0, 1].map(|size| best[size].min(seconds[size]));
                all += seconds[0].min(seconds[1]);
            }
            Ok(all)
        },
        || sum(layers.iter().map(Layer::seconds), &mut packed),
    )?;
    let each: Vec<String> = (LAYERS.iter().zip(packed).zip(best))
        .map(|(((channels, side), packed), [two, four])| {
            format!(
                "{channels} channels of {side}x{side}: {:.2} by tiles of 2x2, {:.2} by 4x4",
                packed / two,
                packed / four
            )
        })
        .collect();
    Ok(pairs.row(WINOGRAD, Kind::Speedup, Unit::Seconds, format!("best of the pairs: {}", each.join(", "))))
}

fn run(session: &Session) -> Result<Row> {
    let layers = layers()?;
    let macs: f64 = layers.iter().map(Layer::macs).sum();
    let (left, right) = (random((1, SIDE, SIDE), -1.0, 3), random((1, SIDE, SIDE), -1.0, 4));
    let mut to = Array2::zeros((SIDE, SIDE));
    let mut best = [f64::INFINITY; LAYERS.len()];
    let pairs = Pairs::in_turn(
        session.pairs,
        || sum(layers.iter().map(Layer::seconds), &mut best),
        || {
            let started = Instant::now();
            product(to.view_mut(), left.index_axis(Axis(0), 0), right.index_axis(Axis(0), 0), Parallelism::Rayon(0));
            // The time that the layers' multiply-adds would take at this rate.
            Ok(started.elapsed().as_secs_f64() * macs / (SIDE as f64).powi(3))
        },
    )?;
    let row = pairs.row(NAME, Kind::Speedup, Unit::Seconds, String::new());
    let rates: Vec<_> = (LAYERS.iter().zip(&layers).zip(best))
        .map(|(((channels, side), layer), best)| {
            format!("{channels} channels of {side}x{side}: {:.0} G a second", 1e-9 * layer.macs() / best)
        })
        .collect();
    let note = format!(
        "multiply-adds, best of the pairs: {}; the product: {:.0} G; wanted: at least 0.7 for each",
        rates.join(", "),
        1e-9 * macs / row.against_s
    );
    Ok(Row { note, ..row })
}
