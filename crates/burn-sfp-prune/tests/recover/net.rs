//! A network of convolutions with padding, stride, dilation and groups, with and without bias, normalisation and a residual sum, and of
//! linear layers; it tells what each layer reads and returns.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};
use burn_sfp_core::TensorCalibration;
use burn_sfp_graph::GraphModule;
use burn_sfp_nn::Shrink;
use burn_sfp_nn::walk::{ParamMapper, ParamPath, map_params};
use burn_sfp_prune::{Connections, PolicyContext, PruneError, Ranking, RankingPolicy};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub const SIDE: usize = 8;
pub const CLASSES: usize = 3;

#[derive(Module, Debug, Shrink)]
pub struct Net {
    pub first: Conv2d,
    pub grouped: Conv2d,
    pub norm: BatchNorm,
    pub dilated: Conv2d,
    pub sum_norm: BatchNorm,
    pub hidden: Linear,
    pub classifier: Linear,
}

/// What a layer reads and returns, `[samples, channels, height, width]`, and how.
pub struct Seen {
    pub path: &'static str,
    pub input: Tensor<4>,
    pub output: Tensor<4>,
    pub geometry: Geometry,
}

#[derive(Clone, Copy)]
pub struct Geometry {
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
    pub dilation: usize,
    pub groups: usize,
    /// Whether the weight counts outputs along its first axis.
    pub outputs_first: bool,
}

impl Net {
    pub fn new(seed: u64) -> Self {
        let device = Device::flex();
        let conv = |from, to| Conv2dConfig::new([from, to], [3, 3]);
        let model = Self {
            first: conv(2, 8).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1)).init(&device),
            grouped: conv(8, 12)
                .with_groups(2)
                .with_stride([2, 2])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .with_bias(false)
                .init(&device),
            norm: BatchNormConfig::new(12).init(&device),
            dilated: conv(12, 12)
                .with_dilation([2, 2])
                .with_padding(PaddingConfig2d::Explicit(2, 2, 2, 2))
                .with_bias(false)
                .init(&device),
            sum_norm: BatchNormConfig::new(12).init(&device),
            hidden: LinearConfig::new(12 * SIDE * SIDE / 4, 10).init(&device),
            classifier: LinearConfig::new(10, CLASSES).with_bias(false).init(&device),
        };
        map_params(model, &mut Fill(ChaCha8Rng::seed_from_u64(seed)))
    }

    /// The logits, what each layer reads and returns, and what reaches each normalisation.
    pub fn trace(&self, x: Tensor<4>) -> (Tensor<2>, Vec<Seen>, Vec<(&'static str, Tensor<4>)>) {
        let geometry = |conv: &Conv2d, padding| Geometry {
            kernel: 3,
            stride: conv.stride[0],
            padding,
            dilation: conv.dilation[0],
            groups: conv.groups,
            outputs_first: true,
        };
        let flat = Geometry { kernel: 1, stride: 1, padding: 0, dilation: 1, groups: 1, outputs_first: false };
        let (mut seen, mut normed) = (Vec::new(), Vec::new());
        let mut see = |path, input: &Tensor<4>, output: &Tensor<4>, geometry| {
            seen.push(Seen { path, input: input.clone(), output: output.clone(), geometry });
        };
        let y = self.first.forward(x.clone());
        see("first", &x, &y, geometry(&self.first, 1));
        let x = relu(y);
        let y = self.grouped.forward(x.clone());
        see("grouped", &x, &y, geometry(&self.grouped, 1));
        normed.push(("norm", y.clone()));
        let x = relu(self.norm.forward(y));
        let y = self.dilated.forward(x.clone());
        see("dilated", &x, &y, geometry(&self.dilated, 2));
        let sum = x + y;
        normed.push(("sum_norm", sum.clone()));
        let x = relu(self.sum_norm.forward(sum)).flatten::<2>(1, 3);
        let unflat = |x: &Tensor<2>| x.clone().unsqueeze_dims::<4>(&[2, 3]);
        let y = self.hidden.forward(x.clone());
        see("hidden", &unflat(&x), &unflat(&y), flat);
        let x = relu(y);
        let logits = self.classifier.forward(x.clone());
        see("classifier", &unflat(&x), &unflat(&logits), flat);
        (logits, seen, normed)
    }
}

impl GraphModule for Net {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<4>) -> Tensor<2> {
        self.trace(x).0
    }
    fn shrinkable(&mut self) -> Option<&mut dyn Shrink> {
        Some(self)
    }
}

/// Draws values by the name of the parameter: scales and variances are positive.
pub struct Fill(pub ChaCha8Rng);

impl ParamMapper for Fill {
    fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let positive = ["running_var", "gamma"].contains(&path.name());
        let (low, high) = if positive { (0.5, 1.5) } else { (-0.4, 0.4) };
        param.map(|old| {
            let values: Vec<f32> = (0..old.shape().num_elements()).map(|_| self.0.random_range(low..high)).collect();
            Tensor::from_data(TensorData::new(values, old.dims()), &Device::flex())
        })
    }
}

pub fn images(samples: usize, seed: u64) -> Tensor<4> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f32> = (0..samples * 2 * SIDE * SIDE).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_data(TensorData::new(values, [samples, 2, SIDE, SIDE]), &Device::flex())
}

/// Batches of five, the last one smaller.
pub fn calibration(samples: usize) -> TensorCalibration<Tensor<4>> {
    TensorCalibration::new(images(samples, 11), vec![0; samples], 5)
}

/// Removes the last of each layer's filters first, and in `masked` layers the connections with `(3 output + input) % 4 = 0`.
pub struct LastFirst {
    pub masked: &'static [&'static str],
}

impl RankingPolicy for LastFirst {
    fn name(&self) -> String {
        "last first".into()
    }

    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        let mut ranking = Ranking::default();
        for layer in context.prunable_layers() {
            let scores = (0..layer.filters).map(|filter| (layer.filters - filter) as f64).collect();
            ranking.filters.insert(layer.path.clone(), scores);
        }
        for layer in context.network.layers().iter().filter(|layer| self.masked.contains(&layer.path.as_str())) {
            let keep = Connections::from_fn(layer.filters, layer.inputs, |output, input| {
                !(3 * output + input).is_multiple_of(4)
            });
            ranking.connections.insert(layer.path.clone(), keep);
        }
        Ok(ranking)
    }
}
