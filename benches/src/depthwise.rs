//! Depthwise convolutions against Burn's own, with the time that moving their bytes takes.

use std::hint::black_box;

use burn::prelude::*;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn_sfp_ndarray::{ConvGeometry, Epilogue, PackedConv2d, packed_conv2d};
use ndarray::Array4;

use crate::measure::{Kind, Pairs, Row, Unit, mean, sum};
use crate::product::random;
use crate::subject::Session;
use crate::{Bench, Result};

/// The row.
pub const ROWS: &[Bench] = &[Bench { name: NAME, about: ABOUT, run }];
/// Its name.
const NAME: &str = "depthwise_vs_burn";
/// What it measures.
const ABOUT: &str = "depthwise 3x3 convolutions of MobileNetV2, one sample, with ReLU6, by Burn's own operations (flex) over the packed kernel";
/// Channels, side of the map and stride.
const LAYERS: [(usize, usize, usize); 10] = [
    (32, 112, 1),
    (96, 112, 2),
    (144, 56, 1),
    (144, 56, 2),
    (192, 28, 1),
    (192, 28, 2),
    (384, 14, 1),
    (576, 14, 1),
    (576, 14, 2),
    (960, 7, 1),
];
/// Runs of a layer to a measurement.
const RUNS: usize = 10;

struct Layer {
    conv: PackedConv2d,
    input: Array4<f32>,
    tensors: [Tensor<4>; 2],
    stride: usize,
    /// As many numbers as input and result have together, once to read from and once to write to.
    moved: [Vec<f32>; 2],
    macs: usize,
}

impl Layer {
    fn new((channels, side, stride): (usize, usize, usize)) -> Result<Self> {
        let geometry =
            ConvGeometry { stride: [stride; 2], padding: [[1; 2]; 2], groups: channels, ..ConvGeometry::default() };
        let weights = random((channels, 1, 9), -1.0, 1).into_shape_with_order((channels, 1, 3, 3))?;
        let input = random((channels, side, side), -1.0, 2).into_shape_with_order((1, channels, side, side))?;
        let conv = PackedConv2d::new(weights.view(), &geometry)?;
        let results = channels * side.div_ceil(stride).pow(2);
        let half = (input.len() + results).div_ceil(2);
        let tensor = |array: &Array4<f32>| {
            let values: Vec<f32> = array.iter().copied().collect();
            Tensor::<4>::from_data(TensorData::new(values, array.shape().to_vec()), &Device::flex())
        };
        let tensors = [tensor(&input), tensor(&weights)];
        Ok(Self { conv, input, tensors, stride, moved: [vec![1.0; half], vec![0.0; half]], macs: 9 * results })
    }

    fn ours(&self) -> Result<Array4<f32>> {
        let epilogue = Epilogue { relu: true, most: Some(6.0), ..Epilogue::default() };
        Ok(packed_conv2d(self.input.view(), &self.conv, epilogue, None)?)
    }

    fn burns(&self) -> Tensor<4> {
        let [x, weights] = self.tensors.clone();
        let channels = self.input.dim().1;
        let options = ConvOptions::new([self.stride; 2], [1, 1], [1, 1], channels);
        conv2d(x, weights, None, options).clamp(0.0, 6.0)
    }
}

fn run(session: &Session) -> Result<Row> {
    let mut layers = LAYERS.into_iter().map(Layer::new).collect::<Result<Vec<_>>>()?;
    let mut best = [f64::INFINITY; LAYERS.len()];
    let pairs = Pairs::in_turn(
        session.pairs,
        || sum(layers.iter().map(|layer| mean(RUNS, || layer.ours())), &mut best),
        || layers.iter().map(|layer| mean(RUNS, || Ok(layer.burns()))).sum(),
    )?;
    let row = pairs.row(NAME, Kind::Speedup, Unit::Seconds, String::new());
    let mut copying = 0.0;
    for layer in &mut layers {
        let [from, to] = &mut layer.moved;
        copying += mean(RUNS, || {
            black_box(&mut *to).copy_from_slice(black_box(from));
            Ok(())
        })?;
    }
    let rate = |(((channels, side, stride), layer), best): (((usize, usize, usize), &Layer), f64)| {
        format!("{channels} of {side}x{side} by {stride}: {:.1} G", 1e-9 * layer.macs as f64 / best)
    };
    let rates: Vec<_> = LAYERS.into_iter().zip(&layers).zip(best).map(rate).collect();
    let note = format!(
        "floor: copying as many bytes as inputs and results have takes one thread {:.2} of our time; multiply-adds a second, best of the pairs: {}",
        copying / row.ours_s,
        rates.join(", ")
    );
    Ok(Row { note, ..row })
}
