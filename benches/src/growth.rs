//! Pruning of deep networks: its cost must grow with the number of layers, no faster.

use std::time::Instant;

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use burn_sfp::prelude::{GraphModule, SfpModule, Shrink};
use models::blocks::{ConvNorm, global_mean};

use crate::Result;
use crate::measure::{Kind, Pairs, Row, Unit, median};
use crate::pruning::{Parts, milliseconds, prune};
use crate::subject::Session;

/// Name of the row of chains.
pub const CHAIN: &str = "prune_growth_chain";
/// Name of the row of residual towers.
pub const RESIDUAL: &str = "prune_growth_residual";
/// What it measures.
pub const ABOUT_CHAIN: &str =
    "pruning of a chain of 1,000 convolutions over that of one of 100, both a layer; at most 1.5";
/// What it measures.
pub const ABOUT_RESIDUAL: &str = "the same of residual towers, which tie half of their layers together; at most 1.5";

const DEEP: usize = 1_000;
const FLAT: usize = 100;
const SHORT: usize = 10;
const CHANNELS: usize = 16;

/// Measures chains.
///
/// # Errors
/// As pruning.
pub fn chain(session: &Session) -> Result<Row> {
    measure(session, CHAIN, false, "chains")
}

/// Measures residual towers.
///
/// # Errors
/// As pruning.
pub fn residual(session: &Session) -> Result<Row> {
    measure(session, RESIDUAL, true, "residual towers, two layers a block,")
}

fn measure(session: &Session, row: &'static str, residual: bool, name: &str) -> Result<Row> {
    let image = Tensor::zeros([1, 3, 8, 8], &Device::flex());
    let [deep, flat, short] = [DEEP, FLAT, SHORT].map(|layers| Tower::new(layers, residual));
    let (mut of_deep, mut of_flat, mut of_short) = (Vec::new(), Vec::new(), Vec::new());
    let mut recording = Vec::new();
    let ours = || {
        recording.push(record(&deep, &image)?);
        of_deep.push(prune(&deep, &image)?);
        of_short.push(prune(&short, &image)?);
        Ok(last(&of_deep) / DEEP as f64)
    };
    let against = || {
        // As often as fills the time of the deep one.
        for _ in 0..DEEP / FLAT {
            of_flat.push(prune(&flat, &image)?);
        }
        Ok(of_flat[of_flat.len() - DEEP / FLAT..].iter().map(|parts| parts.all).sum::<f64>() / DEEP as f64)
    };
    let pairs = Pairs::in_turn(session.pairs, ours, against)?;
    let each = |parts: &[Parts], layers: usize, of: fn(&Parts) -> f64| 1e3 * milliseconds(parts, of) / layers as f64;
    let line = |parts: &[Parts], layers| {
        format!(
            "{:.0}, {:.0}, {:.0} and {:.0}",
            each(parts, layers, |parts| parts.capture),
            each(parts, layers, |parts| parts.plan),
            each(parts, layers, |parts| parts.rewrite),
            each(parts, layers, |parts| parts.verified)
        )
    };
    let note = format!(
        "seconds a layer: {name} of {DEEP} convolutions (3x3, {CHANNELS} channels, batch normalisation, ReLU) over those of \
         {FLAT}; microseconds a layer of capture, plan, rewriting, and all with verification: {} with {DEEP} layers, {} \
         with {FLAT}, {} with {SHORT}; Burn alone records {DEEP} layers in {:.0} microseconds a layer; wanted: at most 1.5",
        line(&of_deep, DEEP),
        line(&of_flat, FLAT),
        line(&of_short, SHORT),
        1e6 * median(&recording[1..]) / DEEP as f64
    );
    Ok(pairs.row(row, Kind::Cost, Unit::Seconds, note))
}

/// Seconds of Burn's own part of a capture: copying the module to a capture device and recording the forward pass.
fn record(model: &Tower, image: &Tensor<4>) -> Result<f64> {
    let device = Device::capture();
    let started = Instant::now();
    let recorded = device.capture_scope(|scope| {
        let _logits = model.valid().to_device(&device).logits(image.clone().to_device(&device));
        scope.complete([], [])
    });
    recorded.map_err(|error| error.to_string())?;
    Ok(started.elapsed().as_secs_f64())
}

fn last(parts: &[Parts]) -> f64 {
    parts.last().map_or(f64::NAN, |parts| parts.all)
}

/// Narrow convolutions one after the other, perhaps with a way around each two of them.
#[derive(Module, Debug, Shrink)]
struct Tower {
    stem: ConvNorm,
    layers: Vec<ConvNorm>,
    classifier: Linear,
    residual: bool,
}

impl Tower {
    fn new(layers: usize, residual: bool) -> Self {
        let device = Device::flex();
        let layer = |input| ConvNorm::new([input, CHANNELS], 3, 1, 1, &device);
        Self {
            stem: layer(3),
            layers: (1..layers).map(|_| layer(CHANNELS)).collect(),
            classifier: LinearConfig::new(CHANNELS, 10).init(&device),
            residual,
        }
    }
}

impl GraphModule for Tower {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;

    fn run(&self, images: Tensor<4>) -> Tensor<2> {
        let x = relu(self.stem.forward(images));
        let x = if self.residual {
            self.layers.chunks(2).fold(x, |x, block| {
                let last = block.len() - 1;
                let through = block.iter().enumerate().fold(x.clone(), |x, (index, layer)| {
                    let x = layer.forward(x);
                    if index < last { relu(x) } else { x }
                });
                relu(x + through)
            })
        } else {
            self.layers.iter().fold(x, |x, layer| relu(layer.forward(x)))
        };
        self.classifier.forward(global_mean(x))
    }

    fn shrinkable(&mut self) -> Option<&mut dyn Shrink> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn towers_are_pruned() {
        let image = Tensor::zeros([1, 3, 8, 8], &Device::flex());
        for residual in [false, true] {
            let parts = prune(&Tower::new(4, residual), &image).unwrap();
            assert!(parts.all >= parts.capture + parts.plan + parts.rewrite && parts.verified > 0.0);
        }
    }
}
