//! Random tensors and parameters of the thread that a test runs in. The random numbers of a device are those of the whole process: which of them a
//! test gets depends on what other tests do meanwhile.

#![allow(dead_code)] // every test takes its share

use std::cell::RefCell;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use burn_sfp_nn::walk::{ParamMapper, ParamPath, map_params};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

thread_local! {
    static RNG: RefCell<ChaCha8Rng> = RefCell::new(ChaCha8Rng::seed_from_u64(1));
}

/// Starts anew from a seed.
pub fn seed(seed: u64) {
    RNG.replace(ChaCha8Rng::seed_from_u64(seed));
}

/// Values between two bounds.
pub fn uniform<const D: usize>(shape: [usize; D], low: f32, high: f32, device: &Device) -> Tensor<D> {
    let count = shape.iter().product();
    let values: Vec<f32> = RNG.with_borrow_mut(|rng| (0..count).map(|_| rng.random_range(low..high)).collect());
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// The model with weights and biases drawn anew, about as large as Burn's; scales and statistics of norms stay.
pub fn drawn<M: Module>(model: M) -> M {
    struct Draw;
    impl ParamMapper for Draw {
        fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if !["weight", "bias"].contains(&path.name()) {
                return param;
            }
            param.map(|old| {
                let [first, rest] = [old.dims()[0], old.shape().num_elements()].map(|length| length.max(1));
                let most = if D == 1 { 0.3 } else { (first as f32 / rest as f32).sqrt() };
                uniform(old.dims(), -most, most, &old.device())
            })
        }
    }
    map_params(model, &mut Draw)
}
