//! Convolutions with weights packed once against the gemm crate's rate.

use std::hint::black_box;
use std::time::Instant;

use burn_sfp_ndarray::{ConvGeometry, Epilogue, PackedConv2d, packed_conv2d};
use gemm::Parallelism;
use ndarray::{Array2, Array4, Axis};

use crate::measure::{Kind, Pairs, Row, Unit};
use crate::product::{product, random};
use crate::subject::Session;
use crate::{Bench, Result};

/// The row.
pub const ROWS: &[Bench] = &[Bench { name: NAME, about: ABOUT, run }];
/// Its name.
const NAME: &str = "packed_conv_vs_gemm";
/// What it measures.
const ABOUT: &str = "3x3 convolutions of ResNet-18 with weights packed once, one sample, against as many \
                     multiply-adds at the gemm crate's rate for 2048 x 2048; at least 0.7 of it for each";
/// Channels and side of the maps.
const LAYERS: [(usize, usize); 4] = [(64, 56), (128, 28), (256, 14), (512, 7)];
/// Rows and columns of the product.
const SIDE: usize = 2048;
/// Runs of all layers to a measurement.
const RUNS: usize = 10;

struct Layer {
    conv: PackedConv2d,
    input: Array4<f32>,
}

impl Layer {
    fn new(channels: usize, side: usize) -> Result<Self> {
        let geometry = ConvGeometry { padding: [[1, 1], [1, 1]], ..ConvGeometry::default() };
        let weights = random((channels, channels, 9), -1.0, 1).into_shape_with_order((channels, channels, 3, 3))?;
        let input = random((channels, side, side), -1.0, 2).insert_axis(Axis(0));
        Ok(Self { conv: PackedConv2d::new(weights.view(), &geometry)?, input })
    }

    /// Multiply-adds of a run, those with padding included.
    fn macs(&self) -> f64 {
        (self.input.len() * self.conv.outputs() * 9) as f64
    }

    /// Seconds of a run.
    fn seconds(&self) -> Result<f64> {
        let epilogue = Epilogue { relu: true, ..Epilogue::default() };
        let started = Instant::now();
        for _ in 0..RUNS {
            black_box(packed_conv2d(self.input.view(), &self.conv, epilogue, None)?);
        }
        Ok(started.elapsed().as_secs_f64() / RUNS as f64)
    }
}

fn run(session: &Session) -> Result<Row> {
    let layers = LAYERS.iter().map(|&(channels, side)| Layer::new(channels, side)).collect::<Result<Vec<_>>>()?;
    let macs: f64 = layers.iter().map(Layer::macs).sum();
    let (left, right) = (random((1, SIDE, SIDE), -1.0, 3), random((1, SIDE, SIDE), -1.0, 4));
    let mut to = Array2::zeros((SIDE, SIDE));
    let mut best = [f64::INFINITY; LAYERS.len()];
    let pairs = Pairs::in_turn(
        session.pairs,
        || {
            let mut all = 0.0;
            for (layer, best) in layers.iter().zip(&mut best) {
                let seconds = layer.seconds()?;
                *best = best.min(seconds);
                all += seconds;
            }
            Ok(all)
        },
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
