//! ResNet-18 with half of the channels of every layer, over the whole one.

use burn::tensor::{Device, Distribution, Tensor};
use burn_sfp::graph::latency::{LatencyConfig, LatencyTable, forward};
use burn_sfp::prelude::{Budget, Magnitude, Planner, fold_batch_norms};
use models::random::randomise;
use models::resnet::{ResNet, ResNetConfig};

use crate::Result;
use crate::measure::{Kind, Pairs, Row, Unit, seconds};
use crate::subject::Session;

/// Name of the row with single images.
pub const ONE: &str = "resnet18_half_b1";
/// Name of the row with batches.
pub const BATCH: &str = "resnet18_half_b64";
/// What it measures.
pub const ABOUT_ONE: &str = "forward pass of ResNet-18 on one 224x224 image over that with half of each layer's channels; at \
                             least 0.8 times the ratio of multiply-adds";
/// What it measures.
pub const ABOUT_BATCH: &str = "the same on 64 images of 112x112";

/// Measures single images.
///
/// # Errors
/// As pruning.
pub fn one(session: &Session) -> Result<Row> {
    measure(session, ONE, 1, 224)
}

/// Measures batches.
///
/// # Errors
/// As pruning.
pub fn batch(session: &Session) -> Result<Row> {
    measure(session, BATCH, 64, 112)
}

fn measure(session: &Session, row: &'static str, samples: usize, side: usize) -> Result<Row> {
    let whole = randomise(&ResNetConfig::resnet18().init(&Device::flex()), 0);
    let images = Tensor::random([samples, 3, side, side], Distribution::Uniform(-1.0, 1.0), &Device::flex());
    let half = Planner::new().budget(Budget::PerLayer(0.5)).prune(&whole, &images, &Magnitude::l2())?;
    let pass = |model: &ResNet| seconds(|| Ok(forward(model, &images)?));
    let pairs = Pairs::in_turn(session.pairs, || pass(&half.model), || pass(&whole))?;

    let folded = [&whole, &half.model].map(|model| fold_batch_norms(model, &images));
    let [whole_folded, half_folded] = folded;
    let (whole_folded, half_folded) = (whole_folded?.model, half_folded?.model);
    let models = [("", &whole), ("", &half.model), ("", &whole_folded), ("", &half_folded)];
    let config = LatencyConfig::new().with_warm_up(1).with_runs(session.pairs);
    let table = LatencyTable::measure(&models, std::slice::from_ref(&images), &config)?;
    let median = |k: usize| table.rows[k].latency.median;
    let macs = half.plan.macs_before as f64 / half.plan.macs_after as f64;
    let note = format!(
        "ResNet-18, random weights, {samples} images of {side}x{side}, flex: magnitude (L2), half of each layer, against the whole one; \
         {:.2} G multiply-adds an image against {:.2} G, a ratio of {macs:.2}; wanted: {:.2} (0.8 of it); all four in turn: batch \
         normalisations folded into the convolutions on both sides {:.1} ms against {:.1} ms, {:.2} times as fast; as they are {:.1} ms \
         against {:.1} ms; folded half against unfolded whole {:.2}",
        1e-9 * half.plan.macs_after as f64,
        1e-9 * half.plan.macs_before as f64,
        0.8 * macs,
        1e3 * median(3),
        1e3 * median(2),
        median(2) / median(3),
        1e3 * median(1),
        1e3 * median(0),
        median(0) / median(3)
    );
    Ok(pairs.row(row, Kind::Speedup, Unit::Seconds, note))
}
