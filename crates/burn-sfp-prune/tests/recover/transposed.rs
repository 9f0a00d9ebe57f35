//! Transposed convolutions, one dimension, groups: removed channels that depend on kept ones cost nothing.

use burn::module::Module;
use burn::nn::conv::{Conv1d, Conv1dConfig, ConvTranspose1d, ConvTranspose1dConfig};
use burn::nn::{Linear, LinearConfig, PaddingConfig1d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use burn_sfp_core::{NoProgress, TensorCalibration};
use burn_sfp_graph::GraphModule;
use burn_sfp_nn::walk::map_params;
use burn_sfp_prune::{Planner, Recover, RecoveryStep, recover};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::draw::uniform;
use super::graph::inspect::{difference, edited};
use super::net::{Fill, LastFirst};

#[derive(Module, Debug)]
struct Up {
    stem: Conv1d,
    up: ConvTranspose1d,
    fc: Linear,
}

impl GraphModule for Up {
    type Inputs = Tensor<3>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<3>) -> Tensor<2> {
        let x = relu(self.up.forward(relu(self.stem.forward(x))));
        self.fc.forward(x.flatten(1, 2))
    }
}

#[test]
fn a_transposed_convolution_is_solved() {
    let device = Device::flex();
    for groups in [1, 2] {
        let net = Up {
            stem: Conv1dConfig::new(2, 8, 3).with_padding(PaddingConfig1d::Explicit(1, 1)).init(&device),
            up: ConvTranspose1dConfig::new([8, 6], 4).with_stride(2).with_padding(1).with_groups(groups).init(&device),
            fc: LinearConfig::new(6 * 10, 3).init(&device),
        };
        // In each group of those that read them, the second half of the channels are multiples of the first.
        let net = edited(&map_params(net, &mut Fill(ChaCha8Rng::seed_from_u64(41))), |path, _, values| {
            if path.starts_with("stem") {
                let group = values.len() / groups;
                values.chunks_mut(group).for_each(|own| {
                    let (first, second) = own.split_at_mut(group / 2);
                    second.iter_mut().zip(first).for_each(|(own, other)| *own = 1.5 * *other);
                });
            }
        });
        let x = uniform([20, 2, 5], -1.0, 1.0, &device);
        let planner = Planner::new().exclude(["up"]);
        let made = planner.prune(&net, &x, &LastFirst { masked: &[] }).unwrap();
        assert_eq!(made.model.up.weight.dims(), [4, 6 / groups, 4]);
        let data = TensorCalibration::new(x, vec![0; 20], 8);
        let config = Recover::only([RecoveryStep::LeastSquares]).patches(1 << 20).ridge(1e-9);
        let result = recover(&net, &made.model, &made.plan, &data, &config, &NoProgress).unwrap();
        let fresh = uniform([20, 2, 5], -1.0, 1.0, &device);
        let original = net.run(fresh.clone());
        assert!(difference(made.model.run(fresh.clone()), original.clone(), 1e-3) > 0.1, "{groups}");
        assert!(difference(result.model.run(fresh), original, 1e-3) < 2e-3, "{groups}");
    }
}
