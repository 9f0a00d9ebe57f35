//! Training of the late layers after the fit, on stored outputs of the early ones.

use burn::module::{Module, Param, ParamGroup};
use burn::tensor::Tensor;
use burn_sfp::nn::walk::{ParamPath, ParamVisitor, visit_params};
use burn_sfp::prelude::{Bars, Distillation, FineTune, FineTuneConfig, PrunePlan, SparseConfig, StoreConfig, sparsify};

use super::prepared::Prepared;
use super::{Args, LAYERS};
use crate::cifar::Cifar;
use crate::error::ExampleError;
use crate::model::Vgg11;

/// Images of a batch.
const BATCH: usize = 100;

/// How the late layers are trained.
#[derive(Clone, Debug)]
pub(super) struct Training {
    images: Cifar,
    config: FineTuneConfig,
    store: StoreConfig,
    distillation: Distillation,
    seed: u64,
}

impl Training {
    /// `None` where no epoch is asked for.
    pub fn new(args: &Args) -> Result<Option<Self>, ExampleError> {
        if args.epochs == 0.0 {
            return Ok(None);
        }
        let images = Cifar::load_exactly(&args.data, &args.tune, args.images)?;
        let name = format!("{}, {} images, shifts and flips", args.tune.join(" "), images.len());
        // The teacher's logits are stored in any case, so that all rows train on one store.
        let file = args.cache.join(format!("late-{}-{}.store", images.len(), args.copies));
        let store = StoreConfig::new().copies(args.copies).batch_size(BATCH).seed(args.seed).file(file).name(name);
        let config = FineTuneConfig::new().with_epochs(args.epochs).with_learning_rate(args.learning_rate);
        let distillation = Distillation::new().weight(args.distill);
        Ok(Some(Self { images, config, store, distillation, seed: args.seed }))
    }

    /// Trains the convolutions and the classifier that lose connections, with their normalisations, and returns the model.
    pub fn run(&self, model: Vgg11, plan: &PrunePlan, prepared: &Prepared) -> Result<Vgg11, ExampleError> {
        let device = prepared.device.clone();
        let first = self.images.epoch(0, 0, 2, false, &device).flatten().next();
        let model = match (plan.masks.is_empty(), first) {
            (false, Some(batch)) => sparsify(&model, &batch.input, &SparseConfig::default())?.model,
            _ => late_alone(model),
        };
        // Without a mask the plan names no layer to train: what is not frozen learns.
        let config = self.config.clone().with_all_layers(plan.masks.is_empty());
        // Copy 0 shows the images as they are.
        let copies = |copy: usize| self.images.epoch(copy, 1, BATCH, copy > 0, &device);
        let tuned = FineTune::new(plan)
            .config(config)
            .store(self.store.clone())
            .distill(&prepared.model, self.distillation)
            .seed(self.seed)
            .on_epoch(|epoch| {
                println!("epoch {}: loss {:.4}, {:.2} %", epoch.epoch, epoch.loss, 100.0 * epoch.accuracy)
            })
            .run(model, copies, self.images.len(), &Bars::default())?;
        Ok(tuned.model)
    }
}

/// The network with everything frozen but the layers of [`LAYERS`] and the normalisations behind them.
fn late_alone(model: Vgg11) -> Vgg11 {
    struct Late(Vec<String>);
    impl ParamVisitor for Late {
        fn float<const D: usize>(&mut self, path: ParamPath<'_>, _: &Param<Tensor<D>>) {
            let path = path.join();
            let layer = path.rsplit_once('.').map_or("", |(layer, _)| layer).replace("norms", "convs");
            if LAYERS.contains(&layer.as_str()) {
                self.0.push(path);
            }
        }
    }
    let mut late = Late(Vec::new());
    visit_params(&model, &mut late);
    model.freeze().unfreeze_group(ParamGroup::from_paths(late.0))
}
