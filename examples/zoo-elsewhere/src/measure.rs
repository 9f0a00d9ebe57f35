//! Prunes one network and checks what came out.

use std::time::Instant;

use burn_sfp::prelude::*;
use burn_sfp::prune::Unpruned;
use models::values::values;

/// What pruning a network led to.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Parameters of the original and of the smaller model.
    pub parameters: (u64, u64),
    /// Multiply-adds of one sample in the original and in the smaller model.
    pub macs: (u64, u64),
    /// Number of layers, those that keep all their filters included.
    pub layers: usize,
    /// Share of all filters that a plan can remove: not in a layer that the plan left alone, and not fixed by what they meet.
    pub prunable: f64,
    /// The layers that keep all their filters, and why.
    pub kept: Vec<Unpruned>,
    /// Seconds for planning, rewriting and checking.
    pub seconds: f64,
    /// Seconds for one forward pass of the original: the fastest of three.
    pub forward: f64,
    /// Largest difference between an output of the smaller model and that of the original with the removed channels at zero, over the
    /// largest output.
    pub difference: f64,
}

impl Measured {
    /// Whether both outputs are the same but for rounding.
    pub fn exact(&self) -> bool {
        self.difference < 1e-4
    }
}

/// Removes a share of every layer by magnitude.
///
/// ```
/// use burn::prelude::*;
/// use burn::nn::{Linear, LinearConfig};
/// use burn_sfp::prelude::*;
/// use zoo_elsewhere::measure::measure;
///
/// #[derive(Module, Debug)]
/// struct Mlp { a: Linear, b: Linear }
///
/// impl GraphModule for Mlp {
///     type Inputs = Tensor<2>;
///     type Outputs = Tensor<2>;
///     fn run(&self, x: Tensor<2>) -> Tensor<2> {
///         self.b.forward(burn::tensor::activation::relu(self.a.forward(x)))
///     }
/// }
/// let device = Device::flex();
/// let linear = |from, to| LinearConfig::new(from, to).init(&device);
/// let measured = measure(&Mlp { a: linear(4, 8), b: linear(8, 2) }, &Tensor::ones([1, 4], &device), 0.5)?;
/// assert_eq!((measured.prunable, measured.parameters), (0.8, (58, 30)));
/// assert!(measured.exact());
/// # Ok::<(), PruneError>(())
/// ```
///
/// # Errors
/// Those of capturing and of [`Planner::prune`].
pub fn measure<M: GraphModule>(model: &M, input: &M::Inputs, share: f64) -> Result<Measured, PruneError> {
    let network = Network::capture(model, input)?;
    let started = Instant::now();
    let PrunedModule { model: smaller, plan, .. } =
        Planner::new().budget(Budget::PerLayer(share)).prune(model, input, &Magnitude::l2())?;
    let seconds = started.elapsed().as_secs_f64();
    let zeroed = plan.zeroed(model)?;
    let difference = difference(smaller.run(input.clone()), zeroed.run(input.clone()));
    Ok(Measured {
        parameters: (plan.parameters_before, plan.parameters_after),
        macs: (plan.macs_before, plan.macs_after),
        layers: plan.layers.len(),
        prunable: prunable(&network, &plan.unpruned),
        kept: plan.unpruned,
        seconds,
        forward: forward(model, input),
        difference,
    })
}

/// Share of filters that are free and whose layer is none of those `kept`.
fn prunable(network: &Network, kept: &[Unpruned]) -> f64 {
    let (mut free, mut all) = (0, 0);
    for layer in network.layers() {
        all += layer.filters;
        if kept.iter().all(|kept| kept.path != layer.path) {
            let fixed = |channel| network.flow().pinned(channel).is_some();
            free += layer.output_channels().iter().filter(|&&channel| !fixed(channel)).count();
        }
    }
    free as f64 / all.max(1) as f64
}

/// Seconds for a forward pass. Reading the output waits for devices that run behind.
fn forward<M: GraphModule>(model: &M, input: &M::Inputs) -> f64 {
    let model = model.valid();
    let pass = || {
        let started = Instant::now();
        let _ = values(model.run(input.clone()));
        started.elapsed().as_secs_f64()
    };
    (0..3).map(|_| pass()).fold(f64::INFINITY, f64::min)
}

/// Largest difference of any number, over the largest number of the same tensor in `expected`; infinite where shapes do not match, where
/// a number is not finite, and where all expected numbers are zero, which would compare nothing.
pub fn difference<O: ModuleInput>(found: O, expected: O) -> f64 {
    let (found, expected) = (values(found), values(expected));
    if found.len() != expected.len() {
        return f64::INFINITY;
    }
    found.iter().zip(&expected).fold(0.0, |worst, (found, expected)| {
        if found.len() != expected.len() || found.iter().any(|value| !value.is_finite()) {
            return f64::INFINITY;
        }
        let largest = expected.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
        if largest < 1e-6 {
            return f64::INFINITY;
        }
        let off = found.iter().zip(expected).fold(0.0, |off: f64, (a, b)| off.max((a - b).abs()));
        worst.max(off / largest)
    })
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};

    use super::difference;

    #[test]
    fn differences_are_relative_to_the_largest_number() {
        let tensor = |values: [f32; 2]| Tensor::<1>::from_floats(values, &Device::flex());
        assert_eq!(difference(tensor([1.0, -4.0]), tensor([1.0, -4.0])), 0.0);
        assert_eq!(difference(tensor([2.0, -4.0]), tensor([1.0, -4.0])), 0.25);
        assert_eq!(difference(tensor([f32::NAN, 1.0]), tensor([1.0, 1.0])), f64::INFINITY);
        let longer = Tensor::<1>::from_floats([1.0, -4.0, 0.0], &Device::flex());
        assert_eq!(difference(longer, tensor([1.0, -4.0])), f64::INFINITY);
        assert_eq!(difference(tensor([0.0, 0.0]), tensor([0.0, 0.0])), f64::INFINITY);
    }
}
