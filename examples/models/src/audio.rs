//! Convolutional networks on raw sound ("Very Deep Convolutional Neural Networks for Raw Waveforms", Dai et al. 2016,
//! arXiv 1610.00087).

use burn::nn::conv::{Conv1d, Conv1dConfig};
use burn::nn::pool::{MaxPool1d, MaxPool1dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig1d};
use burn::prelude::*;
use burn::tensor::activation::relu;
use burn_sfp::prelude::{GraphModule, Shrink};

/// Configuration of an [`Audio`].
#[derive(Config, Debug)]
pub struct AudioConfig {
    /// Output channels of the convolutions, in groups with a pooling between any two.
    pub widths: Vec<Vec<usize>>,
    /// Kernel of the first convolution; all others have 3.
    #[config(default = 80)]
    pub kernel: usize,
    /// Channels of the sound.
    #[config(default = 1)]
    pub channels: usize,
    /// Number of classes.
    #[config(default = 10)]
    pub classes: usize,
}

impl AudioConfig {
    /// M5: four convolutions and the classifier, for 32,000 samples (four seconds).
    ///
    /// Published: 0.5 M parameters (the paper's table 1; 559,114 here).
    pub fn m5() -> Self {
        Self::new(vec![vec![128], vec![128], vec![256], vec![512]])
    }

    /// M11: ten convolutions and the classifier, for 32,000 samples (four seconds).
    ///
    /// Published: 1.8 M parameters (the paper's table 1; 1,786,442 here).
    pub fn m11() -> Self {
        Self::new(vec![vec![64], vec![64; 2], vec![128; 2], vec![256; 3], vec![512; 2]])
    }

    /// A reduced variant for tests, for 512 samples.
    pub fn tiny() -> Self {
        Self::new(vec![vec![8], vec![8; 2], vec![12; 2]]).with_kernel(16)
    }

    /// Makes the network.
    pub fn init(&self, device: &Device) -> Audio {
        let mut input = self.channels;
        let groups = self.widths.iter().enumerate().map(|(index, widths)| {
            let blocks = widths.iter().enumerate().map(|(place, &output)| {
                // The first convolution divides the length by exactly four.
                let (kernel, stride) = if index + place == 0 { (self.kernel, 4) } else { (3, 1) };
                let conv = Conv1dConfig::new(std::mem::replace(&mut input, output), output, kernel)
                    .with_stride(stride)
                    .with_padding(PaddingConfig1d::Explicit((kernel - stride) / 2, (kernel - stride) / 2));
                Block { conv: conv.init(device), norm: BatchNormConfig::new(output).init(device) }
            });
            blocks.collect()
        });
        let groups = groups.collect();
        Audio {
            groups,
            pool: MaxPool1dConfig::new(4).with_stride(4).init(),
            head: LinearConfig::new(input, self.classes).init(device),
        }
    }
}

/// A first convolution wide enough for low notes, then narrow ones; a linear layer on the mean over time.
///
/// `[samples, channels, length]` to `[samples, classes]`.
#[derive(Module, Debug, Shrink)]
pub struct Audio {
    /// The convolutions, a pooling between any two groups.
    pub groups: Vec<Vec<Block>>,
    /// Divides the length by four.
    pub pool: MaxPool1d,
    /// The classifier.
    pub head: Linear,
}

impl GraphModule for Audio {
    type Inputs = Tensor<3>;
    type Outputs = Tensor<2>;

    fn run(&self, sound: Tensor<3>) -> Tensor<2> {
        let mut x = sound;
        for (index, group) in self.groups.iter().enumerate() {
            if index > 0 {
                x = self.pool.forward(x);
            }
            x = group.iter().fold(x, |x, block| block.forward(x));
        }
        self.head.forward(x.mean_dim(2).squeeze_dim::<2>(2))
    }

    fn shrinkable(&mut self) -> Option<&mut dyn Shrink> {
        Some(self)
    }
}

/// A convolution, batch normalisation, ReLU.
#[derive(Module, Debug, Shrink)]
pub struct Block {
    /// The convolution; it has a bias, which the published number of parameters counts.
    pub conv: Conv1d,
    /// The normalisation.
    pub norm: BatchNorm,
}

impl Block {
    /// `[samples, input, length]` to `[samples, output, length / stride]`.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        relu(self.norm.forward(self.conv.forward(x)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parameters without running statistics.
    fn parameters(config: &AudioConfig) -> usize {
        let channels: usize = config.widths.iter().flatten().sum();
        config.init(&Device::flex()).num_params() - 2 * channels
    }

    #[test]
    fn published_sizes() {
        assert_eq!(parameters(&AudioConfig::m5()), 559_114);
        assert_eq!(parameters(&AudioConfig::m11()), 1_786_442);
    }

    #[test]
    fn the_first_convolution_divides_by_four() {
        let device = Device::flex();
        let model = AudioConfig::m5().init(&device);
        let sound = Tensor::zeros([1, 1, 32_000], &device);
        assert_eq!(model.groups[0][0].forward(sound).dims(), [1, 128, 8_000]);
    }

    #[test]
    fn tiny_runs() {
        let model = AudioConfig::tiny().init(&Device::flex());
        crate::testing::runs(|x| model.run(x), [1, 1, 512], [1, 10]);
    }
}
