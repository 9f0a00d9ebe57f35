//! Batch normalisation with the statistics of the batch, and its gradients, each channel in one go.
//!
//! ```text
//! y[n, c, p] = gamma[c] * (x[n, c, p] - mean[c]) / sqrt(variance[c] + epsilon) + beta[c]
//! ```
//!
//! A channel's maps are read again from the caches: from memory each element comes once, and goes once. Sums of a map are in
//! single precision, those over the samples in double precision and in order, so that the number of threads changes no bit.

use ndarray::{Array1, Array3, ArrayView1, ArrayView3};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::maps::{Maps, by_channel};
use crate::vector::mul_add;
use crate::{KernelError, expect_len};

/// The result of [`batch_norm_train`].
#[derive(Clone, Debug, PartialEq)]
pub struct BatchNormTrain {
    /// `[N, C, S]`
    pub output: Array3<f32>,
    /// `[C]`
    pub mean: Array1<f32>,
    /// `[C]`, of the batch as a whole population: divided by N * S.
    pub variance: Array1<f32>,
}

/// The gradients of [`batch_norm_train`].
#[derive(Clone, Debug, PartialEq)]
pub struct BatchNormGradients {
    /// `[N, C, S]`
    pub input: Array3<f32>,
    /// `[C]`
    pub gamma: Array1<f32>,
    /// `[C]`
    pub beta: Array1<f32>,
}

/// Normalises each channel by the mean and variance of the batch, and applies ReLU where asked for.
///
/// * `x`: `[N, C, S]`, samples, channels and positions; any strides (row-major is fastest);
/// * `gamma`, `beta`: `[C]`.
///
/// A NaN passes the ReLU. Any number of threads gives the same bits. With no elements in a channel its mean and variance are NaN.
///
/// # Errors
/// [`KernelError::Shape`] when lengths disagree.
///
/// # Example
/// ```
/// use burn_sfp_ndarray::batch_norm_train;
/// use ndarray::array;
///
/// let x = array![[[1.0_f32], [5.0]], [[3.0], [9.0]]];
/// let done = batch_norm_train(x.view(), array![1.0, 2.0].view(), array![0.0, 1.0].view(), 0.0, false)?;
/// assert_eq!((done.mean, done.variance), (array![2.0, 7.0], array![1.0, 4.0]));
/// assert_eq!(done.output, array![[[-1.0], [-1.0]], [[1.0], [3.0]]]);
/// # Ok::<(), burn_sfp_ndarray::KernelError>(())
/// ```
pub fn batch_norm_train(
    x: ArrayView3<f32>,
    gamma: ArrayView1<f32>,
    beta: ArrayView1<f32>,
    epsilon: f64,
    relu: bool,
) -> Result<BatchNormTrain, KernelError> {
    forward(Arch::new(), x, gamma, beta, epsilon, relu)
}

/// Computes the gradients of [`batch_norm_train`] from its arguments, its statistics, and the gradient of its output.
///
/// * `x`, `grad`: `[N, C, S]`; any strides (row-major is fastest);
/// * `gamma`, `beta`, `mean`, `variance`: `[C]`.
///
/// # Errors
/// [`KernelError::Shape`] when lengths disagree.
///
/// # Example
/// ```
/// use burn_sfp_ndarray::batch_norm_train_gradients;
/// use ndarray::array;
///
/// let x = array![[[1.0_f32]], [[3.0]]]; // mean 2, variance 1
/// let grad = array![[[1.0_f32]], [[0.0]]];
/// let (one, zero) = (array![1.0_f32], array![0.0_f32]);
/// let mean = array![2.0_f32];
/// let statistics = [mean.view(), one.view()];
/// let found = batch_norm_train_gradients(x.view(), grad.view(), [one.view(), zero.view()], statistics, 0.0, false)?;
/// assert_eq!((found.gamma, found.beta), (array![-1.0], array![1.0]));
/// assert_eq!(found.input, array![[[0.0]], [[0.0]]]);
/// # Ok::<(), burn_sfp_ndarray::KernelError>(())
/// ```
pub fn batch_norm_train_gradients(
    x: ArrayView3<f32>,
    grad: ArrayView3<f32>,
    [gamma, beta]: [ArrayView1<f32>; 2],
    [mean, variance]: [ArrayView1<f32>; 2],
    epsilon: f64,
    relu: bool,
) -> Result<BatchNormGradients, KernelError> {
    backward(Arch::new(), [x, grad], [gamma, beta], [mean, variance], epsilon, relu)
}

/// Computes [`batch_norm_train`] with a given instruction set.
fn forward(
    arch: Arch,
    x: ArrayView3<f32>,
    gamma: ArrayView1<f32>,
    beta: ArrayView1<f32>,
    epsilon: f64,
    relu: bool,
) -> Result<BatchNormTrain, KernelError> {
    let (samples, channels, positions) = x.dim();
    expect_len("elements of gamma", channels, gamma.len())?;
    expect_len("elements of beta", channels, beta.len())?;
    let mut output = Array3::zeros(x.raw_dim());
    let (mut mean, mut variance) = (Array1::zeros(channels), Array1::zeros(channels));
    let x = x.as_standard_layout();
    if let (Some(x), Some(out)) = (x.as_slice(), output.as_slice_mut()) {
        let maps = Maps { values: x, channels, elements: positions };
        let count = (samples * positions) as f64;
        let statistics = mean.iter_mut().zip(&mut variance).enumerate();
        let tasks: Vec<_> = by_channel(out, channels, positions).into_iter().zip(statistics).collect();
        tasks.into_par_iter().for_each(|(out, (channel, (mean, variance)))| {
            let sum: f64 = maps.of(channel).map(|map| f64::from(arch.dispatch(Sum(map)))).sum();
            *mean = (sum / count) as f32;
            let squares = maps.of(channel).map(|map| f64::from(arch.dispatch(Squares { map, from: *mean })));
            *variance = (squares.sum::<f64>() / count) as f32;
            let scale = (f64::from(gamma[channel]) / (f64::from(*variance) + epsilon).sqrt()) as f32;
            for (map, out) in maps.of(channel).zip(out) {
                arch.dispatch(Normalize { map, mean: *mean, scale, beta: beta[channel], relu, out });
            }
        });
    }
    Ok(BatchNormTrain { output, mean, variance })
}

/// Computes [`batch_norm_train_gradients`] with a given instruction set.
fn backward(
    arch: Arch,
    [x, grad]: [ArrayView3<f32>; 2],
    [gamma, beta]: [ArrayView1<f32>; 2],
    [mean, variance]: [ArrayView1<f32>; 2],
    epsilon: f64,
    relu: bool,
) -> Result<BatchNormGradients, KernelError> {
    let (samples, channels, positions) = x.dim();
    let names = ["samples of the gradient", "channels of the gradient", "positions of the gradient"];
    for ((name, &expected), &found) in names.into_iter().zip(x.shape()).zip(grad.shape()) {
        expect_len(name, expected, found)?;
    }
    let names = ["elements of gamma", "elements of beta", "elements of the mean", "elements of the variance"];
    for (name, found) in names.into_iter().zip([gamma, beta, mean, variance]) {
        expect_len(name, channels, found.len())?;
    }
    let mut input = Array3::zeros(x.raw_dim());
    let (mut of_gamma, mut of_beta) = (Array1::zeros(channels), Array1::zeros(channels));
    let (x, grad) = (x.as_standard_layout(), grad.as_standard_layout());
    if let (Some(x), Some(grad), Some(out)) = (x.as_slice(), grad.as_slice(), input.as_slice_mut()) {
        let (maps, grads) =
            (Maps { values: x, channels, elements: positions }, Maps { values: grad, channels, elements: positions });
        let count = (samples * positions) as f64;
        let sums = of_gamma.iter_mut().zip(&mut of_beta).enumerate();
        let tasks: Vec<_> = by_channel(out, channels, positions).into_iter().zip(sums).collect();
        tasks.into_par_iter().for_each(|(out, (channel, (of_gamma, of_beta)))| {
            let inverse = 1.0 / (f64::from(variance[channel]) + epsilon).sqrt();
            let scale = f64::from(gamma[channel]) * inverse;
            let pass = Pass { mean: mean[channel], scale: scale as f32, beta: beta[channel], relu };
            let (mut sum, mut products) = (0.0, 0.0);
            for (map, grad) in maps.of(channel).zip(grads.of(channel)) {
                let [part, product] = arch.dispatch(Products { map, grad, pass });
                sum += f64::from(part);
                products += f64::from(product);
            }
            *of_beta = sum as f32;
            *of_gamma = (products * inverse) as f32;
            let along = (-scale * inverse * inverse * products / count) as f32;
            let shift = (-scale * sum / count) as f32;
            for ((map, grad), out) in maps.of(channel).zip(grads.of(channel)).zip(out) {
                arch.dispatch(Combine { map, grad, pass, along, shift, out });
            }
        });
    }
    Ok(BatchNormGradients { input, gamma: of_gamma, beta: of_beta })
}

/// The sum of a map.
pub(crate) struct Sum<'a>(pub(crate) &'a [f32]);

impl WithSimd for Sum<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let (vectors, rest) = S::as_simd_f32s(self.0);
        let (fours, last) = vectors.as_chunks::<4>();
        let mut sums = [simd.splat_f32s(0.0); 4];
        for four in fours {
            for place in 0..4 {
                sums[place] = simd.add_f32s(sums[place], four[place]);
            }
        }
        for (sum, &vector) in sums.iter_mut().zip(last) {
            *sum = simd.add_f32s(*sum, vector);
        }
        let rest = simd.partial_load_f32s(rest);
        sums[3] = simd.add_f32s(sums[3], rest);
        total(simd, sums)
    }
}

#[inline(always)]
fn total<S: Simd>(simd: S, sums: [S::f32s; 4]) -> f32 {
    simd.reduce_sum_f32s(simd.add_f32s(simd.add_f32s(sums[0], sums[1]), simd.add_f32s(sums[2], sums[3])))
}

/// The sum of the squared distances of a map from a value.
struct Squares<'a> {
    map: &'a [f32],
    from: f32,
}

impl WithSimd for Squares<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let (vectors, rest) = S::as_simd_f32s(self.map);
        let from = simd.splat_f32s(self.from);
        let (fours, last) = vectors.as_chunks::<4>();
        let mut sums = [simd.splat_f32s(0.0); 4];
        for four in fours {
            for place in 0..4 {
                let distance = simd.sub_f32s(four[place], from);
                sums[place] = mul_add(simd, distance, distance, sums[place]);
            }
        }
        for (sum, &vector) in sums.iter_mut().zip(last) {
            let distance = simd.sub_f32s(vector, from);
            *sum = mul_add(simd, distance, distance, *sum);
        }
        let mut all = total(simd, sums);
        for &value in rest {
            all += (value - self.from) * (value - self.from);
        }
        all
    }
}

/// `scale * (map - mean) + beta`, with ReLU where asked for.
struct Normalize<'a> {
    map: &'a [f32],
    mean: f32,
    scale: f32,
    beta: f32,
    relu: bool,
    out: &'a mut [f32],
}

impl WithSimd for Normalize<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { map, mean, scale, beta, relu, out } = self;
        let pass = Pass { mean, scale, beta, relu };
        let (vectors, rest) = S::as_simd_f32s(map);
        let (to, last) = S::as_mut_simd_f32s(out);
        for (to, &vector) in to.iter_mut().zip(vectors) {
            *to = pass.output::<S>(simd, vector);
        }
        simd.partial_store_f32s(last, pass.output::<S>(simd, simd.partial_load_f32s(rest)));
    }
}

/// What the forward pass computed of an element.
#[derive(Clone, Copy)]
struct Pass {
    mean: f32,
    scale: f32,
    beta: f32,
    relu: bool,
}

impl Pass {
    #[inline(always)]
    fn output<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        let distance = simd.sub_f32s(x, simd.splat_f32s(self.mean));
        let value = mul_add(simd, distance, simd.splat_f32s(self.scale), simd.splat_f32s(self.beta));
        if self.relu {
            let zero = simd.splat_f32s(0.0);
            // Not the maximum, which would lose a NaN.
            simd.select_f32s(simd.less_than_f32s(value, zero), zero, value)
        } else {
            value
        }
    }

    /// The gradient behind the ReLU.
    #[inline(always)]
    fn gradient<S: Simd>(self, simd: S, x: S::f32s, grad: S::f32s) -> S::f32s {
        if !self.relu {
            return grad;
        }
        let zero = simd.splat_f32s(0.0);
        simd.select_f32s(simd.less_than_f32s(zero, self.output::<S>(simd, x)), grad, zero)
    }
}

/// The sums of the gradient of a map, and of its products with the distances from the mean.
struct Products<'a> {
    map: &'a [f32],
    grad: &'a [f32],
    pass: Pass,
}

impl WithSimd for Products<'_> {
    type Output = [f32; 2];

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> [f32; 2] {
        let Self { map, grad, pass } = self;
        let mean = simd.splat_f32s(pass.mean);
        let ((maps, last), (grads, last_grad)) = (S::as_simd_f32s(map), S::as_simd_f32s(grad));
        let zero = simd.splat_f32s(0.0);
        let (mut sums, mut products) = ([zero; 4], [zero; 4]);
        let ((fours, rest), (grad_fours, grad_rest)) = (maps.as_chunks::<4>(), grads.as_chunks::<4>());
        for (four, grad) in fours.iter().zip(grad_fours) {
            for place in 0..4 {
                let grad = pass.gradient::<S>(simd, four[place], grad[place]);
                sums[place] = simd.add_f32s(sums[place], grad);
                products[place] = mul_add(simd, grad, simd.sub_f32s(four[place], mean), products[place]);
            }
        }
        for (place, (&x, &grad)) in rest.iter().zip(grad_rest).enumerate() {
            let grad = pass.gradient::<S>(simd, x, grad);
            sums[place] = simd.add_f32s(sums[place], grad);
            products[place] = mul_add(simd, grad, simd.sub_f32s(x, mean), products[place]);
        }
        // The gradient is zero behind the last element.
        let (x, grad) = (simd.partial_load_f32s(last), simd.partial_load_f32s(last_grad));
        let grad = pass.gradient::<S>(simd, x, grad);
        sums[3] = simd.add_f32s(sums[3], grad);
        products[3] = mul_add(simd, grad, simd.sub_f32s(x, mean), products[3]);
        [total(simd, sums), total(simd, products)]
    }
}

/// `scale * grad + along * (map - mean) + shift`
struct Combine<'a> {
    map: &'a [f32],
    grad: &'a [f32],
    pass: Pass,
    along: f32,
    shift: f32,
    out: &'a mut [f32],
}

impl Combine<'_> {
    #[inline(always)]
    fn of<S: Simd>(&self, simd: S, x: S::f32s, grad: S::f32s) -> S::f32s {
        let grad = self.pass.gradient::<S>(simd, x, grad);
        let distance = simd.sub_f32s(x, simd.splat_f32s(self.pass.mean));
        let rest = mul_add(simd, distance, simd.splat_f32s(self.along), simd.splat_f32s(self.shift));
        mul_add(simd, grad, simd.splat_f32s(self.pass.scale), rest)
    }
}

impl WithSimd for Combine<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let out = std::mem::take(&mut self.out);
        let ((maps, last), (grads, last_grad)) = (S::as_simd_f32s(self.map), S::as_simd_f32s(self.grad));
        let (to, last_out) = S::as_mut_simd_f32s(out);
        for ((to, &x), &grad) in to.iter_mut().zip(maps).zip(grads) {
            *to = self.of::<S>(simd, x, grad);
        }
        let (x, grad) = (simd.partial_load_f32s(last), simd.partial_load_f32s(last_grad));
        simd.partial_store_f32s(last_out, self.of::<S>(simd, x, grad));
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array3, array};
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{in_pool, random_f32, with_layout};
    use crate::vector::instruction_sets;

    const EPSILON: f64 = 1e-3;

    struct Case {
        x: Array3<f32>,
        grad: Array3<f32>,
        gamma: Array1<f32>,
        beta: Array1<f32>,
        relu: bool,
    }

    /// What is expected in double precision.
    struct Expected {
        output: Array3<f64>,
        mean: Vec<f64>,
        variance: Vec<f64>,
        input: Array3<f64>,
        gamma: Vec<f64>,
        beta: Vec<f64>,
    }

    impl Case {
        fn new(shape: (usize, usize, usize), relu: bool, seed: u64) -> Self {
            let channels = shape.1;
            let mut x = random_f32(shape, seed);
            // Means of several deviations.
            x.indexed_iter_mut().for_each(|((_, channel, _), value)| *value += channel as f32 % 5.0);
            let (gamma, beta) = (random_f32(channels, seed ^ 2), random_f32(channels, seed ^ 3));
            Self { x, grad: random_f32(shape, seed ^ 1), gamma, beta, relu }
        }

        fn expected(&self) -> Expected {
            let (samples, channels, positions) = self.x.dim();
            let count = (samples * positions) as f64;
            let mut of = Expected {
                output: Array3::zeros(self.x.raw_dim()),
                mean: Vec::new(),
                variance: Vec::new(),
                input: Array3::zeros(self.x.raw_dim()),
                gamma: Vec::new(),
                beta: Vec::new(),
            };
            for channel in 0..channels {
                let places = || ndarray::indices((samples, positions)).into_iter().map(move |(n, s)| [n, channel, s]);
                let x = |at: [usize; 3]| f64::from(self.x[at]);
                let (gamma, beta) = (f64::from(self.gamma[channel]), f64::from(self.beta[channel]));
                let mean = places().map(x).sum::<f64>() / count;
                let variance = places().map(|at| (x(at) - mean).powi(2)).sum::<f64>() / count;
                let deviation = (variance + EPSILON).sqrt();
                let normal = |at| (x(at) - mean) / deviation;
                let value = |at| gamma * normal(at) + beta;
                let grad = |at: [usize; 3]| if self.relu && value(at) <= 0.0 { 0.0 } else { f64::from(self.grad[at]) };
                let of_beta: f64 = places().map(grad).sum();
                let of_gamma: f64 = places().map(|at| grad(at) * normal(at)).sum();
                for at in places() {
                    of.output[at] = if self.relu { value(at).max(0.0) } else { value(at) };
                    of.input[at] = gamma / deviation * (grad(at) - of_beta / count - normal(at) * of_gamma / count);
                }
                of.mean.push(mean);
                of.variance.push(variance);
                of.gamma.push(of_gamma);
                of.beta.push(of_beta);
            }
            of
        }

        fn run(&self, arch: Arch, layout: u8) -> (BatchNormTrain, BatchNormGradients) {
            let (gamma, beta) = (self.gamma.view(), self.beta.view());
            with_layout(&self.x, layout, |x| {
                let done = forward(arch, x, gamma, beta, EPSILON, self.relu).unwrap();
                let statistics = [done.mean.view(), done.variance.view()];
                let found = with_layout(&self.grad, layout, |grad| {
                    backward(arch, [x, grad], [gamma, beta], statistics, EPSILON, self.relu).unwrap()
                });
                (done, found)
            })
        }

        /// Elements whose output is so near to zero that rounding may decide about the ReLU are left alone.
        fn check(&self, arch: Arch, layout: u8) {
            let near = |found: f32, expected: f64, scale: f64, what: &str| {
                assert!((f64::from(found) - expected).abs() <= 2e-5 * scale, "{what}: {found} {expected}");
            };
            let (done, found) = self.run(arch, layout);
            let expected = self.expected();
            let unsure = |at: [usize; 3]| self.relu && expected.output[at] < 1e-5;
            for channel in 0..self.gamma.len() {
                near(done.mean[channel], expected.mean[channel], 5.0, "mean");
                near(done.variance[channel], expected.variance[channel], 1.0, "variance");
                let count = (self.x.dim().0 * self.x.dim().2) as f64;
                near(found.beta[channel], expected.beta[channel], count, "beta");
                near(found.gamma[channel], expected.gamma[channel], count / EPSILON.sqrt(), "gamma");
            }
            for ((n, channel, s), &output) in done.output.indexed_iter() {
                let at = [n, channel, s];
                near(output, expected.output[at], 5.0 / EPSILON.sqrt(), "output");
                if !unsure(at) {
                    near(found.input[at], expected.input[at], 5.0 / EPSILON, "input");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn matches_the_formula(
            samples in 1_usize..6, channels in 0_usize..7, positions in 1_usize..90, relu: bool, layout in 0_u8..4, seed: u64,
        ) {
            let case = Case::new((samples, channels, positions), relu, seed);
            for arch in instruction_sets() {
                case.check(arch, layout);
            }
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        for relu in [false, true] {
            let case = Case::new((7, 33, 41), relu, 3);
            let one = in_pool(1, || case.run(Arch::new(), 0));
            for threads in [2, 5] {
                assert_eq!(in_pool(threads, || case.run(Arch::new(), 0)), one);
            }
        }
    }

    #[test]
    fn a_channel_far_from_zero() {
        let x = random_f32((8, 2, 100), 5).mapv(|value| value + 1000.0);
        let done = batch_norm_train(x.view(), array![1.0, 1.0].view(), array![0.0, 0.0].view(), 0.0, false).unwrap();
        for (channel, &variance) in done.variance.iter().enumerate() {
            let mean = x.index_axis(ndarray::Axis(1), channel).mapv(f64::from).mean().unwrap();
            let expected = x.index_axis(ndarray::Axis(1), channel).mapv(|value| (f64::from(value) - mean).powi(2));
            assert!((f64::from(variance) - expected.mean().unwrap()).abs() < 1e-4);
        }
    }

    #[test]
    fn errors() {
        let (x, one, two) = (Array3::<f32>::zeros((2, 1, 3)), array![1.0_f32], array![1.0_f32, 1.0]);
        let wrong = |what, found| KernelError::Shape { what, expected: 1, found };
        let run = |gamma: &Array1<f32>, beta: &Array1<f32>| {
            batch_norm_train(x.view(), gamma.view(), beta.view(), 0.0, true).map(|_| ())
        };
        assert_eq!(run(&two, &one), Err(wrong("elements of gamma", 2)));
        assert_eq!(run(&one, &two), Err(wrong("elements of beta", 2)));
        let grad = Array3::<f32>::zeros((2, 1, 2));
        let gradients = |grad: &Array3<f32>, variance: &Array1<f32>| {
            let (one, variance) = (one.view(), variance.view());
            batch_norm_train_gradients(x.view(), grad.view(), [one, one], [one, variance], 0.0, true).map(|_| ())
        };
        let shape = KernelError::Shape { what: "positions of the gradient", expected: 3, found: 2 };
        assert_eq!(gradients(&grad, &one), Err(shape));
        assert_eq!(gradients(&x, &two), Err(wrong("elements of the variance", 2)));
        assert_eq!(gradients(&x, &one), Ok(()));
    }

    #[test]
    fn empty_channels() {
        let one = array![1.0_f32];
        let done = batch_norm_train(Array3::zeros((0, 1, 3)).view(), one.view(), one.view(), 0.1, true).unwrap();
        assert!(done.mean[0].is_nan() && done.output.is_empty());
        assert_eq!(
            batch_norm_train(Array3::zeros((2, 1, 0)).view(), one.view(), one.view(), 0.1, true).unwrap().output.len(),
            0
        );
    }
}
