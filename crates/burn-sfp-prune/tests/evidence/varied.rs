//! A network with a grouped, a transposed and a depthwise convolution, a layer along positions and a layer on vectors.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv1d, Conv1dConfig, ConvTranspose1d, ConvTranspose1dConfig};
use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig, PaddingConfig1d};
use burn::tensor::activation::{gelu, relu};
use burn::tensor::{Device, Tensor, TensorData};
use burn_sfp_graph::GraphModule;
use burn_sfp_nn::walk::{ParamMapper, ParamPath, map_params};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Draws values that are positive more often than not, so that few outputs are dead.
struct Fill(ChaCha8Rng);

impl ParamMapper for Fill {
    fn float<const D: usize>(&mut self, _: ParamPath<'_>, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|old| {
            let values: Vec<f32> = (0..old.shape().num_elements()).map(|_| self.0.random_range(-0.5..0.7)).collect();
            Tensor::from_data(TensorData::new(values, old.dims()), &old.device())
        })
    }
}

pub const LENGTH: usize = 6;

#[derive(Module, Debug)]
pub struct Varied {
    pub stem: Conv1d,
    pub grouped: Conv1d,
    pub up: ConvTranspose1d,
    pub depthwise: Conv1d,
    pub hidden: Linear,
    pub dropout: Dropout,
    pub fc: Linear,
}

impl Varied {
    pub fn new(device: &Device) -> Self {
        let padding = |k| PaddingConfig1d::Explicit(k, k);
        let model = Self {
            stem: Conv1dConfig::new(3, 4, 3).with_padding(padding(1)).init(device),
            grouped: Conv1dConfig::new(4, 6, 3).with_groups(2).with_stride(2).with_padding(padding(2)).init(device),
            up: ConvTranspose1dConfig::new([6, 4], 4).with_stride(3).with_padding(1).with_padding_out(1).init(device),
            depthwise: Conv1dConfig::new(4, 4, 3).with_groups(4).init(device),
            hidden: LinearConfig::new(4, 5).init(device),
            dropout: DropoutConfig::new(0.5).init(),
            fc: LinearConfig::new(5, 3).init(device),
        };
        map_params(model, &mut Fill(ChaCha8Rng::seed_from_u64(5)))
    }

    /// The inputs of `grouped`, `up`, `depthwise`, `hidden` and `fc`.
    pub fn inputs(&self, x: Tensor<3>) -> (Tensor<3>, Tensor<3>, Tensor<3>, Tensor<2>, Tensor<2>) {
        let stem = relu(self.stem.forward(x));
        let grouped = relu(self.grouped.forward(stem.clone()));
        let up = relu(self.up.forward(grouped.clone()));
        let pooled = relu(self.depthwise.forward(up.clone())).mean_dim(2).squeeze_dim::<2>(2);
        let hidden = self.dropout.forward(gelu(self.hidden.forward(pooled.clone())));
        (stem, grouped, up, pooled, hidden)
    }
}

impl GraphModule for Varied {
    type Inputs = Tensor<3>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<3>) -> Tensor<2> {
        self.fc.forward(self.inputs(x).4)
    }
}

pub fn signals(samples: usize, device: &Device) -> (Tensor<3>, Vec<usize>) {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let values: Vec<f32> = (0..samples * 3 * LENGTH).map(|_| rng.random_range(-1.0..1.0)).collect();
    let x = Tensor::from_data(TensorData::new(values, [samples, 3, LENGTH]), device);
    (x, (0..samples).map(|k| k % 3).collect())
}

/// The output of a convolution is read along its positions by a linear layer.
#[derive(Module, Debug)]
pub struct Mixer {
    pub conv: Conv1d,
    pub mix: Linear,
    pub fc: Linear,
}

impl Mixer {
    pub fn new(device: &Device) -> Self {
        let model = Self {
            conv: Conv1dConfig::new(3, 4, 3).with_padding(PaddingConfig1d::Explicit(1, 1)).init(device),
            mix: LinearConfig::new(LENGTH, 5).init(device),
            fc: LinearConfig::new(4 * 5, 3).init(device),
        };
        map_params(model, &mut Fill(ChaCha8Rng::seed_from_u64(6)))
    }
}

impl GraphModule for Mixer {
    type Inputs = Tensor<3>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<3>) -> Tensor<2> {
        let y = relu(self.mix.forward(relu(self.conv.forward(x))));
        self.fc.forward(y.flatten::<2>(1, 2))
    }
}
