//! What comes after: training, files, and pruning once more.

use burn::tensor::Device;
use burn_sfp_core::{Batch, NoProgress, TensorCalibration};
use burn_sfp_graph::{GraphModule, Network};
use burn_sfp_prune::{
    BlockScore, Budget, FineTuneConfig, Keep, Magnitude, MagnitudeConnections, Planner, PolicyExt, PrunePlan, Recover,
    SaveConfig, fine_tune, load_pruned, recover, save_pruned,
};

use crate::inspect::values;
use crate::net::{CLASSES, Kind, Net, Spec};
use crate::random::{check_planned, off, scores};

fn spec(seed: u64) -> Spec {
    let (basic, pre) = (vec![Kind::Projected, Kind::Basic, Kind::Basic], vec![Kind::PreActivation; 3]);
    Spec { stages: vec![(5, basic), (6, pre)], extra: Some(Kind::Gated), rectified: true, seed }
}

fn planned(net: &Net, device: &Device) -> burn_sfp_prune::PrunedModule<Net> {
    let x = net.input(2, device);
    let network = Network::capture(net, &x).unwrap();
    let policy = Magnitude::l2().or(MagnitudeConnections::l2().removing(0.5));
    let policy = policy.with_blocks(BlockScore::Given(scores(&network, 0x5a5a, 0.3)));
    Planner::new().budget(Keep::macs(0.5)).prune(net, &x, &policy).unwrap()
}

#[test]
fn masked_trained_saved_and_loaded() {
    let device = Device::flex();
    let net = Net::new(&spec(1), &device);
    let smaller = planned(&net, &device);
    assert!(!smaller.plan.blocks.is_empty() && !smaller.plan.masks.is_empty());
    let x = net.input(8, &device);
    let labels: Vec<usize> = (0..8).map(|n| n % CLASSES).collect();
    let batches = |_| std::iter::once(Ok(Batch { input: x.clone(), labels: labels.clone() }));
    let config = FineTuneConfig::new().with_epochs(3.0).with_learning_rate(0.05);
    let tuned = fine_tune(smaller.model.clone(), &smaller.plan, batches, 8, &config, &NoProgress).unwrap();
    assert!(off(tuned.run(x.clone()), smaller.model.run(x.clone())) > 1e-3, "it learned nothing");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.safetensors");
    save_pruned(&tuned, &smaller.plan, &path, &SaveConfig::new()).unwrap();
    let loaded = load_pruned(Net::new(&spec(2), &device), &path).unwrap();
    assert_eq!(values(loaded.model.run(x.clone())), values(tuned.run(x.clone())));
    assert_eq!(loaded.plan, smaller.plan);
    // The plan alone.
    let path = folder.path().join("plan.json");
    smaller.plan.save(&path).unwrap();
    let applied = PrunePlan::load(&path).unwrap().apply(&net).unwrap();
    assert_eq!(values(applied.run(x.clone())), values(smaller.model.run(x)));
}

#[test]
fn pruned_once_more() {
    let device = Device::flex();
    let net = Net::new(&spec(3), &device);
    let first = planned(&net, &device);
    let x = net.input(2, &device);
    let materialized = burn::module::Module::materialize(first.model.clone());
    let network = Network::capture(&materialized, &x).unwrap();
    let policy = Magnitude::l2().with_blocks(BlockScore::Given(scores(&network, 77, 0.3)));
    let planner = Planner::new().after(&first.plan).budget(Keep::macs(0.7));
    let second = planner.prune(&materialized, &x, &policy).unwrap();
    check_planned(&materialized, &x, &second).unwrap();
    let third = Planner::new().after(&second.plan).budget(Budget::PerLayer(0.3));
    let third = third.prune(&second.model, &x, &Magnitude::l2()).unwrap();
    assert_eq!(third.plan.earlier.len(), 2);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.burnpack");
    save_pruned(&third.model, &third.plan, &path, &SaveConfig::new()).unwrap();
    let loaded = load_pruned(Net::new(&spec(4), &device), &path).unwrap();
    assert_eq!(values(loaded.model.run(x.clone())), values(third.model.run(x)));
}

/// With blocks gone, what stays is fitted to the original as well, and is nearer to it then.
#[test]
fn recovered_behind_blocks() {
    let device = Device::flex();
    let net = Net::new(&spec(5), &device);
    let smaller = planned(&net, &device);
    assert!(!smaller.plan.blocks.is_empty());
    let x = net.input(64, &device);
    let calibration = TensorCalibration::new(x.clone(), (0..64).map(|n| n % CLASSES).collect(), 16);
    let recovered = recover(&net, &smaller.model, &smaller.plan, &calibration, &Recover::new(), &NoProgress).unwrap();
    assert!(recovered.report.corrected.iter().any(|layer| layer.path.contains("blocks")), "{:?}", recovered.report);
    let (before, after) =
        (off(smaller.model.run(x.clone()), net.run(x.clone())), off(recovered.model.run(x.clone()), net.run(x)));
    assert!(after < 0.7 * before, "{after} of {before}");
}
