//! Pruned models for deployment: [`Inference`] of them in one call.

use burn_sfp_graph::{GraphModule, Inference, InferenceConfig};

use crate::{PruneError, Pruned, PrunedModule};

impl<M: GraphModule> Pruned<M> {
    /// Returns the smaller model's forward pass for inference on a CPU, ready for inputs of the example's shapes: batch normalisations, residual sums and
    /// ReLUs taken into the layers in front of them, each layer by the faster of Burn's operations and packed weights. See [`Inference`].
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_graph::GraphModule;
    /// # use burn_sfp_core::TensorCalibration;
    /// # use burn_sfp_prune::{Magnitude, Pruner};
    /// # #[derive(Module, Debug)]
    /// # struct Mlp { a: Linear, b: Linear }
    /// # impl GraphModule for Mlp {
    /// #     type Inputs = Tensor<2>;
    /// #     type Outputs = Tensor<2>;
    /// #     fn run(&self, x: Tensor<2>) -> Tensor<2> { self.b.forward(self.a.forward(x)) }
    /// # }
    /// # let device = Device::flex();
    /// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 2).init(&device) };
    /// # let samples = Tensor::<2>::ones([2, 4], &device);
    /// # let calibration = TensorCalibration::new(samples.clone(), vec![0, 1], 2);
    /// let pruned = Pruner::new(&calibration).policy(Magnitude::l2()).ratio(0.5).analyze_and_prune(&mlp)?;
    /// let mut fast = pruned.for_inference(&samples)?;
    /// println!("{}", fast.choices());
    /// let y = fast.run(samples.clone())?;
    /// assert!((y - pruned.model.run(samples)).abs().max().into_scalar::<f32>() < 1e-5);
    /// # Ok::<(), burn_sfp_prune::PruneError>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Inference::new`].
    pub fn for_inference(&self, example: &M::Inputs) -> Result<Inference<M>, PruneError> {
        Ok(Inference::new(&self.model, example)?)
    }

    /// [`for_inference`](Pruned::for_inference) with other settings, such as choices that were saved.
    ///
    /// # Errors
    /// Those of [`Inference::new`].
    pub fn for_inference_with(
        &self,
        example: &M::Inputs,
        config: &InferenceConfig,
    ) -> Result<Inference<M>, PruneError> {
        Ok(Inference::with_config(&self.model, example, config)?)
    }
}

impl<M: GraphModule> PrunedModule<M> {
    /// Returns the smaller model's forward pass for inference on a CPU, as [`Pruned::for_inference`] does.
    ///
    /// # Errors
    /// Those of [`Inference::new`].
    pub fn for_inference(&self, example: &M::Inputs) -> Result<Inference<M>, PruneError> {
        Ok(Inference::new(&self.model, example)?)
    }

    /// [`for_inference`](PrunedModule::for_inference) with other settings, such as choices that were saved.
    ///
    /// # Errors
    /// Those of [`Inference::new`].
    pub fn for_inference_with(
        &self,
        example: &M::Inputs,
        config: &InferenceConfig,
    ) -> Result<Inference<M>, PruneError> {
        Ok(Inference::with_config(&self.model, example, config)?)
    }
}
