//! [`ConnectionMask`]: removed connections as zeros that stay zero, whatever the optimiser does.

use burn::module::{Module, Param, Reparameterization};
use burn::tensor::{Tensor, TensorData};

/// Makes a weight's effective value `base * mask`, one bit for each pair of the weight's first two axes.
///
/// Attached to a parameter as a Burn reparameterisation, so it follows the module through training, records and
/// devices; `Module::materialize` folds it. The mask itself is not trained, and the gradient of a removed connection
/// is zero.
///
/// ```
/// use burn::module::Reparameterization;
/// use burn::tensor::{Device, Tensor};
/// use burn_sfp_prune::ConnectionMask;
///
/// let mask = ConnectionMask::new(2, 2, vec![true, false, true, true], &Device::flex());
/// let weight = Tensor::<3>::ones([2, 2, 1], &Device::flex());
/// assert_eq!(mask.apply(weight).into_data().iter::<f32>().collect::<Vec<_>>(), [1.0, 0.0, 1.0, 1.0]);
/// ```
#[derive(Module, Debug)]
pub struct ConnectionMask {
    mask: Param<Tensor<2>>,
}

impl ConnectionMask {
    /// A mask for a weight whose first axes have these lengths; missing bits count as removed.
    pub fn new(first: usize, second: usize, mut keep: Vec<bool>, device: &burn::tensor::Device) -> Self {
        keep.resize(first * second, false);
        let values: Vec<f32> = keep.into_iter().map(|keep| f32::from(u8::from(keep))).collect();
        let mask = Tensor::from_data(TensorData::new(values, [first, second]), device);
        Self { mask: Param::from_tensor(mask).set_require_grad(false) }
    }

    /// The mask, 1 for what stays.
    pub fn values(&self) -> Tensor<2> {
        self.mask.val()
    }
}

impl Reparameterization for ConnectionMask {
    const NAME: &'static str = "connection_mask";

    fn apply<const D: usize>(&self, base: Tensor<D>) -> Tensor<D> {
        let mask = self.mask.val().detach();
        let [first, second] = mask.dims();
        let mut shape = [1; D];
        shape[..2.min(D)].copy_from_slice(&[first, second][..2.min(D)]);
        base * mask.reshape(shape)
    }
}
