//! What fine-tuning trains.

use std::collections::HashSet;

use burn_sfp_graph::{Layer, Network};

/// Collects the paths of everything that is trained with pruned layers, each once.
#[derive(Default)]
pub(super) struct Trainable {
    pub paths: Vec<String>,
    seen: HashSet<String>,
}

impl Trainable {
    fn add(&mut self, path: String) {
        if self.seen.insert(path.clone()) {
            self.paths.push(path);
        }
    }

    /// Adds the weight, the bias and the batch normalisation that follows directly.
    pub fn add_layer(&mut self, network: &Network, layer: &Layer) {
        let path = |index: usize| network.parameters()[index].path.clone();
        layer.weight_parameters().iter().for_each(|&parameter| self.add(path(parameter)));
        if let Some(bias) = layer.bias() {
            self.add(path(bias));
        }
        let norm = layer.running_mean.map(path);
        if let Some(norm) = norm.as_deref().and_then(|mean| mean.strip_suffix("running_mean")) {
            for field in ["gamma", "beta", "training"] {
                self.add(format!("{norm}{field}"));
            }
        }
    }
}
