//! Biases, scales and running statistics that a freshly made network does not have: with zeros and ones, tests would see nothing of them.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, TensorData};
use burn_sfp::nn::walk::{ParamMapper, ParamPath, map_params};

/// Numbers between -1 and 1, the same ones for the same seed (SplitMix64, Steele et al., "Fast splittable pseudorandom number generators",
/// 2014).
#[derive(Clone, Debug)]
pub struct Noise(u64);

impl Noise {
    /// Starts at a seed.
    ///
    /// ```
    /// use zoo_elsewhere::random::Noise;
    /// assert_eq!(Noise::new(1).next(), Noise::new(1).next());
    /// assert_ne!(Noise::new(1).next(), Noise::new(2).next());
    /// ```
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        // 24 bits, as many as a float holds.
        (z >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// Adds numbers between -0.3 and 0.3 to every vector (biases, scales, running statistics) and to every bias of more axes. Scales and
/// variances of a freshly made network, which are 1, stay positive.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::tensor::Device;
/// use zoo_elsewhere::random::vary;
///
/// let layer = LinearConfig::new(2, 3).init(&Device::flex());
/// let bias = |layer: &burn::nn::Linear| layer.bias.as_ref().unwrap().to_data();
/// let varied = vary(layer.clone(), 1);
/// assert_eq!(varied.weight.to_data(), layer.weight.to_data());
/// assert_ne!(bias(&varied), bias(&layer));
/// ```
pub fn vary<M: Module>(network: M, seed: u64) -> M {
    map_params(network, &mut Vary(Noise::new(seed)))
}

struct Vary(Noise);

impl ParamMapper for Vary {
    fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if D > 1 && !path.name().contains("bias") {
            return param;
        }
        param.map(|old| {
            let shape = old.dims();
            let values: Vec<f32> = (0..shape.iter().product()).map(|_| 0.3 * self.0.next()).collect();
            let device = old.device();
            old + Tensor::from_data(TensorData::new(values, shape), &device)
        })
    }
}
