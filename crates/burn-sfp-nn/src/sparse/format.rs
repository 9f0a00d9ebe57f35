//! [`WeightFormat`]: which kernels a sparse weight holds, and its encoding as a list of integers in a record.

use std::collections::BTreeSet;
use std::sync::Arc;

use burn_sfp_ndarray::KernelPattern;

use crate::NnError;

/// First integer of a [`WeightFormat::Kernels`] that was encoded before there was a checksum.
const OLD_KERNELS: i64 = 1;
/// First integer of a [`WeightFormat::Blocks`] that was encoded before there was a checksum.
const OLD_BLOCKS: i64 = 2;
/// First integer of an encoded [`WeightFormat::Kernels`].
const KERNELS: i64 = 3;
/// First integer of an encoded [`WeightFormat::Blocks`].
const BLOCKS: i64 = 4;
/// First integer of an encoded [`WeightFormat::packed`], of which the rest is the size.
const PACKED: i64 = 5;
/// Most pairs of output and input of a [`WeightFormat::packed`].
const MOST_PACKED: usize = 1 << 28;
/// Integers of the checksum, the last ones.
const CHECKSUM: usize = 2;

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

    /// Encodes the format as integers, for a record; the last two are a checksum.
    pub(super) fn encode(&self) -> Vec<i64> {
        let wide = |values: &[u32]| values.iter().map(|&value| i64::from(value)).collect::<Vec<_>>();
        let mut code = match self {
            Self::Kernels(pattern) => {
                let mut code = vec![KERNELS, pattern.outputs() as i64, pattern.inputs_per_group() as i64];
                code.extend(wide(pattern.offsets()));
                code.extend(wide(pattern.inputs()));
                code
            }
            Self::Blocks(blocks) if blocks.is_packed() => vec![PACKED, blocks.outputs as i64, blocks.inputs as i64],
            Self::Blocks(blocks) => {
                let mut code = vec![BLOCKS, blocks.outputs as i64, blocks.inputs as i64, blocks.blocks.len() as i64];
                for block in &blocks.blocks {
                    code.extend([block.outputs.len() as i64, block.inputs.len() as i64]);
                    code.extend(wide(&block.outputs));
                    code.extend(wide(&block.inputs));
                    code.extend(block.keep.iter().map(|&keep| i64::from(keep)));
                }
                code
            }
        };
        code.extend(checksum(&code));
        code
    }

    /// Decodes the integers of [`encode`](WeightFormat::encode); the error says what is wrong with others.
    pub(super) fn decode(code: &[i64]) -> Result<Self, String> {
        let code = match code.first() {
            Some(&(KERNELS | BLOCKS | PACKED)) => {
                let (code, sum) = code.split_at(code.len().saturating_sub(CHECKSUM));
                if checksum(code) != sum {
                    return Err("its checksum does not fit: it was changed or damaged".into());
                }
                code
            }
            _ => code,
        };
        let mut reader = Reader { code, at: 0 };
        match reader.one()? as i64 {
            KERNELS | OLD_KERNELS => {
                let (outputs, inputs) = (reader.one()?, reader.one()?);
                let offsets = reader.many(outputs.saturating_add(1), u32::MAX as usize)?;
                let kernels = reader.many(reader.left(), u32::MAX as usize)?;
                let pattern = KernelPattern::new(inputs, offsets, kernels).map_err(|error| error.to_string())?;
                Ok(Self::Kernels(Arc::new(pattern)))
            }
            BLOCKS | OLD_BLOCKS => {
                let (outputs, inputs, count) = (reader.one()?, reader.one()?, reader.one()?);
                let mut blocks = Vec::new();
                for _ in 0..count {
                    let (rows, columns) = (reader.one()?, reader.one()?);
                    blocks.push(Block {
                        outputs: reader.many(rows, outputs)?,
                        inputs: reader.many(columns, inputs)?,
                        keep: reader.many(rows.saturating_mul(columns), 2)?.iter().map(|&keep| keep == 1).collect(),
                    });
                }
                if reader.left() > 0 {
                    return Err(format!("{} integers after the last block", reader.left()));
                }
                let blocks = Blocks { outputs, inputs, blocks };
                blocks.check()?;
                Ok(Self::Blocks(Arc::new(blocks)))
            }
            PACKED => {
                let (outputs, inputs) = (reader.one()?, reader.one()?);
                match (reader.left(), inputs) {
                    (0, 1..) => Self::packed(outputs, inputs).map_err(|error| error.to_string()),
                    (0, 0) => Err("its block has no input".into()),
                    (left, _) => Err(format!("{left} integers after the size")),
                }
            }
            other => Err(format!(
                "the first integer is {other}, expected 3 (kernels), 4 (blocks) or 5 (packed), in old records 1 or 2"
            )),
        }
    }
}

/// CRC-32 of integers, in two halves: the integers of some devices have 32 bits and a sign.
fn checksum(code: &[i64]) -> [i64; CHECKSUM] {
    let mut hasher = crc32fast::Hasher::new();
    code.iter().for_each(|value| hasher.update(&value.to_le_bytes()));
    let sum = i64::from(hasher.finalize());
    [sum >> 16, sum & 0xffff]
}

impl Blocks {
    /// Whether these are one block of everything, in order.
    fn is_packed(&self) -> bool {
        let all = |list: &[u32], of: usize| list.len() == of && (0..).zip(list).all(|(at, &place)| at == place);
        match &*self.blocks {
            [block] => {
                all(&block.outputs, self.outputs) && all(&block.inputs, self.inputs) && !block.keep.contains(&false)
            }
            _ => false,
        }
    }

    /// Checks that every output is in exactly one block, lists ascend and are in range, and each block has an input.
    fn check(&self) -> Result<(), String> {
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

/// Reads a list of integers from the front.
struct Reader<'a> {
    code: &'a [i64],
    at: usize,
}

impl Reader<'_> {
    fn left(&self) -> usize {
        self.code.len() - self.at
    }

    fn one(&mut self) -> Result<usize, String> {
        Ok(self.many(1, u32::MAX as usize)?.first().copied().unwrap_or_default() as usize)
    }

    /// The next `count` integers, each below `bound`.
    fn many(&mut self, count: usize, bound: usize) -> Result<Vec<u32>, String> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.code.len());
        let Some(end) = end else {
            return Err(format!("{count} more integers expected, {} are left", self.left()));
        };
        let taken = &self.code[self.at..end];
        self.at = end;
        let small = |&value: &i64| u32::try_from(value).ok().filter(|&value| (value as usize) < bound);
        let checked: Option<Vec<u32>> = taken.iter().map(small).collect();
        checked.ok_or_else(|| format!("an integer is negative or not below {bound}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn blocks() -> WeightFormat {
        let first = Block { outputs: vec![0, 2], inputs: vec![1, 3], keep: vec![true, false, true, true] };
        let second = Block { outputs: vec![1], inputs: vec![0], keep: vec![false] };
        WeightFormat::Blocks(Arc::new(Blocks { outputs: 3, inputs: 4, blocks: vec![first, second] }))
    }

    proptest! {
        #[test]
        fn kernels_come_back(outputs in 0_usize..9, inputs in 1_usize..9, bits: u64) {
            let keep = |o: usize, i: usize| bits >> ((o * inputs + i) % 64) & 1 == 1;
            let format = WeightFormat::Kernels(Arc::new(KernelPattern::from_fn(outputs, inputs, keep)));
            prop_assert_eq!(WeightFormat::decode(&format.encode()).unwrap(), format.clone());
            let pairs: Vec<_> = format.pairs().into_iter().flatten().collect();
            prop_assert!(pairs.iter().all(|&(o, i)| keep(o, i)));
            prop_assert_eq!(pairs.len(), format.executed());
        }

        #[test]
        fn no_list_of_integers_panics(code in prop::collection::vec(-2_i64..6, 0..40)) {
            let _ = WeightFormat::decode(&code);
        }

        #[test]
        fn a_changed_code_is_refused(place in 0_usize..24, value in -1_i64..7) {
            let mut code = blocks().encode();
            let place = place % code.len();
            if code[place] != value {
                code[place] = value;
                prop_assert!(WeightFormat::decode(&code).is_err());
            }
        }
    }

    #[test]
    fn no_changed_bit_is_read() {
        let kernels = WeightFormat::Kernels(Arc::new(KernelPattern::from_fn(5, 7, |o, i| !(o + i).is_multiple_of(3))));
        for format in [kernels, blocks(), WeightFormat::packed(7, 300).unwrap()] {
            let code = format.encode();
            assert_eq!(WeightFormat::decode(&code).unwrap(), format);
            for bit in 0..64 * code.len() {
                let mut changed = code.clone();
                changed[bit / 64] ^= 1 << (bit % 64);
                assert!(WeightFormat::decode(&changed).is_err(), "bit {bit}");
            }
            for length in 0..code.len() {
                assert!(WeightFormat::decode(&code[..length]).is_err(), "{length} integers");
            }
        }
    }

    #[test]
    fn old_codes_are_read() {
        for (format, first) in [
            (WeightFormat::Kernels(Arc::new(KernelPattern::from_fn(2, 3, |o, i| o == i))), OLD_KERNELS),
            (blocks(), OLD_BLOCKS),
        ] {
            let mut code = format.encode();
            code.truncate(code.len() - CHECKSUM);
            code[0] = first;
            assert_eq!(WeightFormat::decode(&code).unwrap(), format);
        }
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
            let WeightFormat::Blocks(right) = blocks() else { panic!("no blocks") };
            let mut wrong = (*right).clone();
            edit(&mut wrong);
            let format = WeightFormat::Blocks(Arc::new(wrong));
            let error = format.fits(format.outputs(), format.inputs()).unwrap_err();
            assert!(matches!(error, NnError::InvalidFormat { .. }), "{error}");
        }
    }

    #[test]
    fn blocks_come_back() {
        assert_eq!(WeightFormat::decode(&blocks().encode()).unwrap(), blocks());
        assert_eq!((blocks().rows(), blocks().executed(), blocks().outputs()), (5, 5, 3));
        assert_eq!(blocks().pairs(), [Some((0, 1)), None, Some((2, 1)), Some((2, 3)), None]);
    }

    #[test]
    fn a_packed_format_is_small_and_bounded() {
        let format = WeightFormat::packed(512, 4096).unwrap();
        assert_eq!((format.encode().len(), format.rows()), (3 + CHECKSUM, 512 * 4096));
        for (outputs, inputs) in [(usize::MAX, 2), (1 << 20, 1 << 20)] {
            assert!(matches!(WeightFormat::packed(outputs, inputs), Err(NnError::TooLarge { .. })));
        }
        let mut code = vec![PACKED, 1 << 30, 1 << 30];
        code.extend(checksum(&code));
        assert!(WeightFormat::decode(&code).is_err());
    }

    #[test]
    fn errors_say_what_is_wrong() {
        for (code, text) in [
            (vec![], "1 more integers expected"),
            (vec![7], "first integer is 7"),
            (vec![1, 1, 2, 0, 1, 2], "below the number of inputs"),
            (vec![2, 1, 1, 1, 1, 1, 0, 0, 1, 9], "after the last block"),
            (vec![2, 2, 1, 1, 1, 1, 0, 0, 1], "filter 1 is in no block"),
            (vec![2, 1, 1, 1, 1, 0, 0], "no input"),
        ] {
            let error = WeightFormat::decode(&code).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
    }
}
