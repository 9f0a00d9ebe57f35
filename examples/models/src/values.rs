//! The numbers in what a network returns.

use burn::tensor::{Bool, Int, Tensor};
use burn_sfp::prelude::{InputMapper, ModuleInput};

/// Returns the numbers of each float tensor.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use models::values::values;
///
/// let outputs = (Tensor::<1>::from_floats([1.0, 2.0], &Device::flex()), Tensor::<1>::from_floats([3.0], &Device::flex()));
/// assert_eq!(values(outputs), [vec![1.0, 2.0], vec![3.0]]);
/// ```
pub fn values<O: ModuleInput>(tensors: O) -> Vec<Vec<f64>> {
    struct Flat(Vec<Vec<f64>>);
    impl InputMapper for Flat {
        fn float<const D: usize>(&mut self, tensor: Tensor<D>) -> Tensor<D> {
            self.0.push(tensor.clone().into_data().iter::<f64>().collect());
            tensor
        }
        fn int<const D: usize>(&mut self, tensor: Tensor<D, Int>) -> Tensor<D, Int> {
            tensor
        }
        fn bool<const D: usize>(&mut self, tensor: Tensor<D, Bool>) -> Tensor<D, Bool> {
            tensor
        }
    }
    let mut flat = Flat(Vec::new());
    let _ = tensors.map_tensors(&mut flat);
    flat.0
}
