//! Nodes and heads of transformers and mixers: analysed on any batches, whole heads ranked and removed, connections between
//! nodes by common labels.

use std::collections::{BTreeMap, BTreeSet};

use burn::tensor::{Device, Tensor, TensorData};
use burn_sfp::core::UnitKind;
use burn_sfp::graph::Network;
use burn_sfp::prelude::*;
use models::cct::CctConfig;
use models::mixer::MixerConfig;
use models::random::randomise;
use models::vit::{Vit, VitConfig};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const CLASSES: usize = 10;

/// Images with labels 0, 1, .. in turn: the pattern of the label plus noise.
fn images(samples: usize) -> (Tensor<4>, Vec<usize>) {
    const SIZE: usize = 3 * 16 * 16;
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let patterns: Vec<f32> = (0..CLASSES * SIZE).map(|_| rng.random_range(-1.0..1.0)).collect();
    let labels: Vec<usize> = (0..samples).map(|k| k % CLASSES).collect();
    let values: Vec<f32> =
        labels.iter().flat_map(|label| &patterns[label * SIZE..(label + 1) * SIZE]).copied().collect();
    let values: Vec<f32> = values.into_iter().map(|value| value + rng.random_range(-1.0..1.0)).collect();
    (Tensor::from_data(TensorData::new(values, [samples, 3, 16, 16]), &Device::flex()), labels)
}

fn analysed<M: SfpModule<Inputs = Tensor<4>>>(model: &M, batch: usize, config: &AnalyzeConfig) -> (Network, Analysis) {
    let (x, labels) = images(43);
    analyze_network(model, &TensorCalibration::new(x, labels, batch), config, &NoProgress).unwrap()
}

fn vit() -> Vit {
    randomise(&VitConfig::tiny().init(&Device::flex()), 1)
}

fn any_batches<M: SfpModule<Inputs = Tensor<4>>>(model: M, tokens: usize, hidden: &str, heads: &[&str]) {
    let model = randomise(&model, 1);
    let config = AnalyzeConfig::new();
    let (network, whole) = analysed(&model, 43, &config);
    for layer in network.layers().iter().filter(|layer| layer.path.starts_with("blocks")) {
        let shape = &layer.tap.shape;
        assert_eq!((shape.len(), layer.tap.filter_axis, shape[2]), (3, 2, layer.filters), "{}", layer.path);
        assert_eq!(layer.tap.positions, shape[1], "{}", layer.path);
    }
    assert_eq!(network.layer(hidden).unwrap().tap.through, ["Gelu"]);
    let found = whole.layers.iter().filter(|entry| entry.kind == UnitKind::Heads);
    assert_eq!(found.clone().map(|entry| entry.path.as_str()).collect::<Vec<_>>(), heads);
    for entry in found {
        assert_eq!((entry.filters, entry.positions), (3, tokens * 8));
    }
    assert_eq!(whole.input_means.len(), network.layers().len() - 1);
    // Shorter last batches, one of a single sample, and batches that Burn folds into rows where it does not fold others.
    for batch in [1, 3, 7, 8, 42] {
        let (_, parts) = analysed(&model, batch, &config);
        assert_eq!(whole.layers.len(), parts.layers.len());
        for (whole, part) in whole.layers.iter().zip(&parts.layers) {
            for (a, b) in whole.performance.iter().zip(&part.performance) {
                assert_eq!(a.clusters, b.clusters, "{}, batches of {batch}", whole.path);
                assert!((a.max - b.max).abs() < 1e-5 * a.max.abs(), "{}, batches of {batch}", whole.path);
            }
        }
        for (path, means) in &whole.input_means {
            for (a, b) in means.iter().zip(&parts.input_means[path]) {
                assert!((a - b).abs() < 1e-5, "{path}, batches of {batch}");
            }
        }
    }
}

#[test]
fn transformers_and_mixers_are_analysed_on_any_batches() {
    let device = Device::flex();
    let attentions = ["blocks.0.attention", "blocks.1.attention"];
    any_batches(VitConfig::tiny().init(&device), 17, "blocks.0.mlp.expand", &attentions);
    any_batches(CctConfig::tiny().init(&device), 16, "blocks.0.mlp.expand", &attentions);
    any_batches(MixerConfig::tiny().init(&device), 16, "blocks.1.channels.expand", &[]);
}

/// Largest difference over the largest value.
fn difference(a: Tensor<2>, b: Tensor<2>) -> f32 {
    let largest = b.clone().abs().max().into_scalar::<f32>();
    (a - b).abs().max().into_scalar::<f32>() / largest
}

/// The nodes of a head of the small variants.
fn nodes(head: usize) -> std::ops::Range<usize> {
    head * 8..(head + 1) * 8
}

/// The nodes that a plan leaves of a layer.
fn kept_nodes(plan: &PrunePlan, path: &str) -> Vec<usize> {
    let cut = plan.cuts.iter().find(|cut| cut.path == format!("{path}.weight"));
    let axis = cut.and_then(|cut| cut.axes.iter().find(|axis| axis.axis == 1));
    axis.map_or_else(|| (0..24).collect(), |axis| axis.keep.clone())
}

#[test]
fn whole_heads_go_by_what_they_recognise() {
    let model = vit();
    let (network, analysis) = analysed(&model, 20, &AnalyzeConfig::new());
    let ranking = SfpRanking::new().rank(&PolicyContext::new(&network, &analysis)).unwrap();
    for ratio in [0.34, 0.67] {
        let planner = Planner::new()
            .budget(Budget::PerLayer(ratio))
            .group_cut(GroupCut::WholeGroups)
            .bias_correction(BiasCorrection::Off);
        let plan = planner.plan(&network, &analysis, &SfpRanking::new()).unwrap();
        for block in ["blocks.0", "blocks.1"] {
            let scores = &ranking.filters[&format!("{block}.attention")];
            let mut order: Vec<usize> = (0..3).collect();
            order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
            let mut kept: Vec<usize> = order.split_off((ratio * 3.0) as usize);
            kept.sort_unstable();
            let expected: Vec<usize> = kept.into_iter().flat_map(nodes).collect();
            for part in ["query", "key", "value"] {
                assert_eq!(kept_nodes(&plan, &format!("{block}.attention.{part}")), expected, "{block} {part}");
            }
        }
        let smaller = plan.apply(&model).unwrap();
        assert_eq!(smaller.blocks[0].attention.n_heads, 3 - (ratio * 3.0) as usize);
        let (x, _) = images(5);
        let off = difference(smaller.logits(x.clone()), plan.zeroed(&model).unwrap().logits(x));
        assert!(off < 1e-5, "{off}");
    }
    // In one call, with the means of removed heads in the biases of the layers behind them.
    let (x, labels) = images(43);
    let data = TensorCalibration::new(x, labels, 20);
    let pruned = Pruner::new(&data).policy(SfpRanking::new()).group_cut(GroupCut::WholeGroups).ratio(0.34);
    let pruned = pruned.analyze_and_prune(&model).unwrap();
    assert_eq!(pruned.model.blocks[1].attention.n_heads, 2);
    assert!(pruned.plan.bias_corrections.iter().any(|fold| fold.layer == "blocks.1.attention.output"));
}

/// Scores under the paths of heads alone.
struct OfHeads(BTreeMap<String, Vec<f64>>);

impl RankingPolicy for OfHeads {
    fn name(&self) -> String {
        "of heads".into()
    }
    fn rank(&self, _: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        Ok(Ranking { filters: self.0.clone(), ..Ranking::default() })
    }
}

#[test]
fn a_policy_of_ones_own_ranks_heads() {
    let model = vit();
    let network = Network::capture(&model, &images(2).0).unwrap();
    let scores = |path: &str, scores: &[f64]| (path.to_string(), scores.to_vec());
    let policy = OfHeads(BTreeMap::from([scores("blocks.0.attention", &[2.0, 0.5, 1.0])]));
    let planner = Planner::new().group_cut(GroupCut::WholeGroups).bias_correction(BiasCorrection::Off);
    let plan = planner.clone().budget(Budget::PerLayer(0.4)).plan(&network, None, &policy).unwrap();
    assert_eq!(kept_nodes(&plan, "blocks.0.attention.key"), nodes(0).chain(nodes(2)).collect::<Vec<_>>());
    assert_eq!(kept_nodes(&plan, "blocks.1.attention.key").len(), 24);
    assert!(plan.cuts.iter().all(|cut| cut.path.starts_with("blocks.0.attention.")));

    // Over all attentions, scores count over their attention's mean: 1/9 and 2/9 are the lowest.
    let both = [scores("blocks.0.attention", &[2.0, 4.0, 1.0]), scores("blocks.1.attention", &[10.0, 240.0, 20.0])];
    let policy = OfHeads(BTreeMap::from(both));
    let plan = planner.clone().budget(Budget::Global(0.34)).plan(&network, None, &policy).unwrap();
    assert_eq!(kept_nodes(&plan, "blocks.0.attention.value").len(), 24);
    assert_eq!(kept_nodes(&plan, "blocks.1.attention.value"), nodes(1).collect::<Vec<_>>());

    let wrong = OfHeads(BTreeMap::from([scores("blocks.0.attention", &[1.0; 24])]));
    let message = planner.plan(&network, None, &wrong).unwrap_err().to_string();
    assert!(message.contains("`blocks.0.attention`") && message.contains("24 scores for 3"), "{message}");
}

type Sets = Vec<BTreeSet<usize>>;

/// What each node of a layer recognises.
fn labels(analysis: &Analysis, path: &str) -> Sets {
    let found = &analysis.layer(path).unwrap_or_else(|| panic!("{path}")).performance;
    found.iter().map(|node| node.labels().into_iter().collect()).collect()
}

/// What each channel of a residual stream recognises: what its summands do.
fn stream(analysis: &Analysis, paths: &[&str]) -> Sets {
    let all: Vec<Sets> = paths.iter().map(|path| labels(analysis, path)).collect();
    (0..all[0].len()).map(|k| all.iter().flat_map(|sets| sets[k].clone()).collect()).collect()
}

/// docs/method.md, section 4, literally; returns how many connections go.
fn follows(mask: &Connections, outputs: &Sets, inputs: &Sets, place: &str) -> usize {
    assert_eq!(mask.shape(), (outputs.len(), inputs.len()), "{place}");
    for (output, a) in outputs.iter().enumerate() {
        for (input, b) in inputs.iter().enumerate() {
            assert_eq!(mask.keeps(output, input), !a.is_disjoint(b), "{place}: {output} {input}");
        }
    }
    outputs.len() * inputs.len() - mask.kept()
}

fn one_each() -> Sets {
    (0..CLASSES).map(|label| BTreeSet::from([label])).collect()
}

#[test]
fn connections_in_a_transformer_follow_the_label_sets() {
    let model = vit();
    let (network, analysis) = analysed(&model, 20, &AnalyzeConfig::new().with_threshold(0.8));
    let context = PolicyContext::new(&network, &analysis);
    let ranking = Afcc::new().rank(&context).unwrap();
    // The first convolution reads the images; every other layer has a mask.
    assert_eq!(ranking.connections.len(), network.layers().len() - 1);
    let mut gone = 0;
    let mut summands = vec!["patches"];
    let blocks =
        [["blocks.0.attention.output", "blocks.0.mlp.reduce"], ["blocks.1.attention.output", "blocks.1.mlp.reduce"]];
    for (block, [output, reduce]) in ["blocks.0", "blocks.1"].into_iter().zip(blocks) {
        let of = |name: &str| labels(&analysis, &format!("{block}.{name}"));
        let mut check = |name: &str, inputs: &Sets| {
            let path = format!("{block}.{name}");
            gone += follows(&ranking.connections[&path], &of(name), inputs, &path);
        };
        for name in ["attention.query", "attention.key", "attention.value"] {
            check(name, &stream(&analysis, &summands));
        }
        check("attention.output", &of("attention.value"));
        summands.push(output);
        check("mlp.expand", &stream(&analysis, &summands));
        check("mlp.reduce", &of("mlp.expand"));
        summands.push(reduce);
    }
    gone += follows(&ranking.connections["head"], &one_each(), &stream(&analysis, &summands), "head");
    assert!(gone > 1000, "{gone}");

    // Between the layers of a feed-forward part alone, carried out: the rest is as it was.
    let policy = Afcc::new().layers(["blocks.0.mlp.reduce"]);
    let planner = Planner::new().bias_correction(BiasCorrection::Off).keep_empty(true);
    let plan = planner.plan(&network, &analysis, &policy).unwrap();
    assert_eq!((plan.masks.len(), plan.cuts.len()), (1, 0));
    let (outputs, inputs) = (labels(&analysis, "blocks.0.mlp.reduce"), labels(&analysis, "blocks.0.mlp.expand"));
    for (output, kept) in plan.masks[0].keep.iter().enumerate() {
        let common = |&input: &usize| !outputs[output].is_disjoint(&inputs[input]);
        let expected: Vec<u32> = (0..inputs.len()).filter(common).map(|input| input as u32).collect();
        assert_eq!(*kept, expected, "{output}");
    }
    let (x, _) = images(5);
    let off = difference(plan.apply(&model).unwrap().logits(x.clone()), plan.zeroed(&model).unwrap().logits(x.clone()));
    assert!(off < 1e-5, "{off}");

    // All of them, with nodes that lost every connection removed.
    let plan = Planner::new().bias_correction(BiasCorrection::Off).plan(&network, &analysis, &Afcc::new()).unwrap();
    let off = difference(plan.apply(&model).unwrap().logits(x.clone()), plan.zeroed(&model).unwrap().logits(x));
    assert!(off < 1e-5, "{off}");
}

#[test]
fn connections_in_a_mixer_follow_the_label_sets_where_they_are_known() {
    let model = randomise(&MixerConfig::tiny().init(&Device::flex()), 1);
    let (network, analysis) = analysed(&model, 20, &AnalyzeConfig::new().with_threshold(0.8));
    let context = PolicyContext::new(&network, &analysis);
    let ranking = Afcc::new().rank(&context).unwrap();
    let mut gone = 0;
    for block in ["blocks.0", "blocks.1"] {
        for part in ["tokens", "channels"] {
            let (expand, reduce) = (format!("{block}.{part}.expand"), format!("{block}.{part}.reduce"));
            let (inputs, outputs) = (labels(&analysis, &expand), labels(&analysis, &reduce));
            gone += follows(&ranking.connections[&reduce], &outputs, &inputs, &reduce);
        }
        // Tokens of the residual stream are nobody's nodes: left alone, and refused by name.
        let path = format!("{block}.tokens.expand");
        assert!(!ranking.connections.contains_key(&path));
        let error = Afcc::new().layers([path.clone()]).rank(&context).unwrap_err();
        assert!(matches!(&error, PruneError::NotPrunable { path: named, .. } if *named == path), "{error}");
    }
    let mixed = stream(&analysis, &["patches", "blocks.0.channels.reduce"]);
    let expand = "blocks.1.channels.expand";
    gone += follows(&ranking.connections[expand], &labels(&analysis, expand), &mixed, expand);
    assert!(gone > 500, "{gone}");

    // What was not analysed is left alone too, or named in an error.
    let only = ["blocks.0.channels.expand", "blocks.0.channels.reduce"];
    let (network, analysis) = analysed(&model, 20, &AnalyzeConfig::new().with_layers(only));
    let context = PolicyContext::new(&network, &analysis);
    let ranking = Afcc::new().rank(&context).unwrap();
    assert_eq!(ranking.connections.keys().collect::<Vec<_>>(), ["blocks.0.channels.reduce"]);
    let error = Afcc::new().layers([expand]).rank(&context).unwrap_err();
    assert!(matches!(error, PruneError::NotAnalyzed { .. }), "{error}");
}

#[test]
fn pooling_over_tokens_by_weights_leaves_the_classifier_its_channels() {
    let model = randomise(&CctConfig::tiny().init(&Device::flex()), 1);
    let (network, analysis) = analysed(&model, 20, &AnalyzeConfig::new().with_threshold(0.8));
    let ranking = Afcc::new().rank(&PolicyContext::new(&network, &analysis)).unwrap();
    // The weights of the tokens' mean are no source of the classifier's inputs.
    let summands = [
        "tokenizer.1",
        "blocks.0.attention.output",
        "blocks.0.mlp.reduce",
        "blocks.1.attention.output",
        "blocks.1.mlp.reduce",
    ];
    let gone = follows(&ranking.connections["head"], &one_each(), &stream(&analysis, &summands), "head");
    assert!(gone > 0);
}
