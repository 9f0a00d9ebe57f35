//! Single weights at zero: the control that is no mask over connections.

use std::collections::BTreeMap;

use burn::module::{Module, Param, Reparameterization, Reparameterizer};
use burn::tensor::{Tensor, TensorData};
use burn_sfp::nn::walk::{ParamMapper, ParamPath, map_params};

use super::{LAYERS, Late};
use crate::model::Vgg11;

/// Sets the share of each weight's elements with the smallest absolute values to zero; shares by the path of the weight.
pub(super) fn without_smallest(late: Late, shares: &BTreeMap<String, f64>) -> Late {
    map_params(late, &mut Smallest(shares))
}

struct Smallest<'a>(&'a BTreeMap<String, f64>);

impl ParamMapper for Smallest<'_> {
    fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(share) = self.0.get(&path.join()) else { return param };
        param.map(|weight| {
            let mut values: Vec<f32> = weight.clone().into_data().iter::<f32>().collect();
            let mut order: Vec<usize> = (0..values.len()).collect();
            order.sort_by(|&a, &b| values[a].abs().total_cmp(&values[b].abs()).then(a.cmp(&b)));
            let gone = (share * values.len() as f64).round() as usize;
            order.into_iter().take(gone).for_each(|k| values[k] = 0.0);
            Tensor::from_data(TensorData::new(values, weight.dims()), &weight.device())
        })
    }
}

/// Makes a weight's value `base * mask`, with an element of the mask for each of the weight.
#[derive(Module, Debug)]
pub(super) struct WeightMask {
    mask: Param<Tensor<1>>,
}

impl Reparameterization for WeightMask {
    const NAME: &'static str = "weight_mask";

    fn apply<const D: usize>(&self, base: Tensor<D>) -> Tensor<D> {
        let (mask, device) = (self.mask.val().detach(), base.device());
        let mask = if mask.device() == device { mask } else { mask.to_device(&device) };
        let shape = base.dims();
        base * mask.reshape(shape)
    }
}

/// Holds the weights of the late layers that are zero at zero, whatever an optimiser does.
pub(super) fn held(model: Vgg11) -> Vgg11 {
    struct Hold;
    impl Reparameterizer for Hold {
        type Reparam = WeightMask;

        fn reparameterize<const D: usize>(
            &mut self,
            path: &str,
            param: Param<Tensor<D>>,
        ) -> (Param<Tensor<D>>, Option<WeightMask>) {
            if !LAYERS.iter().any(|layer| path.strip_prefix(layer) == Some(".weight")) {
                return (param, None);
            }
            let weight = param.val();
            let mask: Vec<f32> = weight.to_data().iter::<f32>().map(|value| f32::from(value != 0.0)).collect();
            let mask = Tensor::<1>::from_data(TensorData::from(mask.as_slice()), &weight.device());
            (param, Some(WeightMask { mask: Param::from_tensor(mask).set_require_grad(false) }))
        }
    }
    model.apply_reparameterization(Hold)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Vgg11Config;
    use burn::tensor::Device;

    #[test]
    fn the_smallest_go() {
        let late = Late { net: Vgg11Config::new().with_width(2).init(&Device::flex()) };
        let before: Vec<f32> = late.net.fc.weight.val().into_data().iter::<f32>().collect();
        let shares = BTreeMap::from([("net.fc.weight".to_string(), 0.75)]);
        let after = without_smallest(late.clone(), &shares);
        let values: Vec<f32> = after.net.fc.weight.val().into_data().iter::<f32>().collect();
        let gone = values.iter().filter(|value| **value == 0.0).count();
        assert_eq!(gone, values.len() * 3 / 4);
        let most =
            before.iter().zip(&values).filter(|(_, after)| **after == 0.0).map(|(w, _)| w.abs()).fold(0.0, f32::max);
        assert!(values.iter().all(|value| *value == 0.0 || value.abs() >= most));
        assert_eq!(late.net.convs[7].weight.val().into_data(), after.net.convs[7].weight.val().into_data());
        let moved = held(after.net).fc.weight.val().into_data();
        assert!(values.iter().zip(moved.iter::<f32>()).all(|(before, after)| *before == after));
    }
}
