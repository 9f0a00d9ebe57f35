//! What a layer multiplies by its weight, gathered on a device by Burn's operations, for devices whose memory is not read here.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::window::Window;

impl Window {
    /// For each position of the output and each element of the kernel the position that it reads of an input of so many, which itself stands for
    /// a zero.
    pub fn indices(&self, inputs: usize, device: &Device) -> Tensor<1, Int> {
        let elements = self.elements();
        let read = |at: usize| self.source(at / elements, at % elements).unwrap_or(inputs) as i64;
        indices((0..self.positions(inputs) * elements).map(read).collect(), device)
    }

    /// The patches of all samples `[N, C, P]` under the [`indices`](Self::indices), `[N positions, C, elements]`.
    pub fn gather(&self, acts: Tensor<3>, indices: &Tensor<1, Int>) -> Tensor<3> {
        let [samples, channels, inputs] = acts.dims();
        let (positions, elements) = (self.positions(inputs), self.elements());
        if let Self::Same = self {
            return acts.permute([0, 2, 1]).reshape([samples * positions, channels, 1]);
        }
        let read: Tensor<4> =
            with_zero(acts).select(2, indices.clone()).reshape([samples, channels, positions, elements]);
        read.permute([0, 2, 1, 3]).reshape([samples * positions, channels, elements])
    }

    /// The patches with these numbers, sample by sample and position by position, `[rows, C, elements]`.
    pub fn gather_rows(&self, acts: Tensor<3>, rows: &[usize]) -> Tensor<3> {
        let ([samples, channels, inputs], device) = (acts.dims(), acts.device());
        let (positions, elements) = (self.positions(inputs).max(1), self.elements());
        let read = |row: &usize| {
            let (sample, position) = (row / positions, row % positions);
            (0..elements)
                .map(move |element| (sample * (inputs + 1) + self.source(position, element).unwrap_or(inputs)) as i64)
        };
        let read = indices(rows.iter().flat_map(read).collect(), &device);
        let all: Tensor<2> = with_zero(acts).permute([0, 2, 1]).reshape([samples * (inputs + 1), channels]);
        all.select(0, read).reshape([rows.len(), elements, channels]).permute([0, 2, 1])
    }
}

/// A tensor of indices.
pub(crate) fn indices(values: Vec<i64>, device: &Device) -> Tensor<1, Int> {
    let length = values.len();
    Tensor::from_data(TensorData::new(values, [length]), device)
}

/// The activations with a zero behind the last position.
fn with_zero(acts: Tensor<3>) -> Tensor<3> {
    let [samples, channels, _] = acts.dims();
    let zero = Tensor::zeros([samples, channels, 1], (&acts.device(), acts.dtype()));
    Tensor::cat(vec![acts, zero], 2)
}

#[cfg(test)]
pub(crate) mod tests {
    use burn::module::Module;
    use burn::nn::conv::{Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig};
    use burn::nn::{Linear, LinearConfig, PaddingConfig2d};
    use burn::tensor::activation::relu;
    use burn_sfp_graph::{GraphModule, Network};
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::super::gram::GramSums;
    use super::*;

    /// Padding, stride, dilation, groups, a transposed convolution, a flattened map.
    #[derive(Module, Debug)]
    struct Net {
        first: Conv2d,
        grouped: Conv2d,
        dilated: Conv2d,
        up: ConvTranspose2d,
        hidden: Linear,
        last: Linear,
    }

    impl Net {
        fn new(device: &Device) -> Self {
            let conv = |from, to| Conv2dConfig::new([from, to], [3, 3]);
            let padded = PaddingConfig2d::Explicit(1, 1, 1, 1);
            Self {
                first: conv(2, 4).init(device),
                grouped: conv(4, 6).with_groups(2).with_stride([2, 2]).with_padding(padded.clone()).init(device),
                dilated: conv(6, 3).with_dilation([2, 1]).with_padding(padded).init(device),
                up: ConvTranspose2dConfig::new([3, 4], [2, 2]).with_stride([2, 2]).init(device),
                hidden: LinearConfig::new(4 * 2 * 6, 5).init(device),
                last: LinearConfig::new(5, 3).init(device),
            }
        }
    }

    impl GraphModule for Net {
        type Inputs = Tensor<4>;
        type Outputs = Tensor<2>;
        fn run(&self, x: Tensor<4>) -> Tensor<2> {
            let x = relu(self.grouped.forward(relu(self.first.forward(x))));
            let x = relu(self.up.forward(relu(self.dilated.forward(x))));
            self.last.forward(relu(self.hidden.forward(x.flatten(1, 3))))
        }
    }

    pub(crate) fn numbers(shape: [usize; 3], rng: &mut ChaCha8Rng) -> Tensor<3> {
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect();
        Tensor::from_data(TensorData::new(values, shape), &Device::flex())
    }

    pub(crate) fn network() -> Network {
        let device = Device::flex();
        Network::capture(&Net::new(&device), &Tensor::zeros([2, 2, 8, 8], &device)).unwrap()
    }

    #[test]
    fn gram_matrices_are_those_of_the_cpu() {
        let (network, mut rng) = (network(), ChaCha8Rng::seed_from_u64(1));
        let mut compared = 0;
        for layer in network.layers() {
            // Exact, and with elements alike.
            for limit in [4096, 20] {
                let new = || GramSums::new(&network, layer, limit);
                let (Some(mut here), Some(mut there)) = (new(), new()) else { continue };
                let positions = layer.input_shape()[2..].iter().product::<usize>();
                for samples in [3, 2] {
                    let acts = numbers([samples, layer.inputs, positions], &mut rng);
                    here.add(&acts).unwrap();
                    there.add_on_device(&acts);
                }
                let (here, there) = (here.finish(5).unwrap().1, there.finish(5).unwrap().1);
                for (here, there) in here.groups.iter().zip(&there.groups) {
                    for ((a, b), value) in here.matrix.indexed_iter().filter(|((a, b), _)| a >= b) {
                        assert!(
                            (value - there.matrix[[a, b]]).abs() < 1e-4 * here.matrix[[a, a]].max(1.0),
                            "{}",
                            layer.path
                        );
                    }
                    assert_eq!(here.totals.len(), there.totals.len());
                    assert!(here.totals.iter().zip(&there.totals).all(|(a, b)| (a - b).abs() < 1e-4));
                    compared += 1;
                }
            }
        }
        assert!(compared >= 10, "{compared}");
    }
}
