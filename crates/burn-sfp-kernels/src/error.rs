//! The error of every argument check of the kernels.

/// The reason why a kernel rejects its arguments.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// Two arguments disagree about the length of an axis, or an array has the wrong number of axes.
    #[error("{what}: expected {expected}, found {found}; pass arguments that agree on this length")]
    Shape {
        /// The axis or list whose length is wrong.
        what: &'static str,
        /// The length that the other argument requires.
        expected: usize,
        /// The length that was found.
        found: usize,
    },
    /// A class label is not below the number of classes.
    #[error("label {label} of sample {index} is not below the number of classes, {classes}; labels count from 0")]
    Label {
        /// Index of the sample in the batch.
        index: usize,
        /// The label of that sample.
        label: usize,
        /// Number of classes.
        classes: usize,
    },
    /// The layer has no filter with the requested index.
    #[error("filter {filter} requested from a layer with {filters} filters; filters count from 0")]
    Filter {
        /// The requested filter.
        filter: usize,
        /// Number of filters of the layer.
        filters: usize,
    },
    /// The threshold of the Boolean matrix is infinite or NaN.
    #[error("threshold {found} is not finite; the paper uses 0.3")]
    Threshold {
        /// The threshold given.
        found: f64,
    },
    /// The lists of a kernel pattern are not valid compressed rows.
    #[error("kernel pattern: {what} (entry {index} of that list)")]
    Pattern {
        /// The rule that the lists break; it names the list in question.
        what: &'static str,
        /// Index of the first wrong entry in that list.
        index: usize,
    },
    /// A stride, dilation, number of groups or kernel side is zero, or a length exceeds a limit.
    #[error("convolution: {what}")]
    Geometry {
        /// What is wrong and what is allowed.
        what: &'static str,
    },
    /// The number of groups does not divide the number of output filters.
    #[error("{filters} output filters do not divide into {groups} groups; pass a number of groups that divides them")]
    Groups {
        /// Number of output filters.
        filters: usize,
        /// Number of groups.
        groups: usize,
    },
    /// The kernel is larger than the padded input.
    #[error(
        "the kernel spans {kernel} positions along axis {axis} of the map, but the padded input has only {input}; \
         increase the padding or use a smaller kernel"
    )]
    SmallInput {
        /// 0 for rows, 1 for columns.
        axis: usize,
        /// Positions that the dilated kernel spans.
        kernel: usize,
        /// Positions of the input including its padding.
        input: usize,
    },
    /// The matrix to be factorized is not positive definite in double precision.
    #[error("the matrix is not positive definite, or not finite, at pivot {pivot}; use a larger shift")]
    NotPositiveDefinite {
        /// Row and column of the first pivot that is not positive and finite.
        pivot: usize,
    },
}
