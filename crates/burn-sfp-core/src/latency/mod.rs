//! How long forward passes take, and how much memory parameters take.
//!
//! Every run starts on a synchronised device and ends with the whole output on the host, so that no device can answer before it is
//! done. What is compared is measured in turn (A B A B): a machine that slows down meanwhile slows both down.

mod table;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use burn::config::Config;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Bool, DType, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::error::panic_message;
use crate::{GraphModule, InputMapper, ModuleInput, SfpError};

pub use table::{LatencyRow, LatencyTable};

/// How often something is run.
#[derive(Config, Debug)]
pub struct LatencyConfig {
    /// Runs that do not count, before the others.
    #[config(default = 2)]
    pub warm_up: usize,
    /// Runs that count, at least 1.
    #[config(default = 20)]
    pub runs: usize,
}

/// Seconds of repeated runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// The middle one, or the mean of the middle two.
    pub median: f64,
    /// The shortest one.
    pub min: f64,
    /// The longest one.
    pub max: f64,
}

impl Latency {
    /// Runs something that reads its own results; [`measure_module`] does it for modules.
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use burn_sfp_core::latency::{Latency, LatencyConfig};
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

    /// Of seconds, at least one.
    fn of(mut seconds: Vec<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        let last = seconds.len() - 1;
        Self { median: (seconds[last / 2] + seconds[last.div_ceil(2)]) / 2.0, min: seconds[0], max: seconds[last] }
    }

    /// Longest less shortest run, over the median.
    pub fn spread(&self) -> f64 {
        (self.max - self.min) / self.median
    }
}

/// Runs several things in turn, and says how long each took, in their order.
///
/// # Errors
/// The first one of a run.
pub fn compare<E>(config: &LatencyConfig, all: &[&dyn Fn() -> Result<(), E>]) -> Result<Vec<Latency>, E> {
    let mut seconds = vec![Vec::new(); all.len()];
    for turn in 0..config.warm_up + config.runs.max(1) {
        for (run, seconds) in all.iter().zip(&mut seconds) {
            let started = Instant::now();
            run()?;
            if turn >= config.warm_up {
                seconds.push(started.elapsed().as_secs_f64());
            }
        }
    }
    Ok(seconds.into_iter().map(Latency::of).collect())
}

/// Seconds of forward passes of a module, as it is: call `valid()` on one that was trained.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_core::SfpModule;
/// use burn_sfp_core::latency::{LatencyConfig, measure_module};
/// # #[derive(Module, Debug)]
/// # struct Mlp { fc: Linear }
/// # impl SfpModule for Mlp {
/// #     type Input = Tensor<2>;
/// #     fn logits(&self, x: Tensor<2>) -> Tensor<2> { self.fc.forward(x) }
/// # }
/// # let device = Device::flex();
/// # let mlp = Mlp { fc: LinearConfig::new(4, 3).init(&device) };
/// let latency = measure_module(&mlp, &Tensor::ones([8, 4], &device), &LatencyConfig::new())?;
/// println!("{:.3} ms, spread {:.0} %", 1e3 * latency.median, 100.0 * latency.spread());
/// # Ok::<(), burn_sfp_core::SfpError>(())
/// ```
///
/// # Errors
/// [`SfpError::Forward`] where the forward pass or the device fails.
pub fn measure_module<M: GraphModule>(
    model: &M,
    inputs: &M::Inputs,
    config: &LatencyConfig,
) -> Result<Latency, SfpError> {
    Latency::measure(config, || forward(model, inputs))
}

/// One forward pass from a synchronised device to all outputs on the host.
///
/// # Errors
/// [`SfpError::Forward`] where the forward pass or the device fails.
pub fn forward<M: GraphModule>(model: &M, inputs: &M::Inputs) -> Result<(), SfpError> {
    struct Read(Option<String>);
    impl Read {
        fn note<T, E: ToString>(&mut self, read: Result<T, E>) -> Option<T> {
            read.map_err(|error| self.0 = Some(error.to_string())).ok()
        }

        fn data<E: ToString>(&mut self, read: Result<TensorData, E>) {
            if let Some(data) = self.note(read) {
                fetch(&data);
            }
        }
    }
    impl InputMapper for Read {
        fn float<const D: usize>(&mut self, tensor: Tensor<D>) -> Tensor<D> {
            self.data(tensor.try_to_data());
            tensor
        }
        fn int<const D: usize>(&mut self, tensor: Tensor<D, Int>) -> Tensor<D, Int> {
            self.data(tensor.try_to_data());
            tensor
        }
        fn bool<const D: usize>(&mut self, tensor: Tensor<D, Bool>) -> Tensor<D, Bool> {
            self.data(tensor.try_to_data());
            tensor
        }
    }
    let run = || {
        let mut read = Read(None);
        for device in model.devices() {
            read.note(device.sync());
        }
        let _outputs = model.run(inputs.clone()).map_tensors(&mut read);
        read.0
    };
    let failed = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|payload| Some(panic_message(payload)));
    let shape = || inputs.shapes().into_iter().next().unwrap_or_default();
    failed.map_or(Ok(()), |message| Err(SfpError::Forward { shape: shape(), after: None, message }))
}

/// Looks at every byte of a tensor's data: a device may bring it only then (wgpu does, where it is large), and work until then.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_sfp_core::latency::fetch;
///
/// let started = std::time::Instant::now();
/// fetch(&Tensor::<2>::ones([64, 64], &Device::flex()).into_data());
/// println!("{:?}", started.elapsed());
/// ```
pub fn fetch(data: &TensorData) {
    std::hint::black_box(data.as_bytes().iter().fold(0_u8, |all, byte| all ^ byte));
}

/// Bytes of all parameters and running statistics of a module, connection masks included.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::tensor::Device;
/// use burn_sfp_core::latency::parameter_bytes;
///
/// assert_eq!(parameter_bytes(&LinearConfig::new(4, 3).init(&Device::flex())), 4 * (4 * 3 + 3));
/// ```
pub fn parameter_bytes<M: Module>(model: &M) -> u64 {
    struct Count(u64);
    impl Count {
        fn add(&mut self, dtype: DType, numbers: usize) {
            self.0 += (numbers * dtype.size()) as u64;
        }
    }
    impl ModuleVisitor for Count {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let tensor = param.base();
            match tensor.dtype() {
                // Several numbers share a byte, and each block has a scale.
                DType::QFloat(_) => self.0 += tensor.try_into_data().map_or(0, |data| data.as_bytes().len() as u64),
                dtype => self.add(dtype, tensor.shape().num_elements()),
            }
        }
        fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
            self.add(param.base().dtype(), param.base().shape().num_elements());
        }
        fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
            self.add(param.base().dtype(), param.base().shape().num_elements());
        }
    }
    let mut count = Count(0);
    model.visit(&mut count);
    count.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;
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
        assert!(matches!(measure(5), Err(SfpError::Forward { shape, .. }) if shape == [3, 5]));
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
