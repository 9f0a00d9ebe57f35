//! The one error type of this crate.

/// What a kernel found wrong with its arguments.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// Two arguments disagree about the length of an axis.
    #[error("{what}: expected {expected}, found {found}; pass arrays that agree on this length")]
    Shape {
        /// The axis or list in question, and what it has to agree with.
        what: &'static str,
        /// The length the other argument asks for.
        expected: usize,
        /// The length that was found.
        found: usize,
    },
    /// A label is not below the number of classes.
    #[error(
        "label {label} of sample {index} is not below the number of classes, {classes}; \
         labels count from 0"
    )]
    Label {
        /// Position in the list of labels.
        index: usize,
        /// The label found there.
        label: usize,
        /// Number of classes.
        classes: usize,
    },
    /// A filter was asked for that the layer does not have.
    #[error("filter {filter} asked of a layer with {filters} filters; filters count from 0")]
    Filter {
        /// The filter asked for.
        filter: usize,
        /// Number of filters of the layer.
        filters: usize,
    },
    /// The threshold of the Boolean matrix is not a finite number.
    #[error("threshold {found} is not a finite number; the paper uses 0.3")]
    Threshold {
        /// The threshold given.
        found: f64,
    },
    /// The lists of a kernel pattern are not compressed rows.
    #[error("kernel pattern, output filter {output}: {what}")]
    Pattern {
        /// The output filter whose row is wrong.
        output: usize,
        /// What is wrong with it, and how it should be.
        what: &'static str,
    },
    /// A stride, dilation, number of groups or kernel side is zero, or a length is too large to count with.
    #[error("convolution: {what}")]
    Geometry {
        /// What is wrong, and how it should be.
        what: &'static str,
    },
    /// The filters do not divide into the groups.
    #[error("{filters} output filters do not divide into {groups} groups; pass a number of groups that divides them")]
    Groups {
        /// Number of output filters.
        filters: usize,
        /// Number of groups.
        groups: usize,
    },
    /// The kernel does not fit into the padded input.
    #[error(
        "the kernel spans {kernel} positions along axis {axis} of the map, the padded input has {input}; \
         pad more or use a smaller kernel"
    )]
    SmallInput {
        /// 0 for rows, 1 for columns.
        axis: usize,
        /// Positions the dilated kernel spans.
        kernel: usize,
        /// Positions of the input with its padding.
        input: usize,
    },
    /// The matrix to be factorised is not positive definite, as far as double precision can tell.
    #[error(
        "matrix is not positive definite at pivot {pivot} (or holds a non-finite number there); \
         use a larger shift"
    )]
    NotPositiveDefinite {
        /// Row and column of the first pivot that is not a positive finite number.
        pivot: usize,
    },
}

/// `Ok` when `found` is `expected`, else [`KernelError::Shape`].
pub(crate) fn expect_len(what: &'static str, expected: usize, found: usize) -> Result<(), KernelError> {
    if expected == found { Ok(()) } else { Err(KernelError::Shape { what, expected, found }) }
}
