//! What is not the pruned model of the network at hand is refused with what was found, and the network stays as it is.

use std::fs;

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use burn_sfp_graph::GraphModule;
use burn_sfp_prune::{Magnitude, Planner, PruneError, PrunedModule, SaveConfig, load_pruned, save_pruned};

use crate::inspect::bytes;
use crate::net::{Net, images};
use crate::whole::pruned;

#[derive(Module, Debug)]
struct Mlp {
    a: Linear,
    b: Linear,
}

impl GraphModule for Mlp {
    type Inputs = Tensor<2>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<2>) -> Tensor<2> {
        self.b.forward(self.a.forward(x))
    }
}

fn mlp(hidden: usize) -> Mlp {
    let device = Device::flex();
    Mlp { a: LinearConfig::new(4, hidden).init(&device), b: LinearConfig::new(hidden, 2).init(&device) }
}

fn small() -> PrunedModule<Mlp> {
    Planner::new().prune(&mlp(8), &Tensor::zeros([1, 4], &Device::flex()), &Magnitude::l2()).unwrap()
}

#[test]
fn other_networks() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["mlp.safetensors", "mlp.bpk"] {
        let path = folder.path().join(name);
        small().save(&path).unwrap();
        for hidden in [4, 6, 12] {
            let error = load_pruned(mlp(hidden), &path).unwrap_err();
            assert!(matches!(error, PruneError::ModelMismatch { .. }), "{error}");
            assert!(error.to_string().contains("`a.weight`") && error.to_string().contains("[4, 8]"), "{error}");
        }
        let error = load_pruned(Net::new(1), &path).unwrap_err().to_string();
        assert!(error.contains("has no parameter `a.weight`"), "{error}");
        let path = folder.path().join(format!("net-{name}"));
        pruned(1).save(&path).unwrap();
        let error = load_pruned(mlp(8), &path).unwrap_err().to_string();
        assert!(error.contains("has no parameter `"), "{error}");
        assert!(load_pruned(Net::wide(1, 24), &path).is_err());
    }
}

/// The same parameters as [`Net`], which are not handed out for plain fields.
#[derive(Module, Debug)]
struct Closed {
    net: Net,
    more: Option<Linear>,
}

impl GraphModule for Closed {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<4>) -> Tensor<2> {
        self.net.run(x)
    }
}

#[test]
fn parameters_that_are_missing_or_too_many() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("closed.safetensors");
    let closed =
        |more: bool| Closed { net: Net::new(2), more: more.then(|| LinearConfig::new(2, 2).init(&Device::flex())) };
    Planner::new().prune(&closed(false), &images(1), &Magnitude::l2()).unwrap().save(&path).unwrap();
    assert!(load_pruned(closed(false), &path).is_ok());
    let error = load_pruned(closed(true), &path).unwrap_err().to_string();
    assert!(error.contains("no value is stored for parameter `more.weight`"), "{error}");
    Planner::new().prune(&closed(true), &images(1), &Magnitude::l2()).unwrap().save(&path).unwrap();
    let error = load_pruned(closed(false), &path).unwrap_err().to_string();
    assert!(error.contains("`more."), "{error}");
}

#[test]
fn models_that_are_not_the_plans_are_not_saved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.safetensors");
    let pruned = pruned(3);
    let error = save_pruned(&Net::new(3), &pruned.plan, &path, &SaveConfig::new()).unwrap_err().to_string();
    assert!(error.contains("from before pruning"), "{error}");
    let mut changed = pruned.plan.clone();
    changed.cuts[0].axes[0].keep[0] += 1;
    let error = save_pruned(&pruned.model, &changed, &path, &SaveConfig::new()).unwrap_err();
    assert!(matches!(error, PruneError::InvalidPlan(_)), "{error}");
    let mut large = small();
    large.model.b.bias = large.model.b.bias.map(|bias| Param::from_tensor(bias.val().ones_like() * 1e6));
    let error = large.save_with(&path, &SaveConfig::new().half()).unwrap_err().to_string();
    assert!(error.contains("`b.bias`") && error.contains("1000000") && error.contains("BFloat16"), "{error}");
    assert!(!path.exists());
}

#[test]
fn an_old_file_stays_when_a_save_fails() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mlp.safetensors");
    let small = small();
    small.save(&path).unwrap();
    let before = fs::read(&path).unwrap();
    let error = save_pruned(&mlp(8), &small.plan, &path, &SaveConfig::new()).unwrap_err();
    assert!(matches!(error, PruneError::ModelMismatch { .. }));
    assert!(fs::read(&path).unwrap() == before);
    let error = small.save(folder.path()).unwrap_err().to_string();
    assert!(error.contains("a directory"), "{error}");
}

#[test]
fn newer_versions_and_files_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mlp.safetensors");
    small().save(&path).unwrap();
    let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
    assert!(text.contains("\"version\":\"1\""));
    let newer: Vec<u8> = {
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.windows(13).position(|window| window == b"\"version\":\"1\"").unwrap();
        bytes[at + 11] = b'2';
        bytes
    };
    fs::write(&path, newer).unwrap();
    let error = load_pruned(mlp(8), &path).unwrap_err().to_string();
    assert!(error.contains("version 2, this build reads version 1"), "{error}");
    // Burn's own files of a model with the right shapes.
    for name in ["plain.safetensors", "plain.bpk"] {
        use burn::store::{BurnpackStore, ModuleSnapshot, SafetensorsStore};
        let path = folder.path().join(name);
        let model = small().model;
        if name.ends_with("bpk") {
            model.save_into(&mut BurnpackStore::from_file(&path)).unwrap();
        } else {
            model.save_into(&mut SafetensorsStore::from_file(&path)).unwrap();
        }
        let error = load_pruned(mlp(8), &path).unwrap_err().to_string();
        assert!(error.contains("is not a pruned model as this library writes it"), "{error}");
    }
    let error = load_pruned(mlp(8), folder.path().join("missing.bpk")).unwrap_err().to_string();
    assert!(error.contains("cannot be read"), "{error}");
}

#[test]
fn a_clone_of_the_fresh_model_keeps_its_statistics() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.safetensors");
    pruned(4).save(&path).unwrap();
    let fresh = Net::new(5);
    let before = bytes(&fresh);
    load_pruned(fresh.clone(), &path).unwrap();
    assert!(bytes(&fresh) == before);
}
