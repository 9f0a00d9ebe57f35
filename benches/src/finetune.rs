//! An epoch of fine-tuning on stored outputs of the frozen layers, over one of the whole model.

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
use crate::subject::{BATCH, IMAGES, Session};

/// Name of the row.
pub const NAME: &str = "finetune_epoch_vs_plain";
/// What it measures.
pub const ABOUT: &str = "an epoch of the VGG-11's convolutions 8 to 10 and classifier without the shares of kernels that AFCC removes at \
                         0.45, in sparse formats on stored outputs of the layers before, over the same epoch of the whole dense model; \
                         at most 0.125";

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
    let epoch = |model: &Vgg11, store: Option<StoreConfig>| {
        // The first epoch bears what is done once.
        let ends = RefCell::new(Vec::new());
        let mut tune = FineTune::new(&made.plan)
            .config(FineTuneConfig::new().with_epochs(2.0))
            .on_epoch(|_| ends.borrow_mut().push(Instant::now()));
        if let Some(store) = store {
            tune = tune.store(store);
        }
        tune.run(model.clone(), |_| subject.calibration().batches(), IMAGES, &NoProgress)?;
        let ends = ends.into_inner();
        Ok((ends[1] - ends[0]).as_secs_f64())
    };
    let store = || Some(StoreConfig::new().batch_size(BATCH));
    let pairs = Pairs::in_turn(session.pairs, || epoch(&sparse.model, store()), || epoch(&dense, None))?;
    let note = format!("{IMAGES} images in batches of {BATCH}; wanted: at most 0.125; {}", subject.about());
    Ok(pairs.row(NAME, Kind::Cost, Unit::Seconds, note))
}
