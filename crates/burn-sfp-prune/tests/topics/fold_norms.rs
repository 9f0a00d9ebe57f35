//! Batch normalisations folded into the layers before them.

use burn::module::{Module, ModuleVisitor, Param, RunningState};
use burn::nn::conv::{
    Conv1d, Conv1dConfig, Conv2d, Conv2dConfig, Conv3d, Conv3dConfig, ConvTranspose1d, ConvTranspose1dConfig,
    ConvTranspose2d, ConvTranspose2dConfig, ConvTranspose3d, ConvTranspose3dConfig,
};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::nn::{PaddingConfig1d, PaddingConfig2d, PaddingConfig3d};
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn_sfp_nn::FoldBatchNorm;

use burn_sfp_graph::GraphModule;
use burn_sfp_prune::{Folded, MagnitudeConnections, Planner, fold_batch_norms};
use proptest::prelude::*;

use crate::support::*;

/// Positions of every sample: one axis of 4, 2 x 2, or 2 x 2 x 1.
const POSITIONS: usize = 4;

#[derive(Module, Debug)]
enum Layer {
    One(Conv1d),
    Two(Conv2d),
    Three(Conv3d),
    Up1(ConvTranspose1d),
    Up2(ConvTranspose2d),
    Up3(ConvTranspose3d),
    Linear(Linear),
    Tokens(Linear),
}

/// How a layer and its normalisation are used.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Use {
    Plain,
    /// The layer's output is added to the normalised one.
    Residual,
    /// Layer and normalisation run twice.
    Twice,
    /// The layer's output is an output of the network.
    Output,
    /// Something stands between them.
    Apart,
}

#[derive(Clone, Debug)]
struct UnitSpec {
    kind: usize,
    wanted: usize,
    groups: usize,
    bias: bool,
    usage: Use,
    drop_in: bool,
    epsilon: f64,
}

#[derive(Module, Debug)]
enum Norm {
    Burns(BatchNorm),
    Ours(FoldBatchNorm),
}

#[derive(Module, Debug)]
struct Unit {
    layer: Layer,
    norm: Norm,
    #[module(skip)]
    spec: UnitSpec,
}

#[derive(Module, Debug)]
struct Net {
    units: Vec<Unit>,
}

impl Unit {
    fn new(spec: &UnitSpec, from: usize) -> (Self, usize) {
        let (spec, d) = (spec.clone(), device());
        let to = if spec.usage == Use::Twice { from } else { spec.wanted * spec.groups };
        let divides = [from, to].iter().all(|channels| channels.is_multiple_of(spec.groups));
        let groups = if divides { spec.groups } else { 1 };
        let (b, c) = (spec.bias, [from, to]);
        let layer = match spec.kind {
            0 => Layer::One(
                Conv1dConfig::new(from, to, 3)
                    .with_padding(PaddingConfig1d::Explicit(1, 1))
                    .with_groups(groups)
                    .with_bias(b)
                    .init(&d),
            ),
            1 => Layer::Two(
                Conv2dConfig::new(c, [3, 3])
                    .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                    .with_groups(groups)
                    .with_bias(b)
                    .init(&d),
            ),
            2 => Layer::Three(
                Conv3dConfig::new(c, [3; 3])
                    .with_padding(PaddingConfig3d::Explicit(1, 1, 1))
                    .with_groups(groups)
                    .with_bias(b)
                    .init(&d),
            ),
            3 => Layer::Up1(ConvTranspose1dConfig::new(c, 3).with_padding(1).with_groups(groups).with_bias(b).init(&d)),
            4 => Layer::Up2(
                ConvTranspose2dConfig::new(c, [3; 2]).with_padding([1; 2]).with_groups(groups).with_bias(b).init(&d),
            ),
            5 => Layer::Up3(
                ConvTranspose3dConfig::new(c, [3; 3]).with_padding([1; 3]).with_groups(groups).with_bias(b).init(&d),
            ),
            6 => {
                let config = LinearConfig::new(from * POSITIONS, to * POSITIONS).with_bias(b);
                Layer::Linear(config.init(&d))
            }
            _ => Layer::Tokens(LinearConfig::new(from, to).with_bias(b).init(&d)),
        };
        // Behind a linear layer on tokens Burn's normalises along the tokens.
        let channels = match layer {
            Layer::Linear(_) => to * POSITIONS,
            Layer::Tokens(_) => POSITIONS,
            _ => to,
        };
        let norm = BatchNormConfig::new(channels).with_epsilon(spec.epsilon).init(&d);
        let norm = if spec.drop_in { Norm::Ours(norm.into()) } else { Norm::Burns(norm) };
        (Self { layer, norm, spec }, to)
    }

    /// `[samples, channels * positions]` to the same, and what the network returns beside.
    fn forward(&self, x: Tensor<2>) -> (Tensor<2>, Option<Tensor<2>>) {
        let [samples, width] = x.dims();
        let channels = width / POSITIONS;
        match &self.layer {
            Layer::One(conv) => self.norm(x.reshape([samples, channels, POSITIONS]), |x| conv.forward(x)),
            Layer::Two(conv) => self.norm(x.reshape([samples, channels, 2, 2]), |x| conv.forward(x)),
            Layer::Three(conv) => self.norm(x.reshape([samples, channels, 2, 2, 1]), |x| conv.forward(x)),
            Layer::Up1(conv) => self.norm(x.reshape([samples, channels, POSITIONS]), |x| conv.forward(x)),
            Layer::Up2(conv) => self.norm(x.reshape([samples, channels, 2, 2]), |x| conv.forward(x)),
            Layer::Up3(conv) => self.norm(x.reshape([samples, channels, 2, 2, 1]), |x| conv.forward(x)),
            Layer::Linear(linear) => self.norm(x, |x| linear.forward(x)),
            Layer::Tokens(linear) => self.norm(x.reshape([samples, POSITIONS, channels]), |x| linear.forward(x)),
        }
    }

    fn norm<const D: usize>(
        &self,
        x: Tensor<D>,
        layer: impl Fn(Tensor<D>) -> Tensor<D>,
    ) -> (Tensor<2>, Option<Tensor<2>>) {
        let norm = |x| match &self.norm {
            Norm::Burns(norm) => norm.forward(x),
            Norm::Ours(norm) => norm.forward(x),
        };
        let y = layer(x);
        let out = match self.spec.usage {
            Use::Plain | Use::Output => norm(y.clone()),
            Use::Residual => norm(y.clone()) + y.clone(),
            Use::Twice => norm(layer(norm(y.clone()))),
            Use::Apart => norm(y.clone().tanh()),
        };
        let beside = (self.spec.usage == Use::Output).then(|| y.flatten(1, D - 1));
        (out.flatten(1, D - 1), beside)
    }

    fn folds(&self) -> bool {
        self.spec.usage == Use::Plain && !matches!(self.layer, Layer::Tokens(_)) && self.spec.epsilon < 1.0
    }
}

graph!(Net: Tensor<2> => Vec<Tensor<2>>, |net, x| {
    let mut outputs = Vec::new();
    let last = net.units.iter().fold(x, |x, unit| {
        let (x, beside) = unit.forward(x);
        outputs.extend(beside);
        relu(x + 0.5)
    });
    outputs.push(last);
    outputs
});

fn specs() -> impl Strategy<Value = Vec<UnitSpec>> {
    let usage = prop_oneof![
        5 => Just(Use::Plain),
        1 => Just(Use::Residual),
        1 => Just(Use::Twice),
        1 => Just(Use::Output),
        1 => Just(Use::Apart),
    ];
    let epsilon = prop_oneof![3 => Just(1e-5), 1 => Just(0.5), 1 => Just(1e-12), 1 => Just(1.5)];
    let unit = (0..8usize, 1..4usize, 1..4usize, any::<bool>(), usage, any::<bool>(), epsilon).prop_map(
        |(kind, wanted, groups, bias, usage, drop_in, epsilon)| UnitSpec {
            kind,
            wanted,
            groups,
            bias,
            usage,
            drop_in,
            epsilon,
        },
    );
    prop::collection::vec(unit, 1..4)
}

fn net(specs: &[UnitSpec]) -> Net {
    let mut channels = 6;
    let units = specs.iter().map(|spec| {
        let (unit, to) = Unit::new(spec, channels);
        channels = to;
        unit
    });
    random(Net { units: units.collect() })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_folded_network_computes_the_same(specs in specs()) {
        let net = net(&specs);
        let x = input([3, 6 * POSITIONS]);
        let (before, outputs) = (bytes(&net), net.run(x.clone()));
        let Folded { model, folded, kept, .. } = fold_batch_norms(&net, &x).unwrap();
        // Bit for bit as it was, and it still gives the same.
        prop_assert_eq!(&bytes(&net), &before);
        for (now, then) in net.run(x.clone()).into_iter().zip(&outputs) {
            prop_assert_eq!(values(now), values(then.clone()));
        }
        let off = difference(model.run(x), outputs);
        // A small variance makes the rounding errors of the layer before it larger: one network in some thousands is off by more than 1e-5.
        prop_assert!(off < 1e-4, "off by {}", off);
        // All that can be folded, and nothing else.
        let paths = |folds: bool| -> Vec<String> {
            let units = net.units.iter().enumerate().filter(|(_, unit)| unit.folds() == folds);
            units.map(|(k, unit)| format!("units.{k}.norm.{}", if unit.spec.drop_in { "Ours" } else { "Burns" })).collect()
        };
        prop_assert_eq!(folded.into_iter().map(|norm| norm.path).collect::<Vec<_>>(), paths(true));
        prop_assert_eq!(kept.into_iter().map(|norm| norm.path).collect::<Vec<_>>(), paths(false));
        // What is folded is the identity, or a shift where the layer has no bias.
        for (k, unit) in model.units.iter().enumerate().filter(|(k, _)| net.units[*k].folds()) {
            let (gamma, beta) = match &unit.norm {
                Norm::Burns(norm) => (values(norm.gamma.val()), values(norm.beta.val())),
                Norm::Ours(norm) => (values(norm.gamma.val()), values(norm.beta.val())),
            };
            prop_assert!(gamma.iter().all(|gamma| *gamma == 1.0) && gamma.is_empty() == specs[k].drop_in);
            prop_assert!(!specs[k].bias || beta.iter().all(|beta| *beta == 0.0));
            prop_assert!(beta.is_empty() == (specs[k].drop_in && specs[k].bias));
        }
    }
}

#[derive(Module, Debug)]
struct Small {
    conv: Conv2d,
    norm: FoldBatchNorm,
    last: Conv2d,
    plain: BatchNorm,
    fc: Linear,
}

impl Small {
    fn new() -> Self {
        let last = Conv2dConfig::new([8, 6], [1, 1]).with_bias(false).init(&device());
        let norm = |channels| BatchNormConfig::new(channels).init(&device());
        Self { conv: conv(2, 8), norm: norm(8).into(), last, plain: norm(6), fc: linear(6, 3) }
    }
}

impl GraphModule for Small {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<4>) -> Tensor<2> {
        let x = relu(self.norm.forward(self.conv.forward(x)));
        self.fc.forward(mean(relu(self.plain.forward(self.last.forward(x)))))
    }
}

#[test]
fn a_model_in_training_comes_back_in_training() {
    let x = input([2, 2, 4, 4]);
    let net = random(Small::new());
    let in_training = net.clone().train();
    let folded = fold_batch_norms(&in_training, &x).unwrap().model;
    assert!(folded.devices().iter().all(|device| device.is_autodiff()));
    struct Training(usize);
    impl ModuleVisitor for Training {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0 += usize::from(param.is_require_grad());
        }
    }
    let mut count = [Training(0), Training(0)];
    in_training.visit(&mut count[0]);
    folded.visit(&mut count[1]);
    assert!(count[0].0 == count[1].0 && count[0].0 > 0);
    assert!(difference(folded.valid().run(x.clone()), net.run(x)) < TOLERANCE);
}

#[test]
fn what_is_folded_follows_through_records() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.bpk");
    let x = input([2, 2, 4, 4]);
    let net = random(Small::new());
    let folded = fold_batch_norms(&net, &x).unwrap().model;
    assert_eq!((folded.norm.gamma.dims(), folded.norm.beta.dims(), folded.plain.gamma.dims()), ([0], [0], [6]));
    folded.clone().save_file(&file).unwrap();
    let loaded = fold_batch_norms(&Small::new(), &x).unwrap().model.load_file(&file);
    assert_eq!(bytes(&loaded), bytes(&folded));
    let moved = loaded.valid().train().valid().to_device(&device());
    assert_eq!(values(moved.run(x.clone())), values(folded.run(x.clone())));
    // Burn's layer, ours, and back: one record.
    net.norm.clone().save_file(&file).unwrap();
    let burns = BatchNormConfig::new(8).init(&device()).load_file(&file);
    assert_eq!(bytes(&burns), bytes(&net.norm));
    // Folded once more, there is nothing to do.
    let again = fold_batch_norms(&folded, &x).unwrap();
    assert_eq!(again.folded.len(), 1);
    assert!(difference(again.model.run(x.clone()), net.run(x)) < TOLERANCE);
}

#[test]
fn folded_models_are_pruned_and_pruned_ones_folded() {
    let x = input([2, 2, 4, 4]);
    let net = random(Small::new());
    let folded = fold_batch_norms(&net, &x).unwrap().model;
    let smaller = prune(&folded, &x, 0.5);
    assert_eq!(smaller.model.conv.weight.dims(), [4, 2, 3, 3]);
    let pruned = prune(&net, &x, 0.5).model;
    let both = fold_batch_norms(&pruned, &x).unwrap();
    assert_eq!(both.folded.len(), 2);
    assert!(difference(both.model.run(x.clone()), pruned.run(x)) < TOLERANCE);
}

#[test]
fn masks_stay() {
    let x = input([2, 2, 4, 4]);
    let net = random(Small::new());
    let policy = MagnitudeConnections::l1().removing(0.5);
    let masked = Planner::new().prune(&net, &x, &policy).unwrap().model;
    let folded = fold_batch_norms(&masked, &x).unwrap();
    assert_eq!(folded.folded.len(), 2);
    assert!(difference(folded.model.run(x.clone()), masked.run(x)) < TOLERANCE);
    let zeros = |weight: Vec<f32>| weight.iter().map(|value| *value == 0.0).collect::<Vec<_>>();
    let (before, after) = (values(masked.conv.weight.val()), values(folded.model.conv.weight.val()));
    assert!(zeros(before.clone()) == zeros(after.clone()) && before != after && before.contains(&0.0));
    assert_ne!(bytes(&folded.model), bytes(&folded.model.clone().materialize()), "the mask is gone");
}

#[test]
fn what_cannot_be_folded_says_why() {
    let x = input([2, 2, 4, 4]);
    let mut net = random(Small::new());
    net.plain.running_var = RunningState::new(Tensor::zeros([6], &device()) - 1.0);
    let folded = fold_batch_norms(&net, &x).unwrap();
    assert_eq!(folded.folded.len(), 1);
    holds(&folded.kept[0].reason, &["no finite scale"]);
    assert_eq!(folded.kept[0].path, "plain");
}
