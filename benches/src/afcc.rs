//! The whole VGG-11 without 90 % of the connections of its last four convolutions, over the dense one.

use burn::module::Module;
use burn::tensor::{Device, Distribution, Tensor};
use burn_sfp::graph::Cost;
use burn_sfp::graph::latency::forward;
use burn_sfp::prelude::*;
use burn_sfp::prune::ChosenFormat;
use vgg11_cifar100::cifar::SIDE;
use vgg11_cifar100::model::Vgg11;

use crate::Result;
use crate::measure::{Kind, Pairs, Row, Unit, seconds};
use crate::subject::Session;

/// Name of the row with single images.
pub const ONE: &str = "vgg11_afcc90_b1";
/// Name of the row with batches.
pub const BATCH: &str = "vgg11_afcc90_b64";
/// What both measure.
pub const ABOUT: &str = "forward pass of the VGG-11 over that without 90 % of the connections of its last four convolutions (AFCC); at \
                         least 0.8 times the ratio of multiply-adds";

const LAYERS: [&str; 4] = ["convs.6", "convs.7", "convs.8", "convs.9"];

/// Measures single images.
///
/// # Errors
/// As pruning.
pub fn one(session: &Session) -> Result<Row> {
    measure(session, ONE, 1)
}

/// Measures batches.
///
/// # Errors
/// As pruning.
pub fn batch(session: &Session) -> Result<Row> {
    measure(session, BATCH, 64)
}

fn measure(session: &Session, name: &'static str, samples: usize) -> Result<Row> {
    let subject = session.subject()?;
    let dense = subject.model();
    let images = Tensor::random([samples, 3, SIDE, SIDE], Distribution::Uniform(-1.0, 1.0), &Device::flex());
    let Masked { model: masked, threshold, gone } = masked(session)?;
    let sparse = sparsify(&masked, &images, &SparseConfig::new())?;
    let pass = |model: &Vgg11| seconds(|| Ok(forward(model, &images)?));
    let pairs = Pairs::in_turn(session.pairs, || pass(&sparse.model), || pass(dense))?;
    let macs = |model: &Vgg11| Ok::<f64, SfpError>(Cost::of(model, &images)?.macs as f64);
    let (before, after) = (macs(dense)?, macs(&sparse.model)?);
    let formats: Vec<String> =
        sparse.layers.iter().map(|layer| format!("{} {}", layer.path, format_name(&layer.format))).collect();
    let note = format!(
        "AFCC at threshold {threshold:.2} removes {:.1} % of the connections of the last four convolutions; {}; {:.1} M multiply-adds an \
         image against {:.1} M, a ratio of {:.2}; wanted: {:.2} (0.8 of it); {}",
        100.0 * gone,
        formats.join(", "),
        1e-6 * after,
        1e-6 * before,
        before / after,
        0.8 * before / after,
        subject.about()
    );
    Ok(pairs.row(name, Kind::Speedup, Unit::Seconds, note))
}

fn format_name(format: &ChosenFormat) -> String {
    match format {
        ChosenFormat::Kernels => "kernel by kernel".into(),
        ChosenFormat::Blocks(count) => format!("in {count} blocks"),
        ChosenFormat::Dense { .. } => "dense".into(),
        other => format!("{other:?}"),
    }
}

/// The network with most connections of its last four convolutions at zero.
pub struct Masked {
    /// The network.
    pub model: Vgg11,
    /// Threshold of the Boolean matrices.
    pub threshold: f64,
    /// Share of the connections that are gone.
    pub gone: f64,
}

/// The model by the first threshold (in steps of 0.01) at which AFCC removes 90 % of the connections of the four layers together.
///
/// # Errors
/// As pruning.
pub fn masked(session: &Session) -> Result<Masked> {
    let subject = session.subject()?;
    for step in 30..100 {
        let threshold = 0.01 * f64::from(step);
        let config = subject.without_fitting()?.clone().with_threshold(threshold);
        let (network, analysis) = subject.analyze_network(&config)?;
        let plan = Planner::new().keep_empty(true).plan(&network, &analysis, &Afcc::new().layers(LAYERS))?;
        let (before, after) =
            LAYERS.iter().filter_map(|path| plan.layer(path)).fold((0, 0), |(before, after), layer| {
                (before + layer.connections_before, after + layer.connections_after)
            });
        let gone = 1.0 - after as f64 / before.max(1) as f64;
        if gone >= 0.9 {
            return Ok(Masked { model: plan.apply(subject.model())?.valid(), threshold, gone });
        }
    }
    Err("no threshold removes 90 % of the connections".into())
}
