//! [`LayerKind`]: how a layer applies its weight.

use std::fmt;

use serde::{Serialize, Serializer};

/// How a layer applies its weight: which axis of the weight counts what, and what the layer's samples look like.
///
/// The kinds are constants beside the descriptions of their operations ([`Conv2d`](LayerKind::Conv2d), [`Linear`](LayerKind::Linear)).
/// Code that works on layers asks the methods rather than compares kinds, so that it holds for kinds that are added later. In files a kind
/// is its [`name`](LayerKind::name).
///
/// ```
/// use burn_sfp_graph::LayerKind;
///
/// assert_eq!((LayerKind::Conv2d.output_axis(), LayerKind::Conv2d.kernel_rank()), (0, 2));
/// assert!(LayerKind::Linear.is_linear() && LayerKind::Linear.output_axis() == 1);
/// assert_eq!(LayerKind::ConvTranspose2d.name(), "conv_transpose2d");
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LayerKind {
    name: &'static str,
    kernel_rank: usize,
    output_axis: usize,
    reads_indices: bool,
}

impl LayerKind {
    /// A convolution with a kernel over `rank` position axes. Filters are axis 0 of its weight, of a transposed one axis 1.
    pub(crate) const fn convolution(name: &'static str, rank: usize, transposed: bool) -> Self {
        Self { name, kernel_rank: rank, output_axis: transposed as usize, reads_indices: false }
    }

    /// A layer with a weight `[inputs, outputs]`.
    pub(crate) const fn matrix(name: &'static str) -> Self {
        Self { name, kernel_rank: 0, output_axis: 1, reads_indices: false }
    }

    /// A layer that picks rows of a weight `[entries, outputs]` by index.
    pub(crate) const fn lookup(name: &'static str) -> Self {
        Self { name, kernel_rank: 0, output_axis: 1, reads_indices: true }
    }

    /// The kind's name in files, for example `conv2d`.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// The axis of the weight that counts the outputs (filters or nodes).
    pub fn output_axis(self) -> usize {
        self.output_axis
    }

    /// The axis of the weight that counts the inputs.
    pub fn input_axis(self) -> usize {
        1 - self.output_axis
    }

    /// Number of position axes that the kernel slides along: 2 for `conv2d`, 0 for a linear layer.
    pub fn kernel_rank(self) -> usize {
        self.kernel_rank
    }

    /// Whether the layer has no kernel, so that channels run along the last axis of its input and output rather than along axis 1.
    pub fn is_linear(self) -> bool {
        self.kernel_rank == 0
    }

    /// Whether the layer multiplies vectors by its weight: linear layers, not embeddings and not convolutions.
    pub fn is_matrix(self) -> bool {
        self.is_linear() && !self.reads_indices
    }

    /// Whether the layer's input holds indices rather than values, as an embedding's does.
    pub fn reads_indices(self) -> bool {
        self.reads_indices
    }

    /// Whether the layer is a transposed convolution, whose weight counts inputs along axis 0.
    pub fn is_transposed(self) -> bool {
        self.kernel_rank > 0 && self.output_axis == 1
    }

    /// The axis of an input or output of `rank` axes that counts the channels.
    pub fn channel_axis(self, rank: usize) -> usize {
        if self.is_linear() { rank.saturating_sub(1) } else { 1 }
    }
}

impl fmt::Debug for LayerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl fmt::Display for LayerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name)
    }
}

impl Serialize for LayerKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}
