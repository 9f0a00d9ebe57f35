//! An epoch of fine-tuning on stored outputs of the frozen layers, and one on the recorded pass, over one of the whole model.

use std::cell::RefCell;
use std::time::Instant;

use burn::module::Module;
use burn_sfp::prelude::*;
use burn_sfp::prune::Connections;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use vgg11_cifar100::model::Vgg11;

use crate::Result;
use crate::measure::{Kind, Pairs, Row, Unit};
use crate::subject::{BATCH, IMAGES, Session, Subject};

/// Name of the row.
pub const NAME: &str = "finetune_epoch_vs_plain";
/// What it measures.
pub const ABOUT: &str = "an epoch of the VGG-11's convolutions 8 to 10 and classifier without the shares of kernels that AFCC removes at \
                         0.45, in sparse formats on stored outputs of the layers before, over the same epoch of the whole dense model; \
                         at most 0.125";

/// Name of the row of the recorded pass.
pub const RECORDED: &str = "recorded_epoch_vs_plain";
/// What it measures.
pub const ABOUT_RECORDED: &str = "an epoch of all layers of the VGG-11 by its recorded forward pass, whose convolutions and their gradients run on \
                                  packed kernels, against one by its own forward pass and Burn's convolutions";

/// Shares of kernels that AFCC removes at threshold 0.45.
const GONE: [(&str, f64); 4] = [("convs.7", 0.883), ("convs.8", 0.930), ("convs.9", 0.909), ("fc", 0.960)];

/// Kernels drawn one by one: no structure that could be made use of.
struct AtRandom;

impl RankingPolicy for AtRandom {
    fn name(&self) -> String {
        "random-kernels".into()
    }

    fn rank(&self, context: &PolicyContext<'_>) -> std::result::Result<Ranking, PruneError> {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let mut ranking = Ranking::default();
        for layer in context.network.layers() {
            let Some((path, gone)) = GONE.iter().find(|(path, _)| *path == layer.path) else { continue };
            let (outputs, inputs) = context.kernels(layer)?.shape();
            let keep = Connections::from_fn(outputs, inputs, |_, _| rng.random_range(0.0..1.0) >= *gone);
            ranking.connections.insert((*path).to_string(), keep);
        }
        Ok(ranking)
    }
}

/// Measures the row.
///
/// # Errors
/// As pruning and training.
pub fn run(session: &Session) -> Result<Row> {
    let subject = session.subject()?;
    let first = subject.calibration().batches().next().ok_or("there are no images")??.input;
    let made = Planner::new().keep_empty(true).prune(subject.model(), &first, &AtRandom)?;
    let dense = made.model.clone().materialize();
    let sparse = sparsify(&made.model, &first, &SparseConfig::new())?;
    let plain = || FineTune::new(&made.plan);
    let stored = || plain().store(StoreConfig::new().batch_size(BATCH));
    let pairs = Pairs::in_turn(
        session.pairs,
        || epoch(subject, &sparse.model, stored(), false),
        || epoch(subject, &dense, plain(), false),
    )?;
    let note = format!("{IMAGES} images in batches of {BATCH}; wanted: at most 0.125; {}", subject.about());
    Ok(pairs.row(NAME, Kind::Cost, Unit::Seconds, note))
}

/// Seconds of an epoch: of the second one, since the first bears what is done once.
fn epoch(subject: &Subject, model: &Vgg11, tune: FineTune<'_, Vgg11>, all_layers: bool) -> Result<f64> {
    let ends = RefCell::new(Vec::new());
    tune.config(FineTuneConfig::new().with_epochs(2.0).with_all_layers(all_layers))
        .on_epoch(|_| ends.borrow_mut().push(Instant::now()))
        .run(model.clone(), |_| subject.calibration().batches(), IMAGES, &NoProgress)?;
    let ends = ends.into_inner();
    Ok((ends[1] - ends[0]).as_secs_f64())
}

/// Measures an epoch in which all layers learn.
///
/// # Errors
/// As training.
pub fn recorded(session: &Session) -> Result<Row> {
    let subject = session.subject()?;
    let first = subject.calibration().batches().next().ok_or("there are no images")??.input;
    let nothing = Planner::new().prune(subject.model(), &first, &Nothing)?;
    let tune = || FineTune::new(&nothing.plan);
    let pairs = Pairs::in_turn(
        session.pairs,
        || epoch(subject, &nothing.model, tune().recorded(true), true),
        || epoch(subject, &nothing.model, tune(), true),
    )?;
    let note = format!("{IMAGES} images in batches of {BATCH}; {}", subject.about());
    Ok(pairs.row(RECORDED, Kind::Speedup, Unit::Seconds, note))
}

/// Removes nothing.
struct Nothing;

impl RankingPolicy for Nothing {
    fn name(&self) -> String {
        "nothing".into()
    }

    fn rank(&self, _: &PolicyContext<'_>) -> std::result::Result<Ranking, PruneError> {
        Ok(Ranking::default())
    }
}
