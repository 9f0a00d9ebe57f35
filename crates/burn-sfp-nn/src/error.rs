//! The errors of this crate.

/// An error of the layers of this crate. Each message says what was found and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NnError {
    /// An error of one layer of a module.
    #[error("layer `{path}`: {error}")]
    Layer {
        /// Module path of the layer, for example `convs.3`.
        path: String,
        /// What is wrong with it.
        error: Box<NnError>,
    },
    /// A weight format was made for a layer of another size.
    #[error(
        "a weight format of {} filters with {} inputs each does not fit a weight of {} filters with {} inputs each: build the \
         format from the shape of this layer",
        format[0], format[1], weight[0], weight[1]
    )]
    FormatMismatch {
        /// Filters and inputs per filter of the format.
        format: [usize; 2],
        /// Filters and inputs per filter of the layer's dense weight.
        weight: [usize; 2],
    },
    /// A weight format was given for something else than a sparse layer.
    #[error("only a `SparseConv2d` or `SparseLinear` can have a weight format: make the layer one of them")]
    NoSparseLayer,
    /// Dense blocks were set on a grouped convolution.
    #[error("a convolution with {groups} groups cannot hold dense blocks: use `WeightFormat::Kernels`")]
    GroupedBlocks {
        /// Groups of the convolution.
        groups: usize,
    },
    /// The weight of a sparse layer has another shape than its format says.
    #[error(
        "a weight of shape {shape:?} under a weight format of {rows} kernels, which needs {rows} rows of one input: load weight \
         and sparsity from the same record"
    )]
    WeightShape {
        /// Shape of the weight.
        shape: Vec<usize>,
        /// Rows that the format says.
        rows: usize,
    },
    /// The integers that a record holds for a sparse layer describe no weight format.
    #[error(
        "the integers of the layer's sparsity describe no weight format ({problem}): save the model again and load that record"
    )]
    InvalidFormat {
        /// What is wrong with the integers.
        problem: String,
    },
    /// The dense weight of a sparse layer does not fit into memory.
    #[error(
        "the layer's sparsity says {outputs} filters with {inputs} inputs each, whose dense weight does not fit into memory: load \
         weight and sparsity from the same record"
    )]
    TooLarge {
        /// Filters that the format says.
        outputs: usize,
        /// Inputs per filter that the format says.
        inputs: usize,
    },
    /// No value is stored for a parameter.
    #[error(
        "no value is stored for parameter `{path}`: the values are those of another model, or of another version of it"
    )]
    MissingValue {
        /// Module path of the parameter.
        path: String,
    },
    /// A value is stored for a parameter that the module does not have.
    #[error(
        "a value is stored for `{path}`, which the model does not have: the values are those of another model, or of another version of it"
    )]
    UnusedValue {
        /// Path of the value.
        path: String,
    },
    /// A stored value does not fit its parameter.
    #[error(
        "parameter `{path}` is {expected}, and the stored value {found}: build the model as the one that was saved"
    )]
    ValueMismatch {
        /// Module path of the parameter.
        path: String,
        /// Element type and shape of the parameter.
        expected: String,
        /// Element type and shape of the value.
        found: String,
    },
    /// A tensor's values could not be read from its device.
    #[error("a tensor could not be read from its device: {message}")]
    Read {
        /// What the device said.
        message: String,
    },
}

impl NnError {
    /// This error with the module path of the layer that it concerns.
    ///
    /// ```
    /// use burn_sfp_nn::NnError;
    ///
    /// let error = NnError::GroupedBlocks { groups: 4 }.in_layer("convs.3");
    /// assert!(error.to_string().starts_with("layer `convs.3`: a convolution with 4 groups"));
    /// ```
    pub fn in_layer(self, path: impl Into<String>) -> Self {
        Self::Layer { path: path.into(), error: Box::new(self) }
    }
}

/// Lists the first items of a message's list, and says how many more there are.
#[doc(hidden)]
pub fn listed<T: std::fmt::Display>(items: &[T], most: usize) -> String {
    let shown: Vec<String> = items.iter().take(most).map(ToString::to_string).collect();
    let more = items.len() - shown.len();
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}

/// A setting that is out of its range; the error types of all crates wrap it.
///
/// ```
/// use burn_sfp_nn::ConfigError;
///
/// let error = ConfigError { name: "ratio", found: "1.5".into(), expected: "at least 0 and below 1" };
/// assert_eq!(error.to_string(), "ratio is 1.5, but must be at least 0 and below 1");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} is {found}, but must be {expected}")]
pub struct ConfigError {
    /// Name of the setting.
    pub name: &'static str,
    /// Value found.
    pub found: String,
    /// What is allowed.
    pub expected: &'static str,
}

#[cfg(test)]
mod tests {
    use super::listed;

    #[test]
    fn long_lists_end_in_a_count() {
        let labels: Vec<usize> = (0..10_000).collect();
        assert_eq!(listed(&labels, 10), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 9990 more");
        assert_eq!(listed(&labels[..10], 10), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9");
        assert_eq!(listed::<usize>(&[], 10), "");
    }
}
