//! Training after the fit: of the late layers on stored outputs of the early ones, or of all layers.

use std::path::PathBuf;

use burn::module::{Module, ParamGroup};
use burn_sfp::prelude::{Bars, Distillation, FineTune, FineTuneConfig, PrunePlan, SparseConfig, StoreConfig, sparsify};

use super::{Args, BATCH};
use crate::cifar::Cifar;
use crate::error::ExampleError;
use crate::model::{FRONT, Vgg11};

/// How a network is trained.
#[derive(Clone, Debug)]
pub(super) struct Training {
    images: Cifar,
    config: FineTuneConfig,
    store: StoreConfig,
    copies: usize,
    folder: PathBuf,
    /// The first convolution that learns.
    pub from: usize,
    distillation: Distillation,
    seed: u64,
}

impl Training {
    /// `None` where no epoch is asked for.
    pub fn new(args: &Args) -> Result<Option<Self>, ExampleError> {
        if args.epochs == 0.0 && args.then == 0.0 {
            return Ok(None);
        }
        if args.from > FRONT {
            let (found, expected) = (args.from.to_string(), "7 at most: the layers behind it lose connections");
            return Err(ExampleError::Setting { name: "--from", found, expected });
        }
        let images = Cifar::load_exactly(&args.data, &args.tune, args.images)?;
        let name = format!("{}, {} images, shifts and flips", args.tune.join(" "), images.len());
        let store = StoreConfig::new().copies(args.copies).batch_size(BATCH).seed(args.seed).name(name);
        let config = FineTuneConfig::new().with_epochs(args.epochs).with_learning_rate(args.learning_rate);
        let distillation = Distillation::new().weight(args.distill);
        let (copies, folder) = (args.copies, args.cache.clone());
        Ok(Some(Self { images, config, store, copies, folder, from: args.from, distillation, seed: args.seed }))
    }

    /// Trains a network whose early layers are those of the original.
    pub fn run(&self, model: Vgg11, plan: &PrunePlan, teacher: &Vgg11) -> Result<Vgg11, ExampleError> {
        // The teacher's logits are stored in any case, so that all rows train on one store.
        let kept = self.folder.join(format!("late-{}-{}-{}.store", self.from, self.images.len(), self.copies));
        let store = self.store.clone();
        let store = if self.from > 0 { store.file(kept) } else { store.spill(&self.folder) };
        self.run_on(store, model, plan, teacher)
    }

    /// Trains any network: the layers from one convolution on, for some epochs.
    pub fn run_alone(
        &self,
        model: Vgg11,
        plan: &PrunePlan,
        teacher: &Vgg11,
        from: usize,
        epochs: f64,
    ) -> Result<Vgg11, ExampleError> {
        let other = Self { config: self.config.clone().with_epochs(epochs), from, ..self.clone() };
        // What its early layers return is of no use to another network.
        other.run_on(self.store.clone().spill(&self.folder), model, plan, teacher)
    }

    fn run_on(
        &self,
        store: StoreConfig,
        model: Vgg11,
        plan: &PrunePlan,
        teacher: &Vgg11,
    ) -> Result<Vgg11, ExampleError> {
        let device = model.devices().first().cloned().unwrap_or_default();
        let first = self.images.epoch(0, 0, 2, false, &device).flatten().next();
        let model = match (plan.masks.is_empty(), first) {
            (false, Some(batch)) => sparsify(&model, &batch.input, &SparseConfig::default())?.model,
            _ => model,
        };
        // Copy 0 shows the images as they are.
        let copies = |copy: usize| self.images.epoch(copy, 1, BATCH, copy > 0, &device);
        let tuned = FineTune::new(plan)
            .config(self.config.clone().with_all_layers(true))
            .store(store)
            .distill(teacher, self.distillation)
            .seed(self.seed)
            .on_epoch(|epoch| {
                println!("epoch {}: loss {:.4}, {:.2} %", epoch.epoch, epoch.loss, 100.0 * epoch.accuracy)
            })
            .run(learning_from(model, self.from), copies, self.images.len(), &Bars::default())?;
        Ok(tuned.model)
    }
}

/// The network with the convolutions before one, and their normalisations, frozen.
fn learning_from(model: Vgg11, from: usize) -> Vgg11 {
    let early: Vec<String> = (0..from).flat_map(|k| [format!("convs.{k}."), format!("norms.{k}.")]).collect();
    // A group of no path at all is that of all paths.
    if early.is_empty() { model } else { model.freeze_group(ParamGroup::from_any_predicates(early)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Vgg11Config;
    use burn::module::Param;
    use burn::tensor::{Device, Tensor};
    use burn_sfp::nn::walk::{ParamPath, ParamVisitor, visit_params};

    struct Learning(Vec<String>);

    impl ParamVisitor for Learning {
        fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D>>) {
            if param.is_require_grad() {
                self.0.push(path.join());
            }
        }
    }

    #[test]
    fn what_comes_before_is_frozen() {
        let model = Vgg11Config::new().with_width(2).init(&Device::flex().autodiff());
        for (from, learning) in [(0, 41), (7, 13), (10, 1)] {
            let mut found = Learning(Vec::new());
            visit_params(&learning_from(model.clone(), from), &mut found);
            assert_eq!(found.0.len(), learning, "{found:?}", found = found.0);
        }
    }
}
