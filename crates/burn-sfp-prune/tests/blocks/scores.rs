//! What the streams around blocks say, against plain double precision, and the policies that go by it.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};
use burn_sfp_core::{DevicePool, NoProgress, TensorCalibration};
use burn_sfp_graph::GraphModule;
use burn_sfp_nn::Shrink;
use burn_sfp_prune::{
    BlockScore, Evidence, Keep, Magnitude, Needs, Planner, PolicyExt, Pruner, RankingPolicy, SfpRanking,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::inspect::{edited, values};
use crate::random::check_planned;

const WIDTH: usize = 6;

#[derive(Module, Debug, Shrink)]
struct Net {
    first: Linear,
    blocks: Vec<Linear>,
    last: Linear,
}

impl Net {
    fn new(device: &Device) -> Self {
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        let net = Self {
            first: linear(4, WIDTH),
            blocks: (0..4).map(|_| linear(WIDTH, WIDTH)).collect(),
            last: linear(WIDTH, 3),
        };
        // Values of their own, since the device's random numbers are those of all tests of the process. The third block does next to
        // nothing.
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        edited(&net, |path, _, values| {
            let most = if path.starts_with("blocks.2") { 5e-4 } else { 0.5 };
            values.iter_mut().for_each(|value| *value = rng.random_range(-most..most));
        })
    }

    /// The streams in front of the blocks and behind the last.
    fn streams(&self, x: Tensor<2>) -> Vec<Tensor<2>> {
        let mut streams = vec![relu(self.first.forward(x))];
        for block in &self.blocks {
            let x = streams[streams.len() - 1].clone();
            streams.push(x.clone() + relu(block.forward(x)));
        }
        streams
    }
}

impl GraphModule for Net {
    type Inputs = Tensor<2>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<2>) -> Tensor<2> {
        self.last.forward(self.streams(x).remove(self.blocks.len()))
    }
    fn shrinkable(&mut self) -> Option<&mut dyn Shrink> {
        Some(self)
    }
}

fn data(device: &Device) -> (Tensor<2>, Vec<usize>) {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let drawn: Vec<f32> = (0..60 * 4).map(|_| rng.random_range(-2.0..2.0)).collect();
    let x = Tensor::from_data(TensorData::new(drawn, [60, 4]), device);
    let label = |row: &[f32]| usize::from(row[0] * row[1] > 0.0) + usize::from(row[2] > row[3]);
    let labels = values(x.clone()).chunks(4).map(label).collect();
    (x, labels)
}

/// Least and most top-1 of ridge regression on centred class indicators, solved by elimination in double precision. They differ by the
/// samples that have two scores next to each other (of features that are all zero, for example).
fn readout_top1(features: &[f32], labels: &[usize], width: usize, classes: usize) -> [f64; 2] {
    let samples = labels.len();
    let x = |n: usize, f: usize| f64::from(features[n * width + f]);
    let gram = |a: usize, b: usize| (0..samples).map(|n| x(n, a) * x(n, b)).sum::<f64>();
    let trace: f64 = (0..width).map(|f| gram(f, f)).sum();
    let share = |c: usize| labels.iter().filter(|&&label| label == c).count() as f64 / samples as f64;
    let mut rows: Vec<Vec<f64>> = (0..width)
        .map(|a| {
            let shift = 0.01 * trace / width as f64;
            let left = (0..width).map(|b| gram(a, b) + if a == b { shift } else { 0.0 });
            let right = (0..classes)
                .map(|c| (0..samples).map(|n| x(n, a) * (f64::from(u8::from(labels[n] == c)) - share(c))).sum::<f64>());
            left.chain(right).collect()
        })
        .collect();
    for pivot in 0..width {
        let own = rows[pivot].clone();
        for (_, row) in rows.iter_mut().enumerate().filter(|(index, _)| *index != pivot) {
            let factor = row[pivot] / own[pivot];
            row.iter_mut().zip(&own).for_each(|(value, own)| *value -= factor * own);
        }
    }
    let weight = |f: usize, c: usize| rows[f][width + c] / rows[f][f];
    [1e-5, -1e-5].map(|margin| {
        let hits = (0..samples).filter(|&n| {
            let score = |c: usize| (0..width).map(|f| x(n, f) * weight(f, c)).sum::<f64>();
            let others = (0..classes).filter(|&c| c != labels[n]).map(score);
            score(labels[n]) > others.fold(f64::NEG_INFINITY, f64::max) + margin
        });
        hits.count() as f64 / samples as f64
    })
}

#[test]
fn streams_are_those_of_plain_passes() {
    let device = Device::flex();
    let net = Net::new(&device);
    let (x, labels) = data(&device);
    let streams: Vec<Vec<f32>> = net.streams(x.clone()).into_iter().map(values).collect();
    for batch in [60, 13] {
        let calibration = TensorCalibration::new(x.clone(), labels.clone(), batch);
        let evidence = Evidence::gather(&net, &calibration, Needs::none().blocks(), &NoProgress).unwrap();
        assert_eq!(evidence.blocks.len(), 4);
        for (index, pair) in streams.windows(2).enumerate() {
            let found = evidence.blocks[&format!("blocks.{index}")];
            for (features, accuracy) in pair.iter().zip([found.accuracy_before, found.accuracy_after]) {
                let [least, most] = readout_top1(features, &labels, WIDTH, 3);
                assert!(most - least < 0.05, "{index}: {least} {most}");
                assert!((least - 1e-9..most + 1e-9).contains(&accuracy), "{index}: {found:?} {least} {most}");
            }
            let squares = |of: &dyn Fn(f64, f64) -> f64| {
                pair[0].iter().zip(&pair[1]).map(|(a, b)| of(f64::from(*a), f64::from(*b))).sum::<f64>()
            };
            let change = (squares(&|a, b| (b - a) * (b - a)) / squares(&|a, _| a * a)).sqrt();
            assert!((found.change - change).abs() < 1e-6 * change, "{index}: {} {change}", found.change);
        }
        assert!(evidence.blocks["blocks.2"].change < 0.01);
    }
}

#[test]
fn devices_share_the_passes_over_streams() {
    let device = Device::flex();
    let net = Net::new(&device);
    let (x, labels) = data(&device);
    let calibration = TensorCalibration::new(x, labels, 13);
    let needs = || Needs::none().blocks();
    let on = |devices, chunk| {
        let pool = DevicePool::new((0..devices).map(|_| Device::flex())).chunk(chunk);
        Evidence::gather_on(&net, &calibration, needs(), &pool, &NoProgress).unwrap().blocks
    };
    let plain = Evidence::gather(&net, &calibration, needs(), &NoProgress).unwrap().blocks;
    // A single chunk is summed as without a pool.
    assert_eq!(on(2, 100), plain);
    let one = on(1, 1);
    assert_eq!(on(2, 1), one);
    assert_eq!(on(4, 1), one);
    assert_eq!(one.len(), plain.len());
    for (path, plain) in &plain {
        let change = one[path].change;
        assert!((change - plain.change).abs() < 1e-12 * plain.change, "{path}: {change} {}", plain.change);
        for (found, expected) in
            [(one[path].accuracy_before, plain.accuracy_before), (one[path].accuracy_after, plain.accuracy_after)]
        {
            // Readouts by sums in another order: a sample between two labels may go the other way.
            assert!((found - expected).abs() < 0.05, "{path}: {found} {expected}");
        }
    }
}

#[test]
fn the_block_that_does_least_goes_first() {
    let device = Device::flex();
    let net = Net::new(&device);
    let (x, labels) = data(&device);
    let calibration = TensorCalibration::new(x.clone(), labels, 20);
    let policy = SfpRanking::new().or(Magnitude::l2()).with_blocks(BlockScore::StreamChange);
    assert_eq!(policy.name(), "(sfp-ranking or magnitude-l2) with blocks by stream change");
    let pruned = Pruner::new(&calibration).policy(policy).budget(Keep::macs(0.85)).analyze_and_prune(&net).unwrap();
    let gone: Vec<&str> = pruned.plan.blocks.iter().map(|block| block.path.as_str()).collect();
    assert_eq!(gone, ["blocks.2"]);
    // By the readouts alone, and in one plan with widths.
    let evidence = Evidence::gather(&net, &calibration, Needs::none().blocks(), &NoProgress).unwrap();
    let policy = evidence.policy(Magnitude::l2().with_blocks(BlockScore::ReadoutGain));
    let smaller = Planner::new().budget(Keep::macs(0.4)).prune(&net, &x, &policy).unwrap();
    assert!(!smaller.plan.blocks.is_empty());
    check_planned(&net, &x, &smaller).unwrap();
}
