//! [`Fingerprint`]: which values the parameters of a model have.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::module::{Module, Param};
use burn::tensor::{DType, Tensor, TensorData};
use burn_sfp_nn::NnError;
use burn_sfp_nn::tensor::shared_data;
use burn_sfp_nn::walk::{ParamPath, ParamVisitor, visit_params};
use serde::{Deserialize, Serialize};

use crate::error::panic_message;

/// A checksum (CRC-32) of each float parameter and running statistic of a model, by module path. It tells two checkpoints of one
/// architecture apart.
///
/// It is the same on every device and for every number of threads, as long as the values are the same bit for bit. A copy of a model in
/// another precision has other values, and counts as another checkpoint. Quantised parameters have no checksum.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::tensor::Device;
/// use burn_sfp_graph::Fingerprint;
///
/// let layer = LinearConfig::new(4, 3).init(&Device::flex());
/// let other = LinearConfig::new(4, 3).init(&Device::flex());
/// let fingerprint = Fingerprint::of(&layer)?;
/// assert_eq!(fingerprint, Fingerprint::of(&layer.clone())?);
/// assert_eq!(fingerprint.difference(&Fingerprint::of(&other)?), Some("bias"));
/// # Ok::<(), burn_sfp_nn::NnError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(BTreeMap<String, u32>);

impl Fingerprint {
    /// Reads all float parameters of a model, each once, and takes their checksums.
    ///
    /// # Errors
    /// [`NnError::Read`] where a device does not give the values.
    pub fn of<M: Module>(model: &M) -> Result<Self, NnError> {
        struct Take(Fingerprint);
        impl ParamVisitor for Take {
            fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D>>) {
                let value = param.base();
                if !matches!(value.dtype(), DType::QFloat(_)) {
                    self.0.add(path.join(), &shared_data(value));
                }
            }
        }
        let read = || {
            let mut take = Take(Self::default());
            visit_params(model, &mut take);
            take.0
        };
        catch_unwind(AssertUnwindSafe(read)).map_err(|payload| NnError::Read { message: panic_message(payload) })
    }

    /// Adds the checksum of a parameter, unless it is quantised.
    pub(crate) fn add(&mut self, path: String, data: &TensorData) {
        if !matches!(data.dtype(), DType::QFloat(_)) {
            self.0.insert(path, crc32fast::hash(data.as_bytes()));
        }
    }

    /// The path of the first parameter, in alphabetical order, that both know and whose values differ; `None` where there is none.
    pub fn difference<'a>(&'a self, other: &Self) -> Option<&'a str> {
        let mut paths = self.0.iter().filter(|(path, own)| other.0.get(*path).is_some_and(|theirs| theirs != *own));
        paths.next().map(|(path, _)| path.as_str())
    }

    /// The paths of the parameters, in alphabetical order.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{GraphModule, Network};
    use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
    use burn::tensor::{Device, s};

    #[derive(Module, Debug)]
    struct Net {
        fc: Linear,
        norm: BatchNorm,
        unused: Linear,
    }

    impl GraphModule for Net {
        type Inputs = Tensor<2>;
        type Outputs = Tensor<2>;
        fn run(&self, x: Tensor<2>) -> Tensor<2> {
            self.norm.forward(self.fc.forward(x).reshape([0, -1, 1])).flatten(1, 2)
        }
    }

    fn net(device: &Device) -> Net {
        let linear = || LinearConfig::new(3, 4).init(device);
        Net { fc: linear(), norm: BatchNormConfig::new(4).init(device), unused: linear() }
    }

    #[test]
    #[allow(deprecated)]
    fn a_network_has_the_fingerprint_of_its_model_on_every_device_and_in_training() {
        let net = net(&Device::flex());
        let expected = Fingerprint::of(&net).unwrap();
        let paths: Vec<&str> = expected.paths().collect();
        assert_eq!(paths.len(), 8, "{paths:?}");
        for device in [Device::flex(), Device::ndarray()] {
            let there = net.clone().to_device(&device);
            assert_eq!(Fingerprint::of(&there).unwrap(), expected);
            assert_eq!(Fingerprint::of(&there.clone().train()).unwrap(), expected);
            let network = Network::capture(&there, &Tensor::zeros([2, 3], &device)).unwrap();
            assert_eq!(*network.fingerprint(), expected);
        }
    }

    #[test]
    fn every_changed_value_shows() {
        let net = net(&Device::flex());
        let before = Fingerprint::of(&net).unwrap();
        assert_eq!(before.difference(&before.clone()), None);
        let mut other = net.clone();
        other.unused.bias = other.unused.bias.map(|bias| bias.map(|bias| bias.slice_fill(s![1..2], 7.0)));
        assert_eq!(before.difference(&Fingerprint::of(&other).unwrap()), Some("unused.bias"));
        let mut negative = net.clone();
        negative.norm.beta = negative.norm.beta.map(|beta| beta.neg());
        assert_eq!(before.difference(&Fingerprint::of(&negative).unwrap()), Some("norm.beta"));
    }
}
