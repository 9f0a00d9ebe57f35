//! A layer's form as a part of its module: stored in records, invisible while the layer is dense.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use burn::module::{Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::Form;
use crate::SfpError;

thread_local! {
    static EXPOSED: Cell<bool> = const { Cell::new(false) };
}

/// Inside of `work` (on this thread) dense layers show their integer parameter to visitors and mappers, so that a mapper can give
/// them a form: a list of integers instead of the single 0 of a dense layer.
///
/// Outside of it a dense layer has exactly the parameters of Burn's layer, so that records of either load into the other.
pub fn expose<R>(work: impl FnOnce() -> R) -> R {
    struct Back(bool);
    impl Drop for Back {
        fn drop(&mut self) {
            EXPOSED.set(self.0);
        }
    }
    let _back = Back(EXPOSED.replace(true));
    work()
}

/// The form of a layer's weight: dense, or a [`Form`].
///
/// A sparse layer stores it as one integer tensor of the path `layer.sparsity`; a dense one stores nothing.
#[derive(Clone, Debug)]
pub struct Sparsity {
    code: Param<Tensor<1, Int>>,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Dense,
    Sparse(Form),
    /// A record held integers that are no form; the layer cannot run.
    Broken(Arc<str>),
}

impl Sparsity {
    /// Of a dense layer.
    pub fn dense(device: &Device) -> Self {
        Self { code: code_of(&[0], device), state: State::Dense }
    }

    /// Of a sparse layer.
    pub fn of(form: Form, device: &Device) -> Self {
        Self { code: code_of(&form.encode(), device), state: State::Sparse(form) }
    }

    /// The form, `None` of a dense layer.
    ///
    /// # Errors
    /// What is wrong with the integers of the record that the layer was loaded from.
    pub fn form(&self) -> Result<Option<&Form>, &str> {
        match &self.state {
            State::Dense => Ok(None),
            State::Sparse(form) => Ok(Some(form)),
            State::Broken(what) => Err(what),
        }
    }

    /// The integers by which a mapper inside of [`expose`] makes a layer sparse.
    pub fn encode(form: Option<&Form>) -> Vec<i64> {
        form.map_or_else(|| vec![0], Form::encode)
    }

    /// What [`encode`](Sparsity::encode) wrote.
    ///
    /// # Errors
    /// [`SfpError::Sparsity`] where the integers are no form.
    pub fn decode(code: &[i64]) -> Result<Option<Form>, SfpError> {
        match code {
            [0] => Ok(None),
            code => Form::decode(code).map(Some).map_err(SfpError::Sparsity),
        }
    }

    fn visible(&self) -> bool {
        !matches!(self.state, State::Dense) || EXPOSED.get()
    }

    /// A dense layer's code is looked at by nobody and stays where it is.
    fn with_code(self, code: impl FnOnce(Param<Tensor<1, Int>>) -> Param<Tensor<1, Int>>) -> Self {
        match self.state {
            State::Dense => self,
            state => Self { code: code(self.code), state },
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
        Ok(Some(form)) => State::Sparse(form),
        Err(error) => State::Broken(error.to_string().into()),
    }
}

impl Module for Sparsity {
    fn collect_devices(&self, devices: Devices) -> Devices {
        // The weight beside it says where the layer is.
        devices
    }

    fn fork(self, device: &Device) -> Self {
        self.with_code(|code| code.fork(device))
    }

    fn to_device(self, device: &Device) -> Self {
        self.with_code(|code| code.to_device(device))
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
        Self { code, state }
    }
}

impl fmt::Display for Sparsity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            State::Dense => write!(f, "dense"),
            State::Sparse(Form::Kernels(pattern)) => write!(f, "{} kernels", pattern.kept()),
            State::Sparse(Form::Blocks(blocks)) => write!(f, "{} dense blocks", blocks.blocks.len()),
            State::Broken(what) => write!(f, "broken: {what}"),
        }
    }
}

impl ModuleDisplayDefault for Sparsity {
    fn content(&self, content: Content) -> Option<Content> {
        content.add_formatted(&self.to_string()).optional()
    }
}

impl ModuleDisplay for Sparsity {}
