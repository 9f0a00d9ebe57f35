//! [`OnnxError`].

use burn_sfp_graph::{FileError, place};

/// A model could not be exported to ONNX. Nothing was written.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::activation::softmax;
/// # use burn_sfp_graph::GraphModule;
/// use burn_sfp_prune::{OnnxConfig, OnnxError, PruneError, export_onnx};
///
/// #[derive(Module, Debug)]
/// struct Probabilities { layer: Linear }
///
/// impl GraphModule for Probabilities {
///     type Inputs = Tensor<2>;
///     type Outputs = Tensor<2>;
///     fn run(&self, x: Tensor<2>) -> Tensor<2> { softmax(self.layer.forward(x), 1) }
/// }
/// # let device = Device::flex();
/// let model = Probabilities { layer: LinearConfig::new(4, 3).init(&device) };
/// # let path = std::env::temp_dir().join("burn-sfp-error-example.onnx");
/// match export_onnx(&model, &Tensor::zeros([1, 4], &device), &path, &OnnxConfig::new()) {
///     Err(PruneError::Onnx(OnnxError::Unsupported { name, after, .. })) => {
///         assert_eq!((name.as_str(), after.as_deref()), ("Softmax", Some("layer")));
///     }
///     other => panic!("{other:?}"),
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// An operation that the exporter does not write, or does not write so that the file computes the same.
    #[error(
        "operation {operation} ({name}){} cannot be exported to ONNX{}: {}",
        of.as_ref().map_or_else(|| place(after), |of| format!(" of layer `{of}`")),
        why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default(),
        advice(name)
    )]
    Unsupported {
        /// Position of the operation in the forward pass.
        operation: usize,
        /// Name of the operation, for example `Softmax`.
        name: String,
        /// Module path of the layer whose parameter it reads, if any.
        of: Option<String>,
        /// Module path of the nearest layer whose output it works on.
        after: Option<String>,
        /// What about it is not supported, where it is not the operation as such.
        why: Option<String>,
    },
    /// The forward pass depends on the batch size, so that one file cannot take batches of any size.
    #[error(
        "the network cannot be exported with a dynamic batch axis: {what}{}; compute sizes from `dims()` and leave the batch axis whole, \
         or export for one batch size with `OnnxConfig::new().fixed_batch()`",
        place(after)
    )]
    DynamicBatch {
        /// What depends on the batch size.
        what: String,
        /// Module path of the nearest layer before it.
        after: Option<String>,
    },
    /// A parameter or input has a number type that ONNX or its runtimes do not know.
    #[error("`{what}` holds values of type {dtype}, which cannot be exported to ONNX: cast the model to f32 first")]
    Precision {
        /// Module path of the parameter, or what else holds them.
        what: String,
        /// The type.
        dtype: String,
    },
    /// The module takes or returns something that a file cannot.
    #[error("the forward pass {what}")]
    Boundary {
        /// What, and what to do.
        what: String,
    },
    /// The forward pass failed while the exporter recorded it.
    #[error(
        "the forward pass failed while it was recorded for export: {message}; the exporter knows shapes only: a forward pass that reads \
         values (`into_data`, `into_scalar`) cannot be exported"
    )]
    Forward {
        /// The panic's message.
        message: String,
    },
    /// The exporter failed otherwise.
    #[error("burn-onnx could not export the model: {message}")]
    Exporter {
        /// Its message.
        message: String,
    },
    /// The file could not be written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What to do about an operation that is not exported.
fn advice(name: &str) -> &'static str {
    match name {
        "MeanDim" | "Mean" => {
            "take the mean over the positions of an image by `AdaptiveAvgPool2d` to [1, 1], other means by `sum_dim` and a division"
        }
        "Softmax" | "LogSoftmax" | "ArgMax" => {
            "at the end of a network, leave it out of `run` and apply it to what the file returns; docs/networks.md lists what is exported"
        }
        "Clamp" | "ClampMin" | "ClampMax" => {
            "`relu6` and `clamp` are not exported, `relu` is: train with that, or run the model with Burn"
        }
        _ => {
            "docs/networks.md lists the operations that are: write this part of the forward pass with those, or run the model with Burn \
             instead"
        }
    }
}
