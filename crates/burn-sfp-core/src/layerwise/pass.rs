//! [`Layerwise`]: a model over all calibration batches, step by step.

use burn::tensor::{Device, Tensor, TensorData};
use burn_sfp_graph::{GraphError, ModuleInput, Network, Step, StepReplay};

use crate::checks::check_shapes;
use crate::sums::single;
use crate::sweep::device_of;
use crate::{Batch, SfpError, SfpModule};

/// A captured model that runs over all batches together, one [`Step`] after another. Batches may differ in size: the model is captured
/// once more for each size.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::{GraphModule, Network};
/// use burn_sfp_core::{Batch, Layerwise, SfpModule};
/// # #[derive(Module, Debug)]
/// # struct Mlp { a: Linear, b: Linear }
/// # impl GraphModule for Mlp {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<2>) -> Tensor<2> { self.b.forward(burn::tensor::activation::relu(self.a.forward(x))) }
/// # }
/// # let device = Device::flex();
/// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 2).init(&device) };
/// let batches = [3, 2].map(|n| Batch { input: Tensor::<2>::ones([n, 4], &device), labels: vec![0; n] });
/// let network = Network::capture_with(&mlp, &batches[0].input, Mlp::logits)?;
/// let mut pass = Layerwise::new(&mlp, network)?;
/// for (index, batch) in batches.iter().enumerate() {
///     pass.load(&mlp, index, batch, 0)?;
/// }
/// pass.run_before(1)?;
/// assert_eq!(pass.input(1, 1)?.dims(), [2, 8, 1]);
/// pass.run_through(1)?;
/// assert_eq!(pass.output(0, 1)?.dims(), [3, 2, 1]);
/// # Ok::<(), burn_sfp_core::SfpError>(())
/// ```
#[derive(Debug)]
pub struct Layerwise {
    device: Device,
    programs: Vec<Program>,
    /// For each batch its program, and its number there.
    places: Vec<(usize, usize)>,
}

/// The network at one size of batches.
#[derive(Debug)]
struct Program {
    network: Network,
    steps: Vec<Step>,
    replay: StepReplay,
}

impl Program {
    fn new(network: Network, device: &Device) -> Result<Self, SfpError> {
        let replay = StepReplay::new(&network, device)?;
        Ok(Self { steps: network.steps(), network, replay })
    }

    /// Position of the operation of a step; the end of the network where there is no such step.
    fn operation(&self, step: usize) -> usize {
        self.steps.get(step).map_or(usize::MAX, |step| step.operation)
    }
}

impl Layerwise {
    /// Takes a model, and the network of its logits, captured on a batch of any size.
    ///
    /// # Errors
    /// [`SfpError::Graph`] where the device cannot run captured operations.
    pub fn new<M: SfpModule>(model: &M, network: Network) -> Result<Self, SfpError> {
        Self::on(device_of(model), network)
    }

    /// The same on another device than the model's.
    ///
    /// # Errors
    /// Those of [`new`](Layerwise::new).
    pub fn on(device: Device, network: Network) -> Result<Self, SfpError> {
        let program = Program::new(network, &device)?;
        Ok(Self { device, programs: vec![program], places: Vec::new() })
    }

    /// The network as it was first captured, with the values that the parameters had.
    pub fn network(&self) -> &Network {
        &self.programs[0].network
    }

    /// Its steps.
    pub fn steps(&self) -> &[Step] {
        &self.programs[0].steps
    }

    /// Number of batches.
    pub fn batches(&self) -> usize {
        self.places.len()
    }

    /// Adds a batch, and runs everything before a step on it; `step` is the same for all batches. `index` names the batch in errors.
    ///
    /// # Errors
    /// [`SfpError::BatchShape`] where the shapes are not those of the first batch, [`SfpError::Graph`] where the forward pass fails, or
    /// runs other operations at another size of batches.
    pub fn load<M: SfpModule>(
        &mut self,
        model: &M,
        index: usize,
        batch: &Batch<M::Inputs>,
        step: usize,
    ) -> Result<(), SfpError> {
        check_shapes(index, &batch.input, self.network().input_shapes())?;
        let samples = batch.input.samples();
        let known = self.programs.iter().position(|program| program.network.batch() == samples);
        let place = match known {
            Some(place) => place,
            None => {
                let network = Network::capture_with(model, &batch.input, M::logits)?;
                self.network().same_operations(&network)?;
                let program = Program::new(network, &self.device)?;
                if program.steps.len() != self.steps().len() {
                    let what = "other layers at another size of batches";
                    return Err(GraphError::Capture(format!("the forward pass runs {what}")).into());
                }
                self.programs.push(program);
                self.programs.len() - 1
            }
        };
        let program = &mut self.programs[place];
        let until = program.operation(step);
        self.places.push((place, program.replay.batches()));
        program.replay.load(batch.input.clone().to_device(&self.device), until)?;
        Ok(())
    }

    /// Runs everything before a step on all batches.
    ///
    /// # Errors
    /// [`SfpError::Graph`] where an operation fails.
    pub fn run_before(&mut self, step: usize) -> Result<(), SfpError> {
        for program in &mut self.programs {
            let until = program.operation(step);
            program.replay.run_until(until)?;
        }
        Ok(())
    }

    /// Runs everything before a step and the step's operation on all batches.
    ///
    /// # Errors
    /// [`SfpError::Graph`] where an operation fails.
    pub fn run_through(&mut self, step: usize) -> Result<(), SfpError> {
        for program in &mut self.programs {
            let until = program.operation(step).saturating_add(1);
            program.replay.run_until(until)?;
        }
        Ok(())
    }

    /// What a step reads of a batch, `[rows, channels, positions]` in single precision, after [`run_before`](Layerwise::run_before) this step.
    ///
    /// # Errors
    /// [`SfpError::Graph`] where it is not in memory.
    pub fn input(&mut self, batch: usize, step: usize) -> Result<Tensor<3>, SfpError> {
        let (program, at) = self.places[batch];
        let Program { steps, replay, .. } = &mut self.programs[program];
        Ok(single(replay.read(at, &steps[step].input)?))
    }

    /// What a step returns of a batch, `[rows, channels, positions]` in single precision, after [`run_through`](Layerwise::run_through) this step.
    ///
    /// # Errors
    /// [`SfpError::Graph`] where it is not in memory.
    pub fn output(&mut self, batch: usize, step: usize) -> Result<Tensor<3>, SfpError> {
        let (program, at) = self.places[batch];
        let Program { steps, replay, .. } = &mut self.programs[program];
        Ok(single(replay.read(at, &steps[step].output)?))
    }

    /// Replaces a parameter, given by its index in [`Network::parameters`], in everything that has not run.
    ///
    /// # Errors
    /// [`SfpError::Graph`] where the number of values is another one.
    pub fn set(&mut self, parameter: usize, values: &[f64]) -> Result<(), SfpError> {
        for program in &mut self.programs {
            let shape = program.network.parameters().get(parameter).map(|known| known.shape.clone());
            let fits = shape.filter(|shape| shape.iter().product::<usize>() == values.len());
            let shape = fits.ok_or_else(|| GraphError::Capture(format!("{} values do not fit", values.len())))?;
            program.replay.set(parameter, TensorData::new(values.to_vec(), shape))?;
        }
        Ok(())
    }
}
