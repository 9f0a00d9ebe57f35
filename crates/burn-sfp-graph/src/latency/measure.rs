//! Seconds of repeated runs.

use std::time::Instant;

use burn::config::Config;
use serde::{Deserialize, Serialize};

use super::bytes::fetch;
use crate::input::map_every_kind;
use crate::panics::attempt;
use crate::{GraphError, GraphModule, ModuleInput, NoProgress, Progress};

/// How often something is run to measure its latency.
#[derive(Config, Debug)]
pub struct LatencyConfig {
    /// Number of warm-up runs, which are not measured.
    #[config(default = 2)]
    pub warm_up: usize,
    /// Number of measured runs, at least 1.
    #[config(default = 20)]
    pub runs: usize,
}

/// Seconds of repeated runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Latency {
    /// The median: the middle one, or the mean of the middle two.
    pub median: f64,
    /// The shortest one.
    pub min: f64,
    /// The longest one.
    pub max: f64,
}

impl Latency {
    /// Measures a closure that reads its own results; [`measure_module`] measures a module.
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use burn_sfp_graph::latency::{Latency, LatencyConfig};
    ///
    /// let latency = Latency::measure(&LatencyConfig::new().with_runs(5), || {
    ///     std::hint::black_box((0..1_000_u64).sum::<u64>());
    ///     Ok::<(), Infallible>(())
    /// })?;
    /// assert!(latency.min <= latency.median && latency.median <= latency.max);
    /// # Ok::<(), Infallible>(())
    /// ```
    ///
    /// # Errors
    /// The first one of a run.
    pub fn measure<E>(config: &LatencyConfig, run: impl Fn() -> Result<(), E>) -> Result<Self, E> {
        Ok(compare(config, &[&run])?[0])
    }

    /// The summary of the seconds of at least one run.
    pub(crate) fn of(mut seconds: Vec<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        let last = seconds.len() - 1;
        Self { median: (seconds[last / 2] + seconds[last.div_ceil(2)]) / 2.0, min: seconds[0], max: seconds[last] }
    }

    /// The spread of the runs: `(max - min) / median`.
    pub fn spread(&self) -> f64 {
        (self.max - self.min) / self.median
    }
}

/// Measures several closures, which take turns, and returns their latencies in the same order.
///
/// # Errors
/// The first one of a run.
pub fn compare<E>(config: &LatencyConfig, all: &[&dyn Fn() -> Result<(), E>]) -> Result<Vec<Latency>, E> {
    compare_with(config, all, &NoProgress)
}

/// [`compare`] with progress, a step for each run.
pub(super) fn compare_with<E>(
    config: &LatencyConfig,
    all: &[&dyn Fn() -> Result<(), E>],
    progress: &dyn Progress,
) -> Result<Vec<Latency>, E> {
    let mut seconds = vec![Vec::new(); all.len()];
    for turn in 0..config.warm_up + config.runs.max(1) {
        for (run, seconds) in all.iter().zip(&mut seconds) {
            let started = Instant::now();
            run()?;
            if turn >= config.warm_up {
                seconds.push(started.elapsed().as_secs_f64());
            }
            progress.advance(1);
        }
    }
    Ok(seconds.into_iter().map(Latency::of).collect())
}

/// Measures forward passes of a module as it is. Call `valid()` on a module that was trained.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::GraphModule;
/// use burn_sfp_graph::latency::{LatencyConfig, measure_module};
/// # #[derive(Module, Debug)]
/// # struct Mlp { fc: Linear }
/// # impl GraphModule for Mlp {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<2>) -> Tensor<2> { self.fc.forward(x) }
/// # }
/// # let device = Device::flex();
/// # let mlp = Mlp { fc: LinearConfig::new(4, 3).init(&device) };
/// let latency = measure_module(&mlp, &Tensor::ones([8, 4], &device), &LatencyConfig::new())?;
/// println!("{:.3} ms, spread {:.0} %", 1e3 * latency.median, 100.0 * latency.spread());
/// # Ok::<(), burn_sfp_graph::GraphError>(())
/// ```
///
/// # Errors
/// [`GraphError::Forward`] where the forward pass or the device fails.
pub fn measure_module<M: GraphModule>(
    model: &M,
    inputs: &M::Inputs,
    config: &LatencyConfig,
) -> Result<Latency, GraphError> {
    Latency::measure(config, || forward(model, inputs))
}

/// Runs one forward pass, from a synchronised device to all outputs on the host.
///
/// # Errors
/// [`GraphError::Forward`] where the forward pass or the device fails.
pub fn forward<M: GraphModule>(model: &M, inputs: &M::Inputs) -> Result<(), GraphError> {
    /// The last error of a device.
    struct Read(Option<String>);
    impl Read {
        fn note<T, E: ToString>(&mut self, read: Result<T, E>) -> Option<T> {
            read.map_err(|error| self.0 = Some(error.to_string())).ok()
        }
    }
    map_every_kind!(Read, self, tensor, {
        if let Some(data) = self.note(tensor.try_to_data()) {
            fetch(&data);
        }
        tensor
    });
    let run = || {
        let mut read = Read(None);
        for device in model.devices() {
            read.note(device.sync());
        }
        let _outputs = model.run(inputs.clone()).map_tensors(&mut read);
        read.0
    };
    let failed = attempt(run).unwrap_or_else(Some);
    let shape = || inputs.shapes().into_iter().next().unwrap_or_default();
    failed.map_or(Ok(()), |message| Err(GraphError::Forward { shape: shape(), after: None, message }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::Module;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::{Device, Tensor};
    use std::cell::RefCell;

    #[test]
    fn they_take_turns_and_the_warm_up_does_not_count() {
        let order = RefCell::new(String::new());
        let note = |name| {
            order.borrow_mut().push(name);
            Ok::<(), String>(())
        };
        let config = LatencyConfig::new().with_warm_up(1).with_runs(2);
        let both = compare(&config, &[&|| note('A'), &|| note('B')]).unwrap();
        assert_eq!((both.len(), order.borrow().as_str()), (2, "ABABAB"));
        assert!(both.iter().all(|latency| 0.0 < latency.min && latency.min <= latency.median));
        assert_eq!(Latency::measure(&config, || Err("no")), Err("no"));
        assert!(Latency::measure(&config.with_runs(0).with_warm_up(0), || note('C')).is_ok());
    }

    #[derive(Module, Debug)]
    struct Fails {
        fc: Linear,
    }

    impl GraphModule for Fails {
        type Inputs = Tensor<2>;
        type Outputs = Tensor<2>;
        fn run(&self, x: Tensor<2>) -> Tensor<2> {
            self.fc.forward(x)
        }
    }

    #[test]
    fn a_forward_pass_that_fails_is_an_error() {
        let device = Device::flex();
        let model = Fails { fc: LinearConfig::new(4, 2).init(&device) };
        let measure = |width| measure_module(&model, &Tensor::zeros([3, width], &device), &LatencyConfig::new());
        assert!(measure(4).is_ok());
        assert!(matches!(measure(5), Err(GraphError::Forward { shape, .. }) if shape == [3, 5]));
    }

    #[test]
    fn medians() {
        let of = |seconds: &[f64]| Latency::of(seconds.to_vec());
        assert_eq!(of(&[3.0, 1.0, 2.0]), Latency { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(of(&[4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert_eq!(of(&[4.0]).spread(), 0.0);
        assert_eq!(of(&[1.0, 2.0, 4.0]).spread(), 1.5);
    }
}
