//! [`Sparsity`], the weight format of a layer as a part of its module: stored in records, invisible while the layer is dense.

use std::cell::Cell;
use std::fmt;

use burn::module::{Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::format::WeightFormat;
use super::packed::Packing;
use crate::NnError;

/// The code of a dense layer.
const DENSE: i64 = 0;
/// The code of a format that cannot be.
const INVALID: i64 = -1;

thread_local! {
    static EXPOSED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`, in which dense layers show the integers of their [`Sparsity`] to visitors and mappers of this thread, so that a
/// mapper can give them a sparse format.
///
/// Elsewhere a dense layer has exactly the parameters of Burn's layer, so that records of either load into the other.
pub(super) fn expose<R>(work: impl FnOnce() -> R) -> R {
    struct Back(bool);
    impl Drop for Back {
        fn drop(&mut self) {
            EXPOSED.set(self.0);
        }
    }
    let _back = Back(EXPOSED.replace(true));
    work()
}

/// The format of a layer's weight: dense, or a [`WeightFormat`].
///
/// A record holds it as one integer tensor with the path `layer.sparsity`; of a dense layer it holds nothing.
///
/// ```
/// use std::sync::Arc;
/// use burn::tensor::Device;
/// use burn_sfp_nn::sparse::{KernelPattern, Sparsity, WeightFormat};
///
/// let format = WeightFormat::Kernels(Arc::new(KernelPattern::from_fn(2, 3, |output, input| output == input)));
/// assert_eq!(Sparsity::of(format.clone(), &Device::flex()).format()?, Some(&format));
/// assert_eq!(Sparsity::dense(&Device::flex()).format()?, None);
/// # Ok::<(), burn_sfp_nn::NnError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Sparsity {
    code: Param<Tensor<1, Int>>,
    state: State,
    packing: Packing,
}

#[derive(Clone, Debug)]
enum State {
    Dense,
    Sparse(WeightFormat),
    /// A record held integers that describe no format, and the layer cannot run.
    Invalid(NnError),
}

impl Sparsity {
    fn new(code: Param<Tensor<1, Int>>, state: State) -> Self {
        Self { code, state, packing: Packing::default() }
    }

    /// The packed weights of the layer.
    pub(crate) fn packing(&self) -> &Packing {
        &self.packing
    }

    /// The sparsity of a dense layer.
    pub fn dense(device: &Device) -> Self {
        Self::new(code_of(&[DENSE], device), State::Dense)
    }

    /// The sparsity of a layer whose weight has this format. Blocks that contradict each other, and counts above 2^31 - 1, show
    /// in [`format`](Sparsity::format).
    pub fn of(format: WeightFormat, device: &Device) -> Self {
        let code = format.encode();
        // The integers of some devices have 32 bits.
        let fits = || match code.iter().find(|&&value| i32::try_from(value).is_err()) {
            None => Ok(()),
            Some(value) => Err(format!("{value} is more than a record holds")),
        };
        match format.check().and_then(|()| fits()) {
            Ok(()) => Self::new(code_of(&code, device), State::Sparse(format)),
            Err(problem) => Self::new(code_of(&[INVALID], device), State::Invalid(NnError::InvalidFormat { problem })),
        }
    }

    /// The weight's format, `None` of a dense layer.
    ///
    /// # Errors
    /// [`NnError::InvalidFormat`] where the layer was loaded from a record whose integers describe no format, or was made of blocks that
    /// contradict each other.
    pub fn format(&self) -> Result<Option<&WeightFormat>, NnError> {
        match &self.state {
            State::Dense => Ok(None),
            State::Sparse(format) => Ok(Some(format)),
            State::Invalid(error) => Err(error.clone()),
        }
    }

    /// Encodes a format (`None` for dense) as the integers that a mapper writes into a layer, inside [`expose`].
    pub(super) fn encode(format: Option<&WeightFormat>) -> Vec<i64> {
        format.map_or_else(|| vec![DENSE], WeightFormat::encode)
    }

    /// Decodes the integers of [`encode`](Sparsity::encode).
    ///
    /// # Errors
    /// [`NnError::InvalidFormat`] where the integers describe no format.
    pub(super) fn decode(code: &[i64]) -> Result<Option<WeightFormat>, NnError> {
        match code {
            [DENSE] => Ok(None),
            code => WeightFormat::decode(code).map(Some).map_err(|problem| NnError::InvalidFormat { problem }),
        }
    }

    fn visible(&self) -> bool {
        !matches!(self.state, State::Dense) || EXPOSED.get()
    }

    /// Changes the code of a sparse layer. Nobody reads that of a dense layer, which stays as it is.
    fn with_code(self, code: impl FnOnce(Param<Tensor<1, Int>>) -> Param<Tensor<1, Int>>) -> Self {
        match self.state {
            State::Dense => self,
            state => Self { code: code(self.code), state, packing: self.packing },
        }
    }
}

fn code_of(code: &[i64], device: &Device) -> Param<Tensor<1, Int>> {
    let data = TensorData::new(code.to_vec(), [code.len()]);
    Param::initialized(burn::module::ParamId::new(), Tensor::from_data(data, &device.clone().without_autodiff()))
}

fn read(code: &Param<Tensor<1, Int>>) -> State {
    let code: Vec<i64> = code.val().into_data().iter::<i64>().collect();
    match Sparsity::decode(&code) {
        Ok(None) => State::Dense,
        Ok(Some(format)) => State::Sparse(format),
        Err(error) => State::Invalid(error),
    }
}

impl Module for Sparsity {
    fn collect_devices(&self, devices: Devices) -> Devices {
        // The weight beside it says on which device the layer is.
        devices
    }

    fn fork(self, device: &Device) -> Self {
        Self { packing: Packing::default(), ..self.with_code(|code| code.fork(device)) }
    }

    fn to_device(self, device: &Device) -> Self {
        Self { packing: Packing::default(), ..self.with_code(|code| code.to_device(device)) }
    }

    fn train(self) -> Self {
        self.with_code(Module::train)
    }

    fn valid(&self) -> Self {
        self.clone().with_code(|code| code.valid())
    }

    fn materialize(self) -> Self {
        self
    }

    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        if self.visible() {
            visitor.visit_int(&self.code);
        }
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        if !self.visible() {
            return self;
        }
        let code = mapper.map_int(self.code);
        let state = read(&code);
        Self::new(code, state)
    }
}

impl fmt::Display for Sparsity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            State::Dense => write!(f, "dense"),
            State::Sparse(WeightFormat::Kernels(pattern)) => write!(f, "{} kernels", pattern.kept()),
            State::Sparse(WeightFormat::Blocks(blocks)) => write!(f, "{} dense blocks", blocks.blocks.len()),
            State::Invalid(error) => write!(f, "{error}"),
        }
    }
}

impl ModuleDisplayDefault for Sparsity {
    fn content(&self, content: Content) -> Option<Content> {
        content.add_formatted(&self.to_string()).optional()
    }
}

impl ModuleDisplay for Sparsity {}
