//! [`WeightFormat`]: which kernels a sparse weight holds.

use std::collections::BTreeSet;
use std::sync::Arc;

use burn_sfp_ndarray::KernelPattern;

use crate::NnError;

/// Most pairs of output and input of a [`WeightFormat::packed`].
const MOST_PACKED: usize = 1 << 28;

/// Storage format of a sparse layer's weight: which kernels (one per pair of output and input) it holds, and in which order.
///
/// ```
/// use std::sync::Arc;
/// use burn_sfp_nn::sparse::{KernelPattern, WeightFormat};
///
/// // Two filters with three inputs each; filter 0 reads input 0, filter 1 reads input 1.
/// let pattern = KernelPattern::from_fn(2, 3, |output, input| output == input);
/// let format = WeightFormat::Kernels(Arc::new(pattern));
/// assert_eq!((format.outputs(), format.inputs(), format.rows()), (2, 3, 2));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WeightFormat {
    /// One row of the weight for each connection, output by output. Runs on the sparse kernels of this project.
    Kernels(Arc<KernelPattern>),
    /// Dense blocks of filters with similar inputs, one block after another. Runs on the packed kernels of this project on the CPU,
    /// on Burn's own dense operations elsewhere.
    Blocks(Arc<Blocks>),
}

/// A weight divided into dense blocks of filters with similar inputs.
///
/// The weight holds a kernel for every pair of a block's outputs and inputs, zeros where the two are not connected.
///
/// ```
/// use std::sync::Arc;
/// use burn_sfp_nn::sparse::{Block, Blocks, WeightFormat};
///
/// // Filters 0 and 2 read inputs 1 and 3 (filter 2 only input 3); filter 1 reads input 0.
/// let first = Block { outputs: vec![0, 2], inputs: vec![1, 3], keep: vec![true, true, false, true] };
/// let second = Block { outputs: vec![1], inputs: vec![0], keep: vec![true] };
/// let blocks = Blocks { outputs: 3, inputs: 4, blocks: vec![first, second] };
/// assert_eq!(WeightFormat::Blocks(Arc::new(blocks)).rows(), 5);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// Filters of the layer.
    pub outputs: usize,
    /// Inputs of the layer.
    pub inputs: usize,
    /// The blocks. Every output is in exactly one of them.
    pub blocks: Vec<Block>,
}

/// One dense block of a [`Blocks`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Filters of the block, ascending.
    pub outputs: Vec<u32>,
    /// Inputs of the block, ascending, at least one.
    pub inputs: Vec<u32>,
    /// Keep mask of the pairs, output by output.
    pub keep: Vec<bool>,
}

impl WeightFormat {
    /// The format that leaves nothing out: one block of all filters and inputs, whose weights are packed once on the CPU.
    ///
    /// ```
    /// use burn::nn::conv::Conv2dConfig;
    /// use burn::tensor::{Device, Tensor};
    /// use burn_sfp_nn::SparseConv2d;
    /// use burn_sfp_nn::sparse::WeightFormat;
    ///
    /// let device = Device::flex();
    /// let conv = SparseConv2d::from(Conv2dConfig::new([3, 8], [3, 3]).init(&device));
    /// let packed = conv.clone().with_format(Some(WeightFormat::packed(8, 3)?))?;
    ///
    /// let x = Tensor::<4>::ones([2, 3, 6, 6], &device);
    /// let difference = (packed.forward(x.clone()) - conv.forward(x)).abs().max().into_scalar::<f32>();
    /// assert!(difference < 1e-5);
    /// # Ok::<(), burn_sfp_nn::NnError>(())
    /// ```
    ///
    /// # Errors
    /// [`NnError::TooLarge`] for more than 2^28 pairs of output and input.
    pub fn packed(outputs: usize, inputs: usize) -> Result<Self, NnError> {
        match outputs.checked_mul(inputs) {
            Some(pairs) if pairs <= MOST_PACKED => {
                let keep = vec![true; pairs];
                let [all, read] = [outputs, inputs].map(|count| (0..count as u32).collect());
                let block = Block { outputs: all, inputs: read, keep };
                Ok(Self::Blocks(Arc::new(Blocks { outputs, inputs, blocks: vec![block] })))
            }
            _ => Err(NnError::TooLarge { outputs, inputs }),
        }
    }

    /// Rows of the weight, one per stored kernel. A weight without any kernel has one row of zeros, because not every device
    /// has empty tensors.
    pub fn rows(&self) -> usize {
        match self {
            Self::Kernels(pattern) => pattern.kept().max(1),
            Self::Blocks(blocks) => blocks.blocks.iter().map(|block| block.keep.len()).sum(),
        }
    }

    /// Filters of the layer.
    pub fn outputs(&self) -> usize {
        match self {
            Self::Kernels(pattern) => pattern.outputs(),
            Self::Blocks(blocks) => blocks.outputs,
        }
    }

    /// Inputs of one filter; in a grouped convolution those of its group.
    pub fn inputs(&self) -> usize {
        match self {
            Self::Kernels(pattern) => pattern.inputs_per_group(),
            Self::Blocks(blocks) => blocks.inputs,
        }
    }

    /// Checks that the format is for a layer of `outputs` filters with `inputs` inputs each.
    ///
    /// # Errors
    /// [`NnError::FormatMismatch`] where it is for another size, [`NnError::InvalidFormat`] where its blocks contradict each other.
    pub fn fits(&self, outputs: usize, inputs: usize) -> Result<(), NnError> {
        self.check().map_err(|problem| NnError::InvalidFormat { problem })?;
        let (format, weight) = ([self.outputs(), self.inputs()], [outputs, inputs]);
        if format == weight { Ok(()) } else { Err(NnError::FormatMismatch { format, weight }) }
    }

    /// Checks what a pattern guarantees by itself: that each output is in one block and the lists of blocks are in range.
    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            Self::Kernels(_) => Ok(()),
            Self::Blocks(blocks) => blocks.check(),
        }
    }

    /// Kernels that a forward pass multiplies with, zeros inside blocks included.
    pub fn executed(&self) -> usize {
        match self {
            Self::Kernels(pattern) => pattern.kept(),
            Self::Blocks(_) => self.rows(),
        }
    }

    /// The `(output, input)` pair of each row of the weight, the input counted inside the output's group; `None` for a zero
    /// inside a block.
    pub(crate) fn pairs(&self) -> Vec<Option<(usize, usize)>> {
        match self {
            Self::Kernels(pattern) => (0..pattern.outputs())
                .flat_map(|output| pattern.row(output).iter().map(move |&input| Some((output, input as usize))))
                .collect(),
            Self::Blocks(blocks) => {
                let block = |block: &Block| {
                    let pairs = block.outputs.iter().flat_map(|&o| block.inputs.iter().map(move |&i| (o, i)));
                    (pairs.zip(&block.keep))
                        .map(|((o, i), &keep)| keep.then_some((o as usize, i as usize)))
                        .collect::<Vec<_>>()
                };
                blocks.blocks.iter().flat_map(block).collect()
            }
        }
    }
}

impl Blocks {
    /// Whether these are one block of everything, in order.
    pub(super) fn is_packed(&self) -> bool {
        let all = |list: &[u32], of: usize| list.len() == of && (0..).zip(list).all(|(at, &place)| at == place);
        match &*self.blocks {
            [block] => {
                all(&block.outputs, self.outputs) && all(&block.inputs, self.inputs) && !block.keep.contains(&false)
            }
            _ => false,
        }
    }

    /// Checks that every output is in exactly one block, lists ascend and are in range, and each block has an input.
    pub(super) fn check(&self) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        for block in &self.blocks {
            let inside = |list: &[u32], bound: usize| list.last().is_none_or(|&last| (last as usize) < bound);
            if !inside(&block.outputs, self.outputs) || !inside(&block.inputs, self.inputs) {
                return Err("a block has a filter or an input that the layer does not have".into());
            }
            if block.outputs.len().checked_mul(block.inputs.len()) != Some(block.keep.len()) {
                return Err("the keep mask of a block does not have an element for each pair".into());
            }
            let ascending = |list: &[u32]| list.windows(2).all(|pair| pair[0] < pair[1]);
            if !ascending(&block.outputs) || !ascending(&block.inputs) || block.inputs.is_empty() {
                return Err("a block has no input, or filters or inputs that do not ascend".into());
            }
            for &output in &block.outputs {
                if !seen.insert(output as usize) {
                    return Err(format!("filter {output} is in two blocks"));
                }
            }
        }
        match (0..self.outputs).find(|output| !seen.contains(output)) {
            None => Ok(()),
            Some(output) => Err(format!("filter {output} is in no block")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks() -> Blocks {
        let first = Block { outputs: vec![0, 2], inputs: vec![1, 3], keep: vec![true, false, true, true] };
        let second = Block { outputs: vec![1], inputs: vec![0], keep: vec![false] };
        Blocks { outputs: 3, inputs: 4, blocks: vec![first, second] }
    }

    #[test]
    fn blocks_made_by_hand_are_checked() {
        type Edit = fn(&mut Blocks);
        let edits: [Edit; 5] = [
            |blocks| blocks.blocks[0].outputs[1] = 9,
            |blocks| blocks.blocks[0].inputs[1] = 4,
            |blocks| blocks.blocks[0].keep.truncate(3),
            |blocks| blocks.blocks[1].outputs[0] = 0,
            |blocks| blocks.outputs = usize::MAX,
        ];
        for edit in edits {
            let mut wrong = blocks();
            edit(&mut wrong);
            let format = WeightFormat::Blocks(Arc::new(wrong));
            let error = format.fits(format.outputs(), format.inputs()).unwrap_err();
            assert!(matches!(error, NnError::InvalidFormat { .. }), "{error}");
        }
    }
}
