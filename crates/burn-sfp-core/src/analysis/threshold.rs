//! An analysis at another threshold, from what was kept.

use burn_sfp_nn::ConfigError;

use super::finish::performance_of;
use super::layer::LayerAnalysis;
use super::result::{Analysis, Seconds};
use crate::SfpError;
use crate::performance::LayerSummary;

impl Analysis {
    /// Returns what the filters recognize at another threshold of the Boolean matrices (docs/method.md, section 3), without another pass over
    /// the data. The result keeps no state.
    ///
    /// The analysis must have been made with [`AnalyzeConfig::with_state`](crate::AnalyzeConfig::with_state).
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_graph::GraphModule;
    /// # use burn_sfp_core::{AnalyzeConfig, TensorCalibration, analyze};
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
    /// # let calibration = TensorCalibration::new(samples, vec![0, 1], 2);
    /// let analysis = analyze(&mlp, &calibration, &AnalyzeConfig::new().with_threshold(0.3).with_state(true))?;
    /// let stricter = analysis.at_threshold(0.45)?;
    /// let again = analyze(&mlp, &calibration, &AnalyzeConfig::new().with_threshold(0.45))?;
    /// assert_eq!(stricter.layers[0].performance, again.layers[0].performance);
    /// # Ok::<(), burn_sfp_core::SfpError>(())
    /// ```
    ///
    /// # Errors
    /// [`SfpError::Config`] where the threshold is not above 0 and below 1, [`SfpError::NoState`] where a layer kept no state.
    pub fn at_threshold(&self, threshold: f64) -> Result<Self, SfpError> {
        if !(threshold > 0.0 && threshold < 1.0) {
            let (found, expected) = (threshold.to_string(), "above 0 and below 1");
            return Err(ConfigError { name: "threshold", found, expected }.into());
        }
        let layer = |found: &LayerAnalysis| -> Result<LayerAnalysis, SfpError> {
            let kept = found.state.as_ref().and_then(|state| Some((state, state.readout.as_ref()?)));
            let Some((state, readout)) = kept else { return Err(SfpError::NoState { path: found.path.clone() }) };
            let performance = performance_of(state, readout, &self.counts, threshold, None)?;
            let summary = LayerSummary::of(&performance, found.classes);
            Ok(LayerAnalysis {
                path: found.path.clone(),
                kind: found.kind,
                filters: found.filters,
                positions: found.positions,
                grid: found.grid.clone(),
                classes: found.classes,
                samples: found.samples,
                readout: found.readout.clone(),
                performance,
                summary,
                state: None,
            })
        };
        let layers = self.layers.iter().map(layer).collect::<Result<Vec<LayerAnalysis>, SfpError>>()?;
        let model = (self.model.clone(), self.fingerprint.clone());
        let means = self.input_means.clone();
        Ok(Self::new(threshold, self.counts.clone(), self.top1, layers, means, model, Seconds::default()))
    }
}
