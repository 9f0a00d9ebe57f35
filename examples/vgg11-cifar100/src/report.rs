//! What a run writes to report.json and prints at the end.

use std::fmt;
use std::iter::Sum;

use burn_sfp::core::Seconds;
use burn_sfp::graph::latency::LatencyTable;
use burn_sfp::prune::PrunePlan;
use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use crate::options::Options;

/// Everything measured in a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Name of the policy, as in the plan.
    pub policy: String,
    /// Threshold of the Boolean matrices.
    pub threshold: f64,
    /// Seed of everything random.
    pub seed: u64,
    /// Calibration images.
    pub samples: u64,
    /// Test images.
    pub test_images: usize,
    /// Top-1 of the trained network on the test images.
    pub top1_before: f64,
    /// Top-1 right after pruning.
    pub top1_pruned: f64,
    /// Top-1 after fine-tuning, `None` without it.
    pub top1_after: Option<f64>,
    /// The whole network; its parameters are those of the normalisations too.
    #[serde(flatten)]
    pub total: Sizes,
    /// The layers that lost connections, together.
    pub pruned_layers: Sizes,
    /// Each layer of the plan.
    pub layers: Vec<LayerReport>,
    /// Forward passes of the trained and of the smaller network, measured in turn, and the memory of their parameters.
    pub latency: LatencyTable,
    /// Wall-clock seconds of each stage.
    pub seconds: StageSeconds,
    /// The command's settings.
    pub settings: Options,
}

/// Sizes before and after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sizes {
    /// Numbers in the parameters of the trained network.
    pub params_before: u64,
    /// Numbers in the parameters of the smaller one, the zeros of masked connections included.
    pub params_after: u64,
    /// Multiply-adds of one image.
    pub macs_before: u64,
    /// Multiply-adds of one image in the smaller network, those with masked zeros included.
    pub macs_after: u64,
    /// Pairs of output and input: kernels of a convolution, weights of a linear layer.
    pub connections_before: u64,
    /// Pairs left.
    pub connections_after: u64,
    /// Numbers in the weights of the layers.
    pub weights_before: u64,
    /// Numbers in the weights of the connections left.
    pub weights_after: u64,
}

impl Sum for Sizes {
    fn sum<I: Iterator<Item = Self>>(sizes: I) -> Self {
        sizes.fold(Self::default(), |a, b| Self {
            params_before: a.params_before + b.params_before,
            params_after: a.params_after + b.params_after,
            macs_before: a.macs_before + b.macs_before,
            macs_after: a.macs_after + b.macs_after,
            connections_before: a.connections_before + b.connections_before,
            connections_after: a.connections_after + b.connections_after,
            weights_before: a.weights_before + b.weights_before,
            weights_after: a.weights_after + b.weights_after,
        })
    }
}

/// A layer before and after.
#[derive(Clone, Debug, Serialize)]
pub struct LayerReport {
    /// Module path.
    pub path: String,
    /// Filters of the trained network.
    pub filters_before: usize,
    /// Filters left.
    pub filters_after: usize,
    /// Its sizes.
    #[serde(flatten)]
    pub sizes: Sizes,
}

/// Wall-clock seconds of each stage of a run.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct StageSeconds {
    /// The stages of the analysis.
    #[serde(flatten)]
    pub analysis: Seconds,
    /// The plan.
    pub plan: f64,
    /// Rewriting the module.
    pub rewrite: f64,
    /// Fine-tuning.
    pub fine_tuning: f64,
    /// One plain forward pass over the calibration images, for comparison with the sweep.
    pub forward: f64,
}

/// Share that is gone, in percent.
fn gone(before: u64, after: u64) -> String {
    if before == 0 { "-".into() } else { format!("{:.1}", 100.0 - 100.0 * after as f64 / before as f64) }
}

impl Sizes {
    fn cells(&self) -> [String; 7] {
        [
            format!("{} -> {}", self.connections_before, self.connections_after),
            gone(self.connections_before, self.connections_after),
            gone(self.weights_before, self.weights_after),
            format!("{} -> {}", self.params_before, self.params_after),
            gone(self.params_before, self.params_after),
            format!("{:.1} -> {:.1}", self.macs_before as f64 / 1e6, self.macs_after as f64 / 1e6),
            gone(self.macs_before, self.macs_after),
        ]
    }
}

impl LayerReport {
    /// What a plan does to each layer.
    pub fn of_plan(plan: &PrunePlan) -> Vec<Self> {
        plan.layers
            .iter()
            .map(|layer| {
                let weight = format!("{}.weight", layer.path);
                let weight = plan.model.iter().find(|parameter| parameter.path == weight);
                let weights_before = weight.map_or(0, |weight| weight.shape.iter().product::<usize>() as u64);
                Self {
                    path: layer.path.clone(),
                    filters_before: layer.filters_before,
                    filters_after: layer.filters_after,
                    sizes: Sizes {
                        params_before: layer.parameters_before,
                        params_after: layer.parameters_after,
                        macs_before: layer.macs_before,
                        macs_after: layer.macs_after,
                        connections_before: layer.connections_before,
                        connections_after: layer.connections_after,
                        weights_before,
                        weights_after: weights_before / layer.connections_before.max(1) * layer.connections_after,
                    },
                }
            })
            .collect()
    }

    /// Sums over the whole network and over the layers that lost connections.
    pub fn sums(layers: &[Self], plan: &PrunePlan) -> (Sizes, Sizes) {
        let total: Sizes = layers.iter().map(|layer| layer.sizes).sum();
        let lost = |sizes: &Sizes| sizes.connections_after < sizes.connections_before;
        let pruned = layers.iter().map(|layer| layer.sizes).filter(lost).sum();
        (Sizes { params_before: plan.parameters_before, params_after: plan.parameters_after, ..total }, pruned)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_preset(ASCII_MARKDOWN).set_header([
            "layer",
            "filters",
            "connections",
            "gone %",
            "weights gone %",
            "parameters",
            "gone %",
            "M MACs",
            "gone %",
        ]);
        for layer in &self.layers {
            let filters = format!("{} -> {}", layer.filters_before, layer.filters_after);
            table.add_row([layer.path.clone(), filters].into_iter().chain(layer.sizes.cells()));
        }
        for (name, sizes) in [("pruned layers", self.pruned_layers), ("total", self.total)] {
            table.add_row([name.to_string(), String::new()].into_iter().chain(sizes.cells()));
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        writeln!(f, "{table}\n\n{}", self.latency)?;
        write!(
            f,
            "{}, {} calibration images, top-1 on {} test images: {:.2} % before, {:.2} % right after",
            self.policy,
            self.samples,
            self.test_images,
            100.0 * self.top1_before,
            100.0 * self.top1_pruned
        )?;
        if let Some(top1) = self.top1_after {
            write!(f, ", {:.2} % after {} epochs", 100.0 * top1, self.settings.finetune)?;
        }
        Ok(())
    }
}
