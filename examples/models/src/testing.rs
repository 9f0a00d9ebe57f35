//! A check that the networks' tests share.

use burn::tensor::{Device, Distribution, Tensor};

/// Runs batches of one and of three random samples. Both shapes are given for one sample; the output has to be finite.
pub fn runs<const I: usize, const O: usize>(
    forward: impl Fn(Tensor<I>) -> Tensor<O>,
    input: [usize; I],
    output: [usize; O],
) {
    for samples in [1, 3] {
        let (mut from, mut to) = (input, output);
        (from[0], to[0]) = (samples, samples);
        let found = forward(Tensor::random(from, Distribution::Default, &Device::flex()));
        assert_eq!(found.dims(), to);
        assert!(found.is_finite().all().into_scalar::<bool>());
    }
}
