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

/// Returns the largest difference of what two networks return over the largest value of the second.
///
/// ```
/// use models::values::difference;
///
/// assert_eq!(difference(&[vec![1.0, 2.0]], &[vec![1.0, 4.0]]), 0.5);
/// ```
pub fn difference(found: &[Vec<f64>], expected: &[Vec<f64>]) -> f64 {
    let pairs = found.iter().flatten().zip(expected.iter().flatten());
    let (most, largest) =
        pairs.fold((0.0, 0.0), |(most, largest): (f64, f64), (a, b)| (most.max((a - b).abs()), largest.max(b.abs())));
    if largest > 0.0 { most / largest } else { most }
}
