//! Two convolutions with normalisation and a classifier, and what is known of them.

use burn::module::{Module, Param};
use burn::nn::conv::Conv2dConfig;
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};
use burn_sfp_core::{Analysis, AnalyzeConfig, NoProgress, TensorCalibration, analyze_network};
use burn_sfp_graph::{GraphModule, Network};
use burn_sfp_nn::SparseConv2d;
use burn_sfp_nn::walk::{ParamMapper, ParamPath, map_params};
use burn_sfp_prune::{Connections, Evidence, Needs, PolicyContext, PruneError, RankingPolicy};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub const SIDE: usize = 4;
pub const CLASSES: usize = 3;
pub const SAMPLES: usize = 17;
pub const LAYERS: [&str; 2] = ["second", "fc"];

#[derive(Module, Debug)]
pub struct Net {
    pub first: SparseConv2d,
    pub first_norm: BatchNorm,
    pub second: SparseConv2d,
    pub second_norm: BatchNorm,
    pub fc: Linear,
}

impl Net {
    /// Widths of the convolutions.
    pub fn new(widths: [usize; 2], seed: u64) -> Self {
        let device = Device::flex();
        let conv = |from, to| {
            let config = Conv2dConfig::new([from, to], [3, 3]).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1));
            config.init(&device).into()
        };
        let norm = |width| BatchNormConfig::new(width).init(&device);
        let model = Self {
            first: conv(2, widths[0]),
            first_norm: norm(widths[0]),
            second: conv(widths[0], widths[1]),
            second_norm: norm(widths[1]),
            fc: LinearConfig::new(widths[1] * SIDE * SIDE, CLASSES).with_bias(false).init(&device),
        };
        map_params(model, &mut Fill(ChaCha8Rng::seed_from_u64(seed)))
    }

    /// What the second convolution reads, what it returns, what is made of that.
    pub fn around_second(&self, x: Tensor<4>) -> [Tensor<4>; 3] {
        let read = relu(self.first_norm.forward(self.first.forward(x)));
        let returned = self.second.forward(read.clone());
        [read, returned.clone(), relu(self.second_norm.forward(returned))]
    }
}

impl GraphModule for Net {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<4>) -> Tensor<2> {
        let [_, _, x] = self.around_second(x);
        self.fc.forward(x.flatten(1, 3))
    }
}

/// Draws values by the name of the parameter: scales and variances are positive.
struct Fill(ChaCha8Rng);

impl ParamMapper for Fill {
    fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let positive = ["running_var", "gamma"].contains(&path.name());
        let (low, high) = if positive { (0.3, 1.7) } else { (-0.5, 0.5) };
        param.map(|old| {
            let values: Vec<f32> = (0..old.shape().num_elements()).map(|_| self.0.random_range(low..high)).collect();
            Tensor::from_data(TensorData::new(values, old.dims()), &Device::flex())
        })
    }
}

pub fn images() -> Tensor<4> {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let values: Vec<f32> = (0..SAMPLES * 2 * SIDE * SIDE).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_data(TensorData::new(values, [SAMPLES, 2, SIDE, SIDE]), &Device::flex())
}

pub fn calibration() -> TensorCalibration<Tensor<4>> {
    TensorCalibration::new(images(), (0..SAMPLES).map(|k| k % CLASSES).collect(), 5)
}

/// All that a policy can consult.
pub struct Known {
    pub network: Network,
    pub analysis: Analysis,
    pub evidence: Evidence,
}

impl Known {
    pub fn of(net: &Net) -> Self {
        let config = AnalyzeConfig::new().with_threshold(0.4).with_state(true);
        let (network, analysis) = analyze_network(net, &calibration(), &config, &NoProgress).unwrap();
        let needs = Needs::none().inputs(4608).outputs();
        let evidence = Evidence::gather(net, &calibration(), needs, &NoProgress).unwrap();
        Self { network, analysis, evidence }
    }

    pub fn context(&self) -> PolicyContext<'_> {
        PolicyContext::new(&self.network, &self.analysis).with_evidence(&self.evidence)
    }

    pub fn rank(&self, policy: &dyn RankingPolicy) -> Result<Masks, PruneError> {
        Ok(policy.rank(&self.context())?.connections)
    }

    /// The kernels of a layer, output by output.
    pub fn kernels(&self, path: &str) -> Vec<Vec<Vec<f32>>> {
        let kernels = self.context().kernels(self.network.layer(path).unwrap()).unwrap();
        let (outputs, inputs) = kernels.shape();
        let row = |output| (0..inputs).map(|input| kernels.kernel(output, input).to_vec()).collect();
        (0..outputs).map(row).collect()
    }

    /// The norms of the kernels, output by output.
    pub fn norms(&self, path: &str) -> Vec<f64> {
        let norm = |kernel: &Vec<f32>| kernel.iter().map(|&w| f64::from(w) * f64::from(w)).sum::<f64>().sqrt();
        self.kernels(path).iter().flatten().map(norm).collect()
    }
}

pub type Masks = std::collections::BTreeMap<String, Connections>;

/// Which connections stay, output by output.
pub fn bits(mask: &Connections) -> Vec<bool> {
    let (outputs, inputs) = mask.shape();
    (0..outputs * inputs).map(|k| mask.keeps(k / inputs, k % inputs)).collect()
}

/// The `count` highest of these scores, those of which `first` says yes before others.
pub fn highest(scores: &[f64], first: &[bool], count: usize) -> Vec<bool> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| first[b].cmp(&first[a]).then(scores[b].total_cmp(&scores[a])));
    let mut keep = vec![false; scores.len()];
    order.into_iter().take(count).for_each(|k| keep[k] = true);
    keep
}

/// Rows of values of a map, `[samples][channels][positions]`.
pub fn values(map: &Tensor<4>) -> Vec<Vec<Vec<f64>>> {
    let [samples, channels, height, width] = map.dims();
    let all: Vec<f64> = map.clone().into_data().iter::<f64>().collect();
    let at = |n: usize, c: usize| (n * channels + c) * height * width;
    (0..samples).map(|n| (0..channels).map(|c| all[at(n, c)..at(n, c) + height * width].to_vec()).collect()).collect()
}
