//! Removal equals masking: for random chains and residual networks the smaller model's output equals the original's
//! with the removed channels at zero (or at their means), 500 networks a run.

mod common;
#[path = "common/inspect.rs"]
mod inspect;

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use burn_sfp_core::{Analysis, AnalyzeConfig, NoProgress, TensorCalibration, analyze_network};
use burn_sfp_graph::Network;
use burn_sfp_prune::{
    BiasCorrection, Budget, Connections, Planner, PolicyContext, PruneError, PrunePlan, Ranking, RankingPolicy,
};
use common::{CLASSES, Net, difference, specs};
use inspect::{edited, trained};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Random scores, and random masks on the connections of some layers.
struct Random {
    seed: u64,
    connections: bool,
}

impl RankingPolicy for Random {
    fn name(&self) -> String {
        "random".into()
    }
    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mut ranking = Ranking::default();
        for layer in context.network.layers() {
            if layer.not_prunable.is_none() {
                ranking.filters.insert(layer.path.clone(), (0..layer.filters).map(|_| rng.random()).collect());
            }
            if self.connections && rng.random_bool(0.6) {
                let share = rng.random_range(0.2..1.0);
                let keep = Connections::from_fn(layer.filters, layer.inputs, |_, _| rng.random_bool(share));
                ranking.connections.insert(layer.path.clone(), keep);
            }
        }
        Ok(ranking)
    }
}

fn analysed(net: &Net, device: &Device) -> (Network, Analysis) {
    let samples = 2 * CLASSES;
    let data = TensorCalibration::new(net.input(samples, device), (0..samples).map(|k| k % CLASSES).collect(), samples);
    analyze_network(net, &data, &AnalyzeConfig::new(), &NoProgress).unwrap()
}

/// For each layer the inputs that the plan cuts from its weight.
fn cut_inputs(plan: &PrunePlan) -> BTreeMap<String, Vec<usize>> {
    let mut all = BTreeMap::new();
    for layer in &plan.layers {
        let axis = layer.kind.input_axis();
        let cut = plan
            .cuts
            .iter()
            .filter(|cut| cut.path.starts_with(&format!("{}.", layer.path)) && cut.path.ends_with("weight"));
        for cut in cut.flat_map(|cut| &cut.axes).filter(|cut| cut.axis == axis) {
            all.insert(layer.path.clone(), (0..cut.length).filter(|k| !cut.keep.contains(k)).collect());
        }
    }
    all
}

/// The original with the plan's masks multiplied into its weights.
fn masked(net: &Net, plan: &PrunePlan) -> Net {
    edited(net, |path, shape, values| {
        let Some(mask) = plan.masks.iter().find(|mask| mask.parameter == path) else { return };
        let kernel: usize = shape[2..].iter().product();
        for (k, value) in values.iter_mut().enumerate() {
            let (a, b) = (k / kernel / shape[1], k / kernel % shape[1]);
            let (output, input) = if mask.output_axis == 0 { (a, b) } else { (b, a) };
            *value *= f32::from(u8::from(mask.keep[output].contains(&(input as u32))));
        }
    })
}

/// The original's output with the removed inputs of every layer held at `value(layer, input)`.
fn held(net: &Net, plan: &PrunePlan, x: Tensor<4>, value: &dyn Fn(&str, usize) -> f32) -> Tensor<2> {
    let cut = cut_inputs(plan);
    let device = x.device();
    // The conv of a block is an enum: its weight's path has the variant's name in it.
    let find = |path: &str| cut.iter().find(|(layer, _)| *layer == path || layer.starts_with(&format!("{path}.")));
    masked(net, plan).forward(x, &|path, x, channels| match find(path) {
        None => x,
        Some((layer, removed)) => {
            let keep: Vec<f32> = (0..channels).map(|k| if removed.contains(&k) { 0.0 } else { 1.0 }).collect();
            let add: Vec<f32> =
                (0..channels).map(|k| if removed.contains(&k) { value(layer, k) } else { 0.0 }).collect();
            let row = |values: Vec<f32>| Tensor::<2>::from_data(TensorData::new(values, [1, channels]), &device);
            x * row(keep) + row(add)
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_smaller_model_is_the_masked_original(
        spec in specs(), ratio in 0.0..0.9f64, global: bool, connections: bool, policy_seed: u64,
    ) {
        let device = Device::flex();
        let net = Net::new(spec, &device);
        let x = net.input(3, &device);
        let before = net.valid().logits_of(x.clone());
        let (network, analysis) = analysed(&net, &device);
        let budget = if global { Budget::Global(ratio) } else { Budget::PerLayer(ratio) };
        let policy = Random { seed: policy_seed, connections };
        let planner = Planner::new().budget(budget).bias_correction(BiasCorrection::Off);
        let plan = match planner.plan(&network, &analysis, &policy) {
            // Random masks may disconnect a whole layer.
            Err(PruneError::WouldEmpty { .. }) if connections => return Ok(()),
            plan => plan.unwrap(),
        };
        let smaller = plan.apply(&net).unwrap();
        let expected = held(&net, &plan, x.clone(), &|_, _| 0.0);
        let got = smaller.logits_of(x.clone());
        prop_assert!(difference(got.clone(), expected) < 1e-5);
        // Folding the masks changes nothing, and the original is what it was, bit for bit.
        prop_assert_eq!(smaller.clone().materialize().logits_of(x.clone()).into_data(), got.into_data());
        prop_assert_eq!(net.valid().logits_of(x).into_data(), before.into_data());
        // The plan said what came out.
        prop_assert_eq!(trained(&smaller.materialize()), plan.parameters_after);
        for layer in &plan.layers {
            prop_assert!(layer.filters_after > 0 && layer.macs_after <= layer.macs_before);
        }
    }

    #[test]
    fn means_are_folded_exactly_where_nothing_is_padded(mut spec in specs(), ratio in 0.1..0.9f64, policy_seed: u64) {
        for block in &mut spec.blocks {
            if block.padding > 0 || block.skip != common::Skip::None {
                (block.kernel, block.padding) = (1, 0);
            }
            // Without a bias the mean goes into the running mean of a normalisation; without either it is dropped.
            block.bias |= !block.norm || block.skip == common::Skip::Projection || spec.one_dimensional;
        }
        spec.fc_bias = true;
        let device = Device::flex();
        let net = Net::new(spec, &device);
        let (network, analysis) = analysed(&net, &device);
        let plan = Planner::new()
            .budget(Budget::PerLayer(ratio))
            .plan(&network, &analysis, &Random { seed: policy_seed, connections: false })
            .unwrap();
        let x = net.input(3, &device);
        let expected = held(&net, &plan, x.clone(), &|layer, input| analysis.input_means[layer][input]);
        let got = plan.apply(&net).unwrap().logits_of(x);
        let off = difference(got, expected);
        prop_assert!(off < 2e-5, "{}", off);
    }
}

impl Net {
    fn logits_of(&self, x: Tensor<4>) -> Tensor<2> {
        burn_sfp_core::SfpModule::logits(self, x)
    }
}
