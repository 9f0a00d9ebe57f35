//! Nodes of linear layers and heads of attentions: a performance matrix each, as defined, whatever the batches are.

// burn-ndarray is deprecated in 0.22 and supported as long as it exists.
#![allow(deprecated)]

mod common;

use burn::module::Module;
use burn::nn::attention::{MhaInput, MultiHeadAttention, MultiHeadAttentionConfig};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::activation::{gelu, relu, softmax};
use burn::tensor::module::attention;
use burn::tensor::{Device, Tensor, TensorData};
use burn_sfp_core::{
    Analysis, AnalyzeConfig, Grid, Readout, ReadoutInfo, SfpError, TensorCalibration, UnitKind, analyze,
};
use burn_sfp_graph::{GraphError, GraphModule, LayerKind, Network};
use common::definition::{STRENGTH, compare, ridge, rows};
use common::{CLASSES, fill, json, numbers};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

const TOKENS: usize = 5;
const WIDTH: usize = 8;
const HEADS: usize = 2;

/// One transformer block; the classifier reads all tokens of the last layer.
#[derive(Module, Debug)]
struct Former {
    embed: Linear,
    norm: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    joined: Linear,
    up: Linear,
    down: Linear,
    last: Linear,
    fc: Linear,
    /// Through Burn's attention operation, or written out.
    fused: bool,
}

/// What the analysis taps: the nodes of `up`, `down` and `last` as `[samples, nodes, tokens]`, the heads as `[samples, heads,
/// tokens, width]`, and the logits.
struct Outputs {
    up: Tensor<3>,
    down: Tensor<3>,
    last: Tensor<3>,
    heads: Tensor<4>,
    logits: Tensor<2>,
}

impl Former {
    fn new(fused: bool, device: &Device) -> Self {
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        let model = Self {
            embed: linear(6, WIDTH),
            norm: LayerNormConfig::new(WIDTH).init(device),
            query: linear(WIDTH, WIDTH),
            key: linear(WIDTH, WIDTH),
            value: linear(WIDTH, WIDTH),
            joined: linear(WIDTH, WIDTH),
            up: linear(WIDTH, 12),
            down: linear(12, WIDTH),
            last: linear(WIDTH, 7),
            fc: LinearConfig::new(7 * TOKENS, CLASSES).with_bias(false).init(device),
            fused,
        };
        fill(model, 3, device)
    }

    fn outputs(&self, x: Tensor<3>) -> Outputs {
        let [samples, ..] = x.dims();
        let split = |x: Tensor<3>| x.reshape([samples, TOKENS, HEADS, WIDTH / HEADS]).swap_dims(1, 2);
        let x = self.embed.forward(x);
        let y = self.norm.forward(x.clone());
        let query = split(self.query.forward(y.clone()));
        let (key, value) = (split(self.key.forward(y.clone())), split(self.value.forward(y)));
        let scale = 1.0 / ((WIDTH / HEADS) as f64).sqrt();
        let heads = if self.fused {
            attention(query, key, value, None, None, Default::default())
        } else {
            softmax(query.matmul(key.swap_dims(2, 3)) * scale, 3).matmul(value)
        };
        let mixed = heads.clone().swap_dims(1, 2).reshape([samples, TOKENS, WIDTH]);
        let x = x + self.joined.forward(mixed);
        let up = gelu(self.up.forward(self.norm.forward(x.clone())));
        let down = self.down.forward(up.clone());
        let last = relu(self.last.forward(x + down.clone()));
        let logits = self.fc.forward(last.clone().flatten::<2>(1, 2));
        let nodes_first = |x: Tensor<3>| x.swap_dims(1, 2);
        Outputs { up: nodes_first(up), down: nodes_first(down), last: nodes_first(last), heads, logits }
    }
}

impl GraphModule for Former {
    type Inputs = Tensor<3>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<3>) -> Tensor<2> {
        self.outputs(x).logits
    }
}

/// Sequences with labels 0, 1, .. in turn: the pattern of the label plus noise.
fn sequences(samples: usize, device: &Device) -> (Tensor<3>, Vec<usize>) {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let patterns: Tensor<3> = numbers([CLASSES, TOKENS, 6], -1.0, 1.0, &mut rng, device);
    let labels: Vec<usize> = (0..samples).map(|k| k % CLASSES).collect();
    let noise = numbers([samples, TOKENS, 6], -1.0, 1.0, &mut rng, device);
    let all = labels.iter().map(|&label| patterns.clone().slice_dim(0, label..label + 1)).collect();
    (Tensor::cat(all, 0) + noise, labels)
}

fn calibration(samples: usize, batch: usize, device: &Device) -> TensorCalibration<Tensor<3>> {
    let (x, labels) = sequences(samples, device);
    TensorCalibration::new(x, labels, batch)
}

fn config() -> AnalyzeConfig {
    AnalyzeConfig::new().with_readout(Readout::Ridge { strength: STRENGTH }).with_grid(Grid::Full)
}

#[test]
fn nodes_and_heads_are_those_of_the_definition() {
    const SAMPLES: usize = 60;
    for device in [Device::flex(), Device::ndarray()] {
        for fused in [false, true] {
            let model = Former::new(fused, &device);
            let (x, labels) = sequences(SAMPLES, &device);
            let outputs = model.valid().outputs(x);
            // The tokens of a classifier's input lie outside of its nodes; a readout has them inside.
            let flat = rows(model.fc.weight.val());
            let classifier: Vec<Vec<f64>> =
                (0..flat.len()).map(|k| flat[(k % TOKENS) * 7 + k / TOKENS].clone()).collect();
            let expected = [
                ("attention", HEADS, TOKENS * WIDTH / HEADS, rows(outputs.heads), None),
                ("up", 12, TOKENS, rows(outputs.up), None),
                ("down", WIDTH, TOKENS, rows(outputs.down), None),
                ("last", 7, TOKENS, rows(outputs.last), Some(classifier)),
            ];
            // One batch, a shorter last one, one that Burn does not fold into rows, one sample at the end.
            let mut compared = 0;
            for batch in [SAMPLES, 32, 13, 59] {
                let analysis = analyze(&model, &calibration(SAMPLES, batch, &device), &config()).unwrap();
                for (path, units, positions, x, given) in &expected {
                    let entry = analysis.layer(path).unwrap();
                    assert_eq!((entry.filters, entry.positions), (*units, *positions), "{path}");
                    assert_eq!(matches!(entry.readout, ReadoutInfo::Classifier { .. }), given.is_some(), "{path}");
                    let readout = given.clone().unwrap_or_else(|| ridge(x, &labels));
                    let place = format!("{device:?}, fused {fused}, batches of {batch}");
                    compared += compare(entry, x, &labels, &readout, 2e-4, &place);
                }
            }
            assert!(compared > 3 * 4 * 29 / 4, "only {compared} of {} units are clear of the threshold", 4 * 29);
        }
    }
}

#[test]
fn means_of_inputs_are_those_of_the_tokens() {
    let device = Device::flex();
    let model = Former::new(false, &device);
    let outputs = model.valid().outputs(sequences(20, &device).0);
    // `down` reads the tap of `up`, of which `Grid::AtMost` leaves two places; `fc` reads all tokens of `last`.
    for grid in [Grid::Full, Grid::AtMost(2)] {
        let analysis = analyze(&model, &calibration(20, 8, &device), &config().with_grid(grid)).unwrap();
        let mean = |x: Tensor<3>| -> Vec<f64> { x.mean_dim(0).mean_dim(2).into_data().iter::<f64>().collect() };
        let each = outputs.last.clone().swap_dims(1, 2).mean_dim(0).into_data().iter::<f64>().collect::<Vec<f64>>();
        for (path, expected) in [("down", mean(outputs.up.clone())), ("fc", each)] {
            let found = &analysis.input_means[path];
            assert_eq!(found.len(), expected.len(), "{path}");
            for (found, expected) in found.iter().zip(&expected) {
                assert!((f64::from(*found) - expected).abs() < 1e-6, "{path}: {found} {expected}");
            }
        }
    }
}

#[test]
fn heads_are_found_with_their_channels() {
    let device = Device::flex();
    for fused in [false, true] {
        let model = Former::new(fused, &device);
        let network = Network::capture(&model, &sequences(4, &device).0).unwrap();
        let [heads] = network.heads() else { panic!("{:?}", network.heads()) };
        assert_eq!(heads.path, "attention");
        assert_eq!((heads.heads, heads.width, heads.tap.shape.as_slice()), (2, 4, [4, 2, TOKENS, 4].as_slice()));
        assert_eq!(heads.made_by, ["query", "key", "value"]);
        assert_eq!(heads.not_prunable, None);
        // A head's channel is one coordinate of each of its nodes.
        let value = network.layer("value").unwrap();
        for (node, &channel) in value.output_channels().iter().enumerate() {
            assert!(network.flow().atoms(channel).contains(&heads.output_channels()[node / 4]));
        }
        assert!(network.heads_at("attention").is_some() && network.heads_at("query").is_none());
        // Only values are what the layer behind reads; the residual stream has all its summands.
        let sources = |path: &str| {
            let sources = network.sources(network.layer(path).unwrap());
            (sources.layers.iter().map(|layer| layer.path.clone()).collect::<Vec<_>>(), sources.complete)
        };
        assert_eq!(sources("joined"), (vec!["value".to_string()], true));
        assert_eq!(sources("last"), (["embed", "joined", "down"].map(String::from).to_vec(), true));
        assert_eq!(sources("embed"), (vec![], false));
    }
}

#[test]
fn heads_are_asked_for_by_path() {
    let device = Device::flex();
    let model = Former::new(false, &device);
    let run = |paths: &[&str]| analyze(&model, &calibration(20, 8, &device), &config().with_layers(paths.to_vec()));
    let only = run(&["attention"]).unwrap();
    assert_eq!(only.layers.len(), 1);
    assert_eq!(only.layers[0].kind, UnitKind::Heads);
    let all = analyze(&model, &calibration(20, 8, &device), &config()).unwrap();
    let paths: Vec<&str> = all.layers.iter().map(|layer| layer.path.as_str()).collect();
    assert_eq!(paths, ["embed", "query", "key", "value", "attention", "joined", "up", "down", "last"]);
    assert_eq!(all.layers[0].kind, UnitKind::Layer(LayerKind::Linear));
    assert_eq!(all.layers[4].performance, only.layers[0].performance);
    match run(&["heads"]) {
        Err(SfpError::Graph(GraphError::UnknownLayer { available, .. })) => {
            assert!(available.contains(&"attention".to_string()))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn analyses_with_heads_are_saved_loaded_and_merged() {
    let device = Device::flex();
    let model = Former::new(false, &device);
    let (x, labels) = sequences(40, &device);
    let run = |range: std::ops::Range<usize>, config: &AnalyzeConfig| {
        let share = x.clone().slice_samples_of(range.clone());
        analyze(&model, &TensorCalibration::new(share, labels[range].to_vec(), 8), config).unwrap()
    };
    let config = config().with_state(true);
    let (first, second, all) = (run(0..20, &config), run(20..40, &config), run(0..40, &config));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("first.json");
    first.save_with_state(&path).unwrap();
    let loaded = Analysis::load(&path).unwrap();
    assert_eq!(json(loaded.clone()), json(first.clone()));
    let text = json(first.clone());
    assert!(text.contains("\"heads\"") && text.contains("\"linear\""));
    let merged = loaded.merge(&second).unwrap();
    assert_eq!(json(merged.clone()), json(first.merge(&second).unwrap()));
    for (merged, all) in merged.layers.iter().zip(&all.layers) {
        assert_eq!((&merged.path, merged.kind), (&all.path, all.kind));
        for (merged, all) in merged.performance.iter().zip(&all.performance) {
            assert_eq!((&merged.clusters, merged.noise), (&all.clusters, all.noise));
            assert!((merged.max - all.max).abs() < 1e-6 * all.max.abs());
        }
    }
    // Readouts that are handed over, heads' among them.
    let given = config.clone().with_readout(Readout::Given(Box::new(first.clone()))).with_accuracy(true);
    let given = run(20..40, &given);
    let heads = given.layer("attention").unwrap();
    assert!(matches!(heads.readout, ReadoutInfo::Given { .. }) && heads.readout.accuracy().is_some());
    assert_eq!(first.merge(&given).unwrap().samples, 40);
}

trait SliceSamples {
    fn slice_samples_of(self, range: std::ops::Range<usize>) -> Self;
}

impl SliceSamples for Tensor<3> {
    fn slice_samples_of(self, range: std::ops::Range<usize>) -> Self {
        self.slice_dim(0, range)
    }
}

#[test]
fn the_number_of_threads_changes_no_bit_of_heads() {
    let device = Device::flex();
    let model = Former::new(false, &device);
    let gradient = burn_sfp_core::GradientConfig { epochs: 2, ..Default::default() };
    for readout in [Readout::default(), Readout::Gradient(gradient)] {
        let config = AnalyzeConfig::new().with_readout(readout);
        let results = [1, 2, 4].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            json(pool.install(|| analyze(&model, &calibration(33, 8, &device), &config)).unwrap())
        });
        assert!(results.iter().all(|result| *result == results[0]));
    }
}

/// Burn's own attention, twice with one set of weights and once with another; windows that are folded into the samples.
#[derive(Module, Debug)]
struct Odd {
    shared: MultiHeadAttention,
    quiet: MultiHeadAttention,
    window: Linear,
    fc: Linear,
}

impl GraphModule for Odd {
    type Inputs = Tensor<3>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<3>) -> Tensor<2> {
        let x = self.shared.forward(MhaInput::self_attn(x)).context;
        let x = self.shared.forward(MhaInput::self_attn(x)).context;
        let mask = Tensor::<2>::from_data(TensorData::new(vec![0.0_f32, 0.0, 0.0, 1.0], [1, 4]), &x.device());
        let mask = mask.greater_elem(0.5).repeat_dim(0, x.dims()[0]);
        let x = self.quiet.forward(MhaInput::self_attn(x).mask_pad(mask)).context;
        let [samples, tokens, width] = x.dims();
        let windows = x.reshape([samples * 2, tokens / 2, width]);
        let x = relu(self.window.forward(windows)).mean_dim(1).reshape([samples, 2 * width]);
        self.fc.forward(x)
    }
}

#[test]
fn shared_masked_and_quiet_attentions_are_found_and_folded_samples_are_left_out() {
    let device = Device::flex();
    let model = Odd {
        shared: MultiHeadAttentionConfig::new(6, 3).init(&device),
        quiet: MultiHeadAttentionConfig::new(6, 2).with_quiet_softmax(true).init(&device),
        window: LinearConfig::new(6, 6).init(&device),
        fc: LinearConfig::new(12, CLASSES).init(&device),
    };
    let model = fill(model, 5, &device);
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let x: Tensor<3> = numbers([15, 4, 6], -1.0, 1.0, &mut rng, &device);
    let data = TensorCalibration::new(x, (0..15).map(|k| k % CLASSES).collect(), 4);
    let analysis = analyze(&model, &data, &AnalyzeConfig::new()).unwrap();
    let heads: Vec<(&str, usize, usize)> = analysis
        .layers
        .iter()
        .filter(|layer| layer.kind == UnitKind::Heads)
        .map(|layer| (layer.path.as_str(), layer.filters, layer.positions))
        .collect();
    assert_eq!(heads, [("shared", 3, 8), ("quiet", 2, 12)]);
    assert!(analysis.layer("window").is_none());
    let error = analyze(&model, &data, &AnalyzeConfig::new().with_layers(["window"])).unwrap_err().to_string();
    assert!(error.contains("`window`") && error.contains("[8, 2, 6] for 4 samples"), "{error}");
}
