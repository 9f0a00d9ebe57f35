//! Packed weights in 16 bits against those in 32.

use std::hint::black_box;

use burn_sfp_ndarray::{ConvGeometry, Epilogue, PackedConv2d, PackedLinear, Storage, packed_conv2d, packed_linear};
use ndarray::{Array2, Array4, Axis};

use crate::measure::{Kind, Pairs, Row, Unit, steady};
use crate::product::random;
use crate::subject::Session;
use crate::{Bench, Result};

/// What the rows measure.
const ABOUT: &str = "a layer with packed weights in 16 bits (bfloat16) over the same with weights in 32 bits; with one sample at most 2, where reading \
                     the weights is all that takes time";

/// The rows.
pub const ROWS: &[Bench] = &[
    Bench { name: "linear_bfloat16_b1", about: ABOUT, run: |session| linear(session, "linear_bfloat16_b1", 1) },
    Bench { name: "linear_bfloat16_b64", about: ABOUT, run: |session| linear(session, "linear_bfloat16_b64", 64) },
    Bench { name: "conv_bfloat16_b1", about: ABOUT, run: conv },
];

/// Inputs and outputs of the linear layer.
const WIDTH: usize = 4096;
/// Channels of the convolutions.
const CHANNELS: usize = 512;
/// Height and width of their maps.
const SIDE: usize = 7;
/// Convolutions in a row, so that none finds its weights in the caches.
const LAYERS: usize = 6;
/// Passes of a measurement.
const PASSES: usize = 7;

fn linear(session: &Session, name: &'static str, samples: usize) -> Result<Row> {
    let matrix =
        |rows: usize, seed| -> Array2<f32> { random((1, rows, WIDTH), -1.0, seed).index_axis_move(Axis(0), 0) };
    let input = matrix(samples, 2);
    let single = PackedLinear::new(matrix(WIDTH, 1).view());
    let half = single.clone().stored_as(Storage::BFloat16);
    let pass = |layer: &PackedLinear| {
        steady(PASSES, || {
            black_box(packed_linear(input.view(), layer, Epilogue::default(), None)?);
            Ok(())
        })
    };
    let pairs = Pairs::in_turn(session.pairs, || pass(&half), || pass(&single))?;
    let note = format!(
        "{WIDTH} x {WIDTH}, {samples} samples; floor: {:.0} MB of weights read against {:.0} MB",
        2e-6 * (WIDTH * WIDTH) as f64,
        4e-6 * (WIDTH * WIDTH) as f64
    );
    Ok(pairs.row(name, Kind::Speedup, Unit::Seconds, note))
}

fn conv(session: &Session) -> Result<Row> {
    let geometry = ConvGeometry { padding: [[1, 1]; 2], ..ConvGeometry::default() };
    let weights = random((CHANNELS, CHANNELS, 9), -1.0, 1).into_shape_with_order((CHANNELS, CHANNELS, 3, 3))?;
    let input: Array4<f32> = random((CHANNELS, SIDE, SIDE), -1.0, 2).insert_axis(Axis(0));
    let single = vec![PackedConv2d::new(weights.view(), &geometry)?; LAYERS];
    let half: Vec<_> = single.iter().map(|conv| conv.clone().stored_as(Storage::BFloat16)).collect();
    let pass = |layers: &[PackedConv2d]| {
        steady(PASSES, || {
            for conv in layers {
                black_box(packed_conv2d(input.view(), conv, Epilogue::default(), None)?);
            }
            Ok(())
        })
    };
    let pairs = Pairs::in_turn(session.pairs, || pass(&half), || pass(&single))?;
    let note = format!("{LAYERS} convolutions of 3x3, {CHANNELS} -> {CHANNELS}, one map of {SIDE}x{SIDE}");
    Ok(pairs.row("conv_bfloat16_b1", Kind::Speedup, Unit::Seconds, note))
}
