//! A small file of every type, and how it is saved and loaded.

use std::path::Path;

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};
use burn_sfp_core::{Analysis, AnalyzeConfig, NoProgress, TensorCalibration, analyze_network};
use burn_sfp_graph::latency::{LatencyConfig, LatencyTable, LayerLatencies};
use burn_sfp_graph::{GraphModule, Network};
use burn_sfp_nn::walk::{ParamMapper, ParamPath, map_params};
use burn_sfp_prune::{
    Budget, Connections, Planner, PolicyContext, PruneError, PrunePlan, PrunedModule, Ranking, RankingPolicy,
    load_pruned,
};
use burn_sfp_prune::{Magnitude, MagnitudeConnections};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[derive(Module, Debug)]
pub struct Mlp {
    pub a: Linear,
    pub b: Linear,
    pub c: Linear,
}

impl GraphModule for Mlp {
    type Inputs = Tensor<2>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<2>) -> Tensor<2> {
        self.c.forward(relu(self.b.forward(relu(self.a.forward(x)))))
    }
}

impl Mlp {
    pub fn new(seed: u64) -> Self {
        struct Fill(ChaCha8Rng);
        impl ParamMapper for Fill {
            fn float<const D: usize>(&mut self, _: ParamPath<'_>, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                param.map(|old| {
                    let count = old.shape().num_elements();
                    let values: Vec<f32> = (0..count).map(|_| self.0.random_range(-1.0..1.0)).collect();
                    Tensor::from_data(TensorData::new(values, old.dims()), &Device::flex())
                })
            }
        }
        let linear = |from, to| LinearConfig::new(from, to).init(&Device::flex());
        let mlp = Self { a: linear(3, 4), b: linear(4, 3), c: linear(3, 2) };
        map_params(mlp, &mut Fill(ChaCha8Rng::seed_from_u64(seed)))
    }
}

/// Inputs of two classes.
pub fn inputs(samples: usize) -> Tensor<2> {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let values: Vec<f32> = (0..3 * samples).map(|k| (k / 3 % 2) as f32 + rng.random_range(-0.5..0.5)).collect();
    Tensor::from_data(TensorData::new(values, [samples, 3]), &Device::flex())
}

pub fn analysed(mlp: &Mlp) -> (Network, Analysis) {
    let data = TensorCalibration::new(inputs(12), (0..12).map(|k| k % 2).collect(), 4);
    analyze_network(mlp, &data, &AnalyzeConfig::new().with_state(true), &NoProgress).unwrap()
}

pub fn analysis(seed: u64) -> Analysis {
    analysed(&Mlp::new(seed)).1
}

/// Cuts filters and masks connections between those that stay.
pub struct Both;

impl RankingPolicy for Both {
    fn name(&self) -> String {
        "both".into()
    }
    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        let mut ranking = Magnitude::l2().rank(context)?;
        ranking.connections.insert("b".into(), Connections::from_fn(3, 4, |output, input| (output + input) % 3 > 0));
        Ok(ranking)
    }
}

/// A plan with cuts, masks and bias corrections.
pub fn plan(seed: u64) -> PrunePlan {
    let (network, analysis) = analysed(&Mlp::new(seed));
    let plan = Planner::new().budget(Budget::PerLayer(0.3)).plan(&network, &analysis, &Both).unwrap();
    assert!(!plan.cuts.is_empty() && !plan.masks.is_empty() && !plan.bias_corrections.is_empty());
    plan
}

/// A plan with masks alone.
pub fn masks(seed: u64) -> PrunePlan {
    let (network, analysis) = analysed(&Mlp::new(seed));
    let planner = Planner::new().keep_empty(true);
    planner.plan(&network, &analysis, &MagnitudeConnections::l1().removing(0.5)).unwrap()
}

pub fn table() -> LatencyTable {
    let (before, after) = (Mlp::new(1), Mlp::new(2));
    let models = [("before", &before), ("after", &after)];
    LatencyTable::measure(&models, &[inputs(1), inputs(4)], &LatencyConfig::new().with_runs(3)).unwrap()
}

pub fn layers() -> LayerLatencies {
    LayerLatencies::measure(&Mlp::new(1), &inputs(4), &LatencyConfig::new().with_runs(1)).unwrap()
}

/// A type of file.
pub struct Kind {
    pub name: &'static str,
    /// Saves one of two values.
    pub save: fn(&Path, u64) -> Result<(), String>,
    /// Loads a file and saves it again at the second path.
    pub reload: fn(&Path, &Path) -> Result<(), String>,
}

fn text<T, E: ToString>(result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

/// A pruned model with masks; the ending of the path decides the container.
fn pruned(seed: u64) -> PrunedModule<Mlp> {
    Planner::new().budget(Budget::PerLayer(0.3)).prune(&Mlp::new(seed), &inputs(2), &Both).unwrap()
}

pub const KINDS: [Kind; 8] = [
    Kind {
        name: "analysis.json",
        save: |path, seed| text(analysis(seed).save(path)),
        reload: |from, to| text(Analysis::load(from)).and_then(|found| text(found.save(to))),
    },
    Kind {
        name: "analysis.safetensors",
        save: |path, seed| text(analysis(seed).save_with_state(path)),
        reload: |from, to| text(Analysis::load(from)).and_then(|found| text(found.save_with_state(to))),
    },
    Kind {
        name: "plan.json",
        save: |path, seed| text(plan(seed).save(path)),
        reload: |from, to| text(PrunePlan::load(from)).and_then(|found| text(found.save(to))),
    },
    Kind {
        name: "masks.json",
        save: |path, seed| text(masks(seed).save(path)),
        reload: |from, to| text(PrunePlan::load(from)).and_then(|found| text(found.save(to))),
    },
    Kind {
        name: "latency.json",
        save: |path, _| text(table().save(path)),
        reload: |from, to| text(LatencyTable::load(from)).and_then(|found| text(found.save(to))),
    },
    Kind {
        name: "layers.json",
        save: |path, _| text(layers().save(path)),
        reload: |from, to| text(LayerLatencies::load(from)).and_then(|found| text(found.save(to))),
    },
    Kind {
        name: "pruned.safetensors",
        save: |path, seed| text(pruned(seed).save(path)),
        reload: |from, to| text(load_pruned(Mlp::new(7), from)).and_then(|found| text(found.save(to))),
    },
    Kind {
        name: "pruned.bpk",
        save: |path, seed| text(pruned(seed).save(path)),
        reload: |from, to| {
            let packed = to.with_extension("bpk");
            text(load_pruned(Mlp::new(7), from)).and_then(|found| text(found.save(&packed)))?;
            text(std::fs::rename(packed, to))
        },
    },
];
