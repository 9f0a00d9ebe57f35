//! Pruning of deep networks: its cost must grow with the number of layers, no faster.

use std::hint::black_box;
use std::time::Instant;

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Distribution, Tensor};
use burn_sfp::prelude::*;
use models::blocks::{ConvNorm, global_mean};

use crate::Result;
use crate::measure::{Kind, Pairs, Row, Unit, median, seconds};
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

/// Name of the row of a very deep chain.
pub const PLAN: &str = "growth_plan_20000";
/// Name of the row of AFCC in residual towers.
pub const AFCC: &str = "growth_afcc_tower";
/// What it measures.
pub const ABOUT_PLAN: &str = "capture and plan of a chain of 20,000 linear layers over ten times those of one of 2,000; at \
                              most 1.5, and at most 3 seconds";
/// What it measures.
pub const ABOUT_AFCC: &str =
    "plan by AFCC of a residual tower of 2,000 blocks over eight times that of one of 250; at most 1.5";

const VERY_DEEP: usize = 20_000;
const TENTH: usize = 2_000;
const BLOCKS: usize = 2_000;
const FEW_BLOCKS: usize = 250;
const NODES: usize = 8;

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

/// Measures capture and plan of very deep chains.
///
/// # Errors
/// As pruning.
pub fn plan(session: &Session) -> Result<Row> {
    let x = Tensor::zeros([1, NODES], &Device::flex());
    let [deep, tenth] = [VERY_DEEP, TENTH].map(|layers| Nodes::new(layers, false));
    let mut parts = Vec::new();
    let ours = || {
        let started = Instant::now();
        let network = Network::capture(&deep, &x)?;
        let captured = started.elapsed().as_secs_f64();
        black_box(Planner::new().plan(&network, None, &Magnitude::l2())?);
        let planned = started.elapsed().as_secs_f64();
        parts.push((captured, planned - captured));
        Ok(planned)
    };
    let against = || {
        let started = Instant::now();
        for _ in 0..VERY_DEEP / TENTH {
            let network = Network::capture(&tenth, &x)?;
            black_box(Planner::new().plan(&network, None, &Magnitude::l2())?);
        }
        Ok(started.elapsed().as_secs_f64())
    };
    let pairs = Pairs::in_turn(session.pairs, ours, against)?;
    let part = |of: fn(&(f64, f64)) -> f64| median(&parts[1..].iter().map(of).collect::<Vec<f64>>());
    let note = format!(
        "capture {:.2} s and plan (magnitude, L2, half of each layer) {:.2} s: a chain of {VERY_DEEP} linear layers of {NODES} nodes with \
         ReLU over ten times those of one of {TENTH}; wanted: at most 1.5, and at most 3 s",
        part(|parts| parts.0),
        part(|parts| parts.1)
    );
    Ok(pairs.row(PLAN, Kind::Cost, Unit::Seconds, note))
}

/// Measures plans by AFCC of residual towers.
///
/// # Errors
/// As the analysis and the plan.
pub fn afcc(session: &Session) -> Result<Row> {
    let [(deep, of_deep), (few, of_few)] = [analysed(BLOCKS)?, analysed(FEW_BLOCKS)?];
    let plan = |network: &Network, analysis: &Analysis| {
        black_box(Planner::new().keep_empty(true).plan(network, analysis, &Afcc::new())?);
        Ok(())
    };
    let ours = || seconds(|| plan(&deep, &of_deep));
    let against = || seconds(|| (0..BLOCKS / FEW_BLOCKS).try_for_each(|_| plan(&few, &of_few)));
    let pairs = Pairs::in_turn(session.pairs, ours, against)?;
    let note = format!(
        "seconds of a plan by AFCC, from an analysis of 4 samples: a residual tower of {BLOCKS} blocks, two linear layers of {NODES} nodes \
         each, over eight times that of one of {FEW_BLOCKS} blocks; wanted: at most 1.5"
    );
    Ok(pairs.row(AFCC, Kind::Cost, Unit::Seconds, note))
}

/// A residual tower of linear layers, captured and analysed.
fn analysed(blocks: usize) -> Result<(Network, Analysis)> {
    let x = Tensor::random([4, NODES], Distribution::Uniform(-1.0, 1.0), &Device::flex());
    let data = TensorCalibration::new(x, vec![0, 1, 2, 0], 4);
    let config = AnalyzeConfig::new().with_accuracy(false);
    Ok(analyze_network(&Nodes::new(1 + 2 * blocks, true), &data, &config, &NoProgress)?)
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

/// Narrow linear layers one after the other, perhaps with a way around each two of them but the first.
#[derive(Module, Debug)]
struct Nodes {
    layers: Vec<Linear>,
    classifier: Linear,
    residual: bool,
}

impl Nodes {
    fn new(layers: usize, residual: bool) -> Self {
        let linear = |to| LinearConfig::new(NODES, to).init(&Device::flex());
        Self { layers: (0..layers).map(|_| linear(NODES)).collect(), classifier: linear(3), residual }
    }
}

impl GraphModule for Nodes {
    type Inputs = Tensor<2>;
    type Outputs = Tensor<2>;

    fn run(&self, x: Tensor<2>) -> Tensor<2> {
        let x = match self.layers.split_first() {
            Some((stem, layers)) if self.residual => layers.chunks(2).fold(stem.forward(x), |x, block| {
                let through = block.iter().fold(x.clone(), |x, layer| layer.forward(relu(x)));
                x + through
            }),
            _ => self.layers.iter().fold(x, |x, layer| relu(layer.forward(x))),
        };
        self.classifier.forward(x)
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

    #[test]
    fn towers_of_nodes_are_planned_by_afcc() {
        let (network, analysis) = analysed(3).unwrap();
        let ranking = Afcc::new().rank(&PolicyContext::new(&network, &analysis)).unwrap();
        // All but the stem, which reads the input.
        assert_eq!((network.layers().len(), ranking.connections.len()), (8, 7));
    }
}
