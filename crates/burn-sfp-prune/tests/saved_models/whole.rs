//! Every form of a pruned model comes back bit for bit, from either container.

use std::path::Path;

use burn::module::Module;
use burn::store::{BurnpackStore, ModuleSnapshot, SafetensorsStore};
use burn::tensor::{DType, Device};
use burn_sfp_core::{Batch, NoProgress};
use burn_sfp_graph::GraphModule;
use burn_sfp_prune::{
    Connections, FineTuneConfig, Planner, PolicyContext, Precision, PruneError, PrunePlan, Pruned, PrunedModule,
    Pruner, Ranking, RankingPolicy, SaveConfig, SfpRanking, SparseConfig, SparseFormat, fine_tune, fold_batch_norms,
    load_pruned, save_pruned, sparsify,
};

use crate::inspect::bytes;
use crate::net::{Net, data, images, labels};

/// Removes filters everywhere and connections of `deep` and `hidden`.
pub struct Both;

impl RankingPolicy for Both {
    fn name(&self) -> String {
        "both".into()
    }
    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        let mut ranking = SfpRanking::new().rank(context)?;
        for path in ["deep", "hidden"] {
            let layer = context.network.layer(path).unwrap();
            let keep =
                Connections::from_fn(layer.filters, layer.inputs, |output, input| (output * 7 + input * 3) % 11 > 5);
            ranking.connections.insert(path.into(), keep);
        }
        Ok(ranking)
    }
}

pub fn pruned(seed: u64) -> Pruned<Net> {
    let pruned = Pruner::new(&data()).policy(Both).ratio(0.4).analyze_and_prune(&Net::new(seed)).unwrap();
    assert!(!pruned.plan.cuts.is_empty() && pruned.plan.masks.len() == 2 && pruned.plan.fields.len() >= 3);
    pruned
}

/// Saves a model in both containers and loads it into networks with other weights.
fn comes_back(model: &Net, plan: &PrunePlan, what: &str) {
    let folder = tempfile::tempdir().unwrap();
    let x = images(3);
    for name in ["net.safetensors", "net.bpk"] {
        let path = folder.path().join(name);
        save_pruned(model, plan, &path, &SaveConfig::new()).unwrap();
        let loaded = load_pruned(Net::new(99), &path).unwrap();
        assert_eq!(loaded.plan, *plan, "{what}, {name}");
        assert!(bytes(&loaded.model) == bytes(model), "{what}, {name}: other parameters");
        let (expected, found) = (model.run(x.clone()).into_data(), loaded.model.run(x.clone()).into_data());
        assert_eq!(expected, found, "{what}, {name}: other outputs");
    }
}

#[test]
fn masked_materialised_folded_and_sparse() {
    let Pruned { model, plan, .. } = pruned(1);
    comes_back(&model, &plan, "masked");
    let plain = model.clone().materialize();
    comes_back(&plain, &plan, "materialised");
    let folded = fold_batch_norms(&plain, &images(2)).unwrap();
    assert_eq!(folded.folded.len(), 1);
    assert_eq!(folded.model.norm.gamma.dims(), [0]);
    comes_back(&folded.model, &plan, "folded");
    for format in [SparseFormat::Kernels, SparseFormat::Blocks] {
        let sparse = sparsify(&folded.model, &images(2), &SparseConfig::new().with_format(format)).unwrap();
        assert!(!sparse.layers.is_empty());
        let formats = burn_sfp_nn::sparse::formats(&sparse.model).unwrap();
        assert!(!formats.is_empty(), "{format:?}");
        comes_back(&sparse.model, &plan, &format!("{format:?}"));
    }
}

fn train(model: Net, plan: &PrunePlan) -> Net {
    let batches = |_| std::iter::once(Ok(Batch { input: images(24), labels: labels(24) }));
    fine_tune(model, plan, batches, 24, &FineTuneConfig::new(), &NoProgress).unwrap()
}

#[test]
fn trained_and_pruned_again() {
    let mut first = pruned(2);
    first.model = train(first.model.materialize(), &first.plan);
    comes_back(&first.model, &first.plan, "trained");
    let calibration = data();
    let second = Pruner::new(&calibration).policy(SfpRanking::new()).ratio(0.3).after(&first.plan);
    let mut second = second.analyze_and_prune(&first.model).unwrap();
    assert!(second.plan.cuts.len() > 3 && second.plan.earlier.len() == 1);
    comes_back(&second.model, &second.plan, "pruned again");
    second.model = train(second.model, &second.plan);
    let third =
        Planner::new().after(&second.plan).prune(&second.model, &images(1), &burn_sfp_prune::Magnitude::l1()).unwrap();
    assert_eq!(third.plan.earlier.len(), 2);
    comes_back(&third.model, &third.plan, "pruned a third time");
    let other = pruned(5);
    let error =
        Planner::new().after(&other.plan).prune(&Net::wide(5, 24), &images(1), &burn_sfp_prune::Magnitude::l1());
    let error = error.unwrap_err().to_string();
    assert!(error.contains("`after` was given the plan of another model"), "{error}");
    // Without `after` the file says which network it starts from: the pruned one.
    let alone = Planner::new().prune(&second.model, &images(1), &burn_sfp_prune::Magnitude::l1()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alone.safetensors");
    alone.save(&path).unwrap();
    let error = load_pruned(Net::new(3), &path).unwrap_err().to_string();
    assert!(error.contains("say so by `after`"), "{error}");
    let loaded = load_pruned(second.model.clone(), &path).unwrap();
    assert!(bytes(&loaded.model) == bytes(&alone.model));
}

#[test]
fn half_precision_is_half_as_large() {
    let PrunedModule { model, plan, .. } =
        Planner::new().prune(&Net::wide(4, 64), &images(1), &burn_sfp_prune::Magnitude::l1()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let x = images(3);
    let expected = model.run(x.clone());
    for name in ["net.safetensors", "net.bpk"] {
        let size = |path: &Path| std::fs::metadata(path).unwrap().len() as f64;
        let full = folder.path().join(name);
        save_pruned(&model, &plan, &full, &SaveConfig::new()).unwrap();
        for precision in [Precision::Half, Precision::BFloat16] {
            let path = folder.path().join(format!("{precision:?}-{name}"));
            save_pruned(&model, &plan, &path, &SaveConfig::new().precision(precision)).unwrap();
            assert!(size(&path) < 0.6 * size(&full), "{} of {}", size(&path), size(&full));
            let loaded = load_pruned(Net::wide(5, 64), &path).unwrap().model;
            assert_eq!(loaded.deep.weight.val().dtype(), DType::F32, "the type of the fresh model");
            let bits = if precision == Precision::Half { DType::F16 } else { DType::BF16 };
            let cast = model.deep.weight.val().into_data().convert_dtype(bits).convert_dtype(DType::F32);
            assert_eq!(loaded.deep.weight.val().into_data(), cast);
            let mean = |model: &Net| model.norm.running_mean.value().into_data();
            assert_eq!(mean(&loaded), mean(&model), "statistics stay as they are");
            let difference = (loaded.run(x.clone()) - expected.clone()).abs().max().into_scalar::<f32>();
            assert!(difference > 0.0 && difference < 0.05, "{difference}");
        }
    }
}

#[test]
fn a_model_in_training_comes_back_in_training() {
    let pruned = pruned(6);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.safetensors");
    let device = Device::flex().autodiff();
    let training = pruned.model.clone().to_device(&device);
    save_pruned(&training, &pruned.plan, &path, &SaveConfig::new()).unwrap();
    let loaded = load_pruned(Net::new(7).train(), &path).unwrap().model;
    assert!(loaded.fc.weight.val().device().is_autodiff() && loaded.fc.weight.is_require_grad());
    assert!(bytes(&loaded.valid()) == bytes(&pruned.model));
}

#[test]
fn burns_stores_read_the_weights() {
    let pruned = pruned(8);
    let model = pruned.model.clone().materialize();
    let folder = tempfile::tempdir().unwrap();
    let (tensors, pack) = (folder.path().join("net.safetensors"), folder.path().join("net.bpk"));
    save_pruned(&model, &pruned.plan, &tensors, &SaveConfig::new()).unwrap();
    save_pruned(&model, &pruned.plan, &pack, &SaveConfig::new()).unwrap();
    // A plan applied to a fresh model has the shapes.
    let shaped = || pruned.plan.apply(&Net::new(9)).unwrap().materialize();
    let mut loaded = shaped();
    let result = loaded.load_from(&mut SafetensorsStore::from_file(&tensors)).unwrap();
    assert!(result.errors.is_empty() && result.missing.is_empty() && result.unused == ["burn-sfp/plan"], "{result:?}");
    assert!(bytes(&loaded) == bytes(&model));
    let mut loaded = shaped();
    loaded.load_from(&mut BurnpackStore::from_file(&pack)).unwrap();
    assert!(bytes(&loaded) == bytes(&model));
}

#[test]
fn a_plan_goes_onto_another_checkpoint() {
    let pruned = pruned(10);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.json");
    pruned.plan.save(&path).unwrap();
    let other = PrunePlan::load(&path).unwrap().apply(&Net::new(11)).unwrap();
    comes_back(&other, &pruned.plan, "another checkpoint");
    assert_ne!(other.run(images(1)).into_data(), pruned.model.run(images(1)).into_data());
}
