//! Reading and editing the values of modules, and comparing outputs, written without the library's rewriting.

#![allow(dead_code)] // every test takes its share

use burn::module::{Module, Param};
use burn::tensor::{Bool, Int, Tensor, TensorData};
use burn_sfp_graph::{InputMapper, ModuleInput};
use burn_sfp_nn::walk::{ParamMapper, ParamPath, ParamVisitor, map_params, visit_params};

/// Returns a copy of the model after `edit` has seen every parameter and running statistic: its path, its shape, its values.
pub fn edited<M: Module>(model: &M, edit: impl FnMut(&str, &[usize], &mut [f32])) -> M {
    struct Edit<F>(F);
    impl<F: FnMut(&str, &[usize], &mut [f32])> ParamMapper for Edit<F> {
        fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let path = path.join();
            param.map(|old| {
                let (dims, device) = (old.dims(), old.device());
                let mut values = values(old);
                (self.0)(&path, &dims, &mut values);
                Tensor::from_data(TensorData::new(values, dims), &device)
            })
        }
    }
    map_params(model.valid(), &mut Edit(edit))
}

/// Returns the values of a tensor.
pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// Returns every parameter and running statistic by path, bit for bit, the integers of sparse layers included.
pub fn bytes<M: Module>(model: &M) -> Vec<(String, Vec<u8>)> {
    struct Read(Vec<(String, Vec<u8>)>);
    impl ParamVisitor for Read {
        fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D>>) {
            self.0.push((path.join(), param.base().into_data().as_bytes().to_vec()));
        }
        fn int<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D, Int>>) {
            self.0.push((path.join(), param.val().into_data().as_bytes().to_vec()));
        }
    }
    let mut read = Read(Vec::new());
    visit_params(model, &mut read);
    read.0
}

/// Returns the number of elements of everything that is trained.
pub fn trained<M: Module>(model: &M) -> u64 {
    struct Count(u64);
    impl ParamVisitor for Count {
        fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D>>) {
            if !["running_mean", "running_var"].contains(&path.name()) {
                self.0 += param.lazy_shape().num_elements() as u64;
            }
        }
    }
    let mut count = Count(0);
    visit_params(model, &mut count);
    count.0
}

/// Returns the largest difference of any output over its largest value, which counts as at least `floor`.
pub fn difference<O: ModuleInput>(a: O, b: O, floor: f64) -> f64 {
    let (a, b) = (flat(a), flat(b));
    assert!(!a.is_empty() && a.len() == b.len());
    a.iter().zip(&b).fold(0.0, |worst, (a, b)| {
        assert_eq!(a.len(), b.len());
        let largest = b.iter().fold(floor, |largest: f64, value| largest.max(value.abs()));
        let off = a.iter().zip(b).fold(0.0, |off: f64, (a, b)| off.max((a - b).abs()));
        assert!(b.iter().chain(a).all(|value| value.is_finite()));
        worst.max(off / largest)
    })
}

fn flat<O: ModuleInput>(outputs: O) -> Vec<Vec<f64>> {
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
    let mut all = Flat(Vec::new());
    let _ = outputs.map_tensors(&mut all);
    all.0
}
