//! The matrices of single filters, from what an analysis kept.

use burn_sfp_graph::GraphError;
use burn_sfp_ndarray::KernelError;
use ndarray::{Array2, Axis, Slice};

use super::finish::class_means;
use super::result::Analysis;
use crate::SfpError;
use crate::performance::{boolean_matrix, performance_matrix};

impl Analysis {
    /// Computes the performance matrix `[C, C]` of one filter, node or head in double precision: row i is the label shown, column
    /// j the output unit of the readout (docs/method.md, section 2). The elements are in units of the logits.
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
    /// let analysis = analyze(&mlp, &calibration, &AnalyzeConfig::new().with_state(true))?;
    /// let performance = analysis.performance_matrix("a", 3)?;
    /// println!("filter 3 contributes {} to label 1 where label 0 is shown", performance[[0, 1]]);
    /// assert_eq!(performance.dim(), (2, 2));
    /// # Ok::<(), burn_sfp_core::SfpError>(())
    /// ```
    ///
    /// # Errors
    /// [`GraphError::UnknownLayer`] where the analysis has no entry at the path, [`SfpError::NoState`] where it kept no state,
    /// [`SfpError::Kernel`] where there is no such filter.
    pub fn performance_matrix(&self, path: &str, filter: usize) -> Result<Array2<f64>, SfpError> {
        let Some(layer) = self.layer(path) else {
            let available = self.layers.iter().map(|layer| layer.path.clone()).collect();
            return Err(GraphError::UnknownLayer { path: path.to_string(), available }.into());
        };
        let kept = layer.state.as_ref().and_then(|state| Some((&state.sums, state.readout.as_ref()?)));
        let Some((sums, readout)) = kept else { return Err(SfpError::NoState { path: path.to_string() }) };
        let kernel = |source| SfpError::Kernel { path: path.to_string(), source };
        let filters = sums.dim().1;
        if filter >= filters {
            return Err(kernel(KernelError::Filter { filter, filters }));
        }
        let only = Slice::from(filter..filter + 1);
        let means = class_means(sums.slice_axis(Axis(1), only), &self.counts, |mean| mean);
        performance_matrix(means.view(), readout.slice_axis(Axis(0), only), 0).map_err(kernel)
    }

    /// Computes the Boolean matrix `[C, C]` of one filter, node or head from its [`performance_matrix`](Self::performance_matrix)
    /// at the threshold of the analysis (docs/method.md, section 3).
    ///
    /// It is in double precision, where clusters and noise of the analysis are in single precision: elements that
    /// [`FilterPerformance::near`](crate::performance::FilterPerformance::near) counts may differ.
    ///
    /// # Errors
    /// As [`performance_matrix`](Self::performance_matrix).
    pub fn boolean_matrix(&self, path: &str, filter: usize) -> Result<Array2<bool>, SfpError> {
        Ok(boolean_matrix(self.performance_matrix(path, filter)?.view(), self.threshold))
    }
}
