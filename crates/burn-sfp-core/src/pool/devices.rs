//! [`DevicePool`]: the devices and how the data is cut up for them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use burn::tensor::Device;
use burn_sfp_nn::ConfigError;

/// Batches of a chunk where nothing else is said.
const CHUNK: usize = 16;

/// Devices that share a pass over calibration data: those of this machine, remote ones, or both.
///
/// The data is cut into chunks of consecutive batches. Whichever device is free takes the next one, in the data's order, and hands back the
/// sums of its chunk, which are added up in that order. So where devices compute alike the result depends neither on which of them was
/// faster nor on how many there are: one and four of them give the same bits. Devices that compute differently differ by their rounding.
///
/// A device that fails leaves the pool, and another one does its chunk from the start, so that no sample counts twice.
///
/// Memory: a chunk of batches for each device and one more, and the sums of two chunks, since a device keeps its own until their turn comes; on
/// each device the model, a batch and the sums of a chunk.
///
/// ```
/// use burn::tensor::Device;
/// use burn_sfp_core::DevicePool;
///
/// let pool = DevicePool::new([Device::flex(), Device::flex()]).chunk(32);
/// assert_eq!(pool.devices().len(), 2);
/// ```
#[derive(Clone, Debug)]
pub struct DevicePool {
    devices: Vec<Device>,
    chunk: usize,
    checkpoint: Option<(PathBuf, usize)>,
    time_limit: Option<Duration>,
}

impl DevicePool {
    /// Takes the devices. One that is named twice works on two chunks at a time.
    pub fn new(devices: impl IntoIterator<Item = Device>) -> Self {
        let devices = devices.into_iter().map(Device::without_autodiff).collect();
        Self { devices, chunk: CHUNK, checkpoint: None, time_limit: None }
    }

    /// Sets the number of batches in a chunk, 16 by default. The sums of a chunk are read back from its device: the more layers with ridge
    /// readouts are analyzed, the more a larger chunk saves. Results of different sizes differ by the rounding of the sums.
    pub fn chunk(mut self, batches: usize) -> Self {
        self.chunk = batches;
        self
    }

    /// Writes the sums so far to this file after every so many chunks (0 for none in between), when the work is cancelled, and when no device is
    /// left. An analysis of the same model with the same settings that finds the file goes on behind them, and ends, where devices compute
    /// alike, with the same bits as one that was never interrupted; then the file is removed. The data has to be the same, too, in the same
    /// batches, which is not checked.
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_graph::GraphModule;
    /// # use burn_sfp_core::{AnalyzeConfig, NoProgress, TensorCalibration, analyze_on};
    /// use burn_sfp_core::DevicePool;
    /// # #[derive(Module, Debug)]
    /// # struct Mlp { a: Linear, b: Linear }
    /// # impl GraphModule for Mlp {
    /// #     type Inputs = Tensor<2>;
    /// #     type Outputs = Tensor<2>;
    /// #     fn run(&self, x: Tensor<2>) -> Tensor<2> { self.b.forward(burn::tensor::activation::relu(self.a.forward(x))) }
    /// # }
    /// # let device = Device::flex();
    /// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 2).init(&device) };
    /// # let samples = Tensor::<2>::from_floats([[1., 0., 0., 1.], [0., 1., 1., 0.]], &device);
    /// # let calibration = TensorCalibration::new(samples, vec![0, 1], 1);
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("sums.safetensors");
    /// let pool = DevicePool::new([Device::flex()]).checkpoint(&path, 8);
    /// analyze_on(&mlp, &calibration, &pool, &AnalyzeConfig::new(), &NoProgress)?;
    /// assert!(!path.exists(), "it is over");
    /// # Ok::<(), burn_sfp_core::SfpError>(())
    /// ```
    ///
    /// The file is as large as the sums: `8 F S C` bytes for each layer, and `8 (F S)^2` where a ridge readout is fitted.
    pub fn checkpoint(mut self, path: impl Into<PathBuf>, chunks: usize) -> Self {
        self.checkpoint = Some((path.into(), chunks));
        self
    }

    /// Leaves out a device that takes longer than this over a chunk (in a recovery over a layer), or over reading back its sums, as if it had failed: a machine that has lost its
    /// network, for example, of whose connection Burn waits for an answer without end. None by default. A device's first chunk takes as long as
    /// getting the model there besides.
    ///
    /// The thread that waits for such a device is left behind, and with it the model and the chunk, until the connection breaks or the process ends.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use burn::tensor::Device;
    /// use burn_sfp_core::DevicePool;
    ///
    /// let pool = DevicePool::new([Device::flex(), Device::flex()]).time_limit(Duration::from_secs(120));
    /// # assert!(pool.check().is_ok());
    /// ```
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = Some(limit);
        self
    }

    /// The devices, in the order in which they were given.
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// The file of sums, and the number of chunks between writing it.
    pub(crate) fn saves(&self) -> Option<(&Path, usize)> {
        self.checkpoint.as_ref().map(|(path, chunks)| (path.as_path(), *chunks))
    }

    /// The longest that a device may take.
    pub(crate) fn longest(&self) -> Option<Duration> {
        self.time_limit
    }

    /// Batches of a chunk.
    pub fn batches(&self) -> usize {
        self.chunk
    }

    /// Checks that there is a device, a batch in a chunk and, where there is a limit, time.
    ///
    /// # Errors
    /// [`ConfigError`] with the setting.
    pub fn check(&self) -> Result<(), ConfigError> {
        let error = |name, expected| Err(ConfigError { name, found: "0".into(), expected });
        match (self.devices.len(), self.chunk) {
            (0, _) => error("number of devices", "at least 1"),
            (_, 0) => error("batches of a chunk", "at least 1"),
            _ if self.time_limit.is_some_and(|limit| limit.is_zero()) => error("time limit", "more than no time"),
            _ => Ok(()),
        }
    }
}
