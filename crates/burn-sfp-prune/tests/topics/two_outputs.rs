//! Modules that return more than their logits: the analysis is of the logits, every output is kept.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{GroupNorm, GroupNormConfig, Linear};
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn_sfp_core::{AnalyzeConfig, NoProgress, SfpModule, TensorCalibration, analyze_network};
use burn_sfp_graph::{GraphModule, Network};
use burn_sfp_nn::Shrink;
use burn_sfp_prune::{Afcc, BiasCorrection, Budget, Magnitude, Planner, Pruner, RankingPolicy, SfpRanking};

use crate::support::*;

/// Returns an embedding first and the logits second; a second head reads the trunk too.
#[derive(Module, Debug, Shrink)]
struct Embedding {
    stem: Conv2d,
    norm: GroupNorm,
    trunk: Conv2d,
    embed: Linear,
    fc: Linear,
    side: Linear,
    last: Linear,
}

impl Embedding {
    fn features(&self, x: Tensor<4>) -> Tensor<2> {
        mean(relu(self.trunk.forward(relu(self.norm.forward(self.stem.forward(x))))))
    }
}

graph!(shrink Embedding: Tensor<4> => (Tensor<2>, Tensor<2>, Tensor<2>), |net, x| {
    let x = net.features(x);
    let embedding = net.embed.forward(x.clone());
    let side = net.last.forward(relu(net.side.forward(x)));
    (embedding.clone(), net.fc.forward(relu(embedding)), side)
});

impl SfpModule for Embedding {
    fn logits(&self, x: Tensor<4>) -> Tensor<2> {
        self.fc.forward(relu(self.embed.forward(self.features(x))))
    }
}

fn model() -> Embedding {
    random(Embedding {
        stem: conv(2, 8),
        norm: GroupNormConfig::new(4, 8).init(&device()),
        trunk: conv(8, 12),
        embed: linear(12, 10),
        fc: linear(10, 3),
        side: linear(12, 6),
        last: linear(6, 2),
    })
}

fn data() -> (Tensor<4>, TensorCalibration<Tensor<4>>) {
    let x = input([6, 2, 4, 4]);
    (x.clone(), TensorCalibration::new(x, vec![0, 1, 2, 0, 1, 2], 6))
}

#[test]
fn all_outputs_are_kept() {
    let (x, data) = data();
    let net = model();
    let pruner = || Pruner::new(&data).without_recovery().bias_correction(BiasCorrection::Off).ratio(0.5);
    for pruned in [
        pruner().policy(SfpRanking::new()).analyze_and_prune(&net).unwrap(),
        pruner().policy(Magnitude::l2()).analyze_and_prune(&net).unwrap(),
    ] {
        let plan = &pruned.plan;
        assert_eq!((pruned.model.norm.num_channels, pruned.model.stem.weight.dims()[0]), (4, 4));
        assert_eq!(pruned.model.trunk.weight.dims()[0], 6);
        // The second head reads the trunk, too; the embedding is an output.
        assert_eq!((pruned.model.side.weight.dims()[0], pruned.model.embed.weight.dims()), (6, [6, 10]));
        assert!(plan.unpruned.iter().any(|layer| layer.path == "embed"));
        let zeroed = plan.zeroed(&net).unwrap();
        assert!(difference(pruned.model.run(x.clone()), zeroed.run(x.clone())) < TOLERANCE);
    }
}

#[test]
fn connections_by_what_filters_recognise() {
    let (x, data) = data();
    let net = model();
    let pruned = Pruner::new(&data)
        .policy(Afcc::new())
        .without_recovery()
        .bias_correction(BiasCorrection::Off)
        .keep_empty(true)
        .analyze_and_prune(&net)
        .unwrap();
    let masked: Vec<&str> = pruned.plan.masks.iter().map(|mask| mask.layer.as_str()).collect();
    assert!(!masked.contains(&"side") && !masked.contains(&"last"), "{masked:?}");
    let zeroed = pruned.plan.zeroed(&net).unwrap();
    assert!(difference(pruned.model.run(x.clone()), zeroed.run(x)) < TOLERANCE);
}

#[test]
fn an_analysis_of_the_logits_fits_the_whole_network() {
    let (x, data) = data();
    let net = model();
    let (logits, analysis) = analyze_network(&net, &data, &AnalyzeConfig::new(), &NoProgress).unwrap();
    let whole = Network::capture(&net, &x).unwrap();
    assert!(logits.layer("last").is_none() && whole.layer("last").is_some());
    let planner = Planner::new().budget(Budget::PerLayer(0.5));
    let plan = planner.plan(&whole, &analysis, &SfpRanking::new()).unwrap();
    assert_eq!(plan.layer("trunk").unwrap().filters_after, 6);
    // `embed` is the first output and no classifier.
    let context = burn_sfp_prune::PolicyContext::new(&whole, &analysis);
    let ours = Afcc::new().layers(["embed"]).rank(&context).unwrap().connections;
    let context = burn_sfp_prune::PolicyContext::new(&logits, &analysis);
    assert_eq!(ours, Afcc::new().layers(["embed"]).rank(&context).unwrap().connections);
}
