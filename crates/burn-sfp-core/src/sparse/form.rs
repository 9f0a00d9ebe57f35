//! What a sparse weight holds, and how a record stores it: as a list of integers beside the weight.

use std::sync::Arc;

use burn_sfp_ndarray::KernelPattern;

use super::DenseShape;
use crate::SfpError;

/// Tag of [`Form::Kernels`] in a list of integers.
const KERNELS: i64 = 1;
/// Tag of [`Form::Blocks`].
const BLOCKS: i64 = 2;

/// Which kernels (pairs of output and input) a layer's weight holds, and in which order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// One row of the weight for each connection, output by output: computed by kernels of this library.
    Kernels(Arc<KernelPattern>),
    /// Dense blocks of gathered filters, one after another: computed by Burn's own layers.
    Blocks(Arc<Blocks>),
}

/// Filters with similar inputs, gathered: the weight holds a kernel for every pair of a block's outputs and inputs, zeros
/// where the two are not connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// Filters of the layer.
    pub outputs: usize,
    /// Inputs of the layer.
    pub inputs: usize,
    /// The blocks; every output is in exactly one.
    pub blocks: Vec<Block>,
}

/// One dense block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its filters, ascending.
    pub outputs: Vec<u32>,
    /// Its inputs, ascending, at least one.
    pub inputs: Vec<u32>,
    /// Which pairs are connected, output by output.
    pub keep: Vec<bool>,
}

impl Form {
    /// Rows of the weight: kernels that are stored. A weight without any keeps one row of zeros, because not every device
    /// has empty tensors.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use burn_sfp_core::sparse::{Form, KernelPattern};
    /// let pattern = KernelPattern::from_fn(2, 3, |output, input| output == input);
    /// assert_eq!(Form::Kernels(Arc::new(pattern)).rows(), 2);
    /// ```
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

    /// Inputs of a filter: those of its group.
    pub fn inputs(&self) -> usize {
        match self {
            Self::Kernels(pattern) => pattern.inputs_per_group(),
            Self::Blocks(blocks) => blocks.inputs,
        }
    }

    /// Whether this is a form of a dense weight.
    ///
    /// # Errors
    /// [`SfpError::Sparsity`] that says what the weight has and what the form asks for.
    pub fn fits<const D: usize>(&self, of: &DenseShape<D>) -> Result<(), SfpError> {
        let (outputs, inputs) = (of.shape[of.output_axis], of.shape[1 - of.output_axis]);
        if (self.outputs(), self.inputs()) == (outputs, inputs) {
            return Ok(());
        }
        Err(SfpError::Sparsity(format!(
            "a form of {} filters with {} inputs each, for a weight of {outputs} filters with {inputs} inputs each: make the \
             form from this layer",
            self.outputs(),
            self.inputs()
        )))
    }

    /// Kernels that are multiplied with, zeros inside of blocks included.
    pub fn executed(&self) -> usize {
        match self {
            Self::Kernels(pattern) => pattern.kept(),
            Self::Blocks(_) => self.rows(),
        }
    }

    /// Every row of the weight as `(output, input)`, the input counted inside of the output's group; `None` for a zero
    /// inside of a block.
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

    /// The form as integers, for a record.
    pub(crate) fn encode(&self) -> Vec<i64> {
        let wide = |numbers: &[u32]| numbers.iter().map(|&number| i64::from(number)).collect::<Vec<_>>();
        match self {
            Self::Kernels(pattern) => {
                let mut code = vec![KERNELS, pattern.outputs() as i64, pattern.inputs_per_group() as i64];
                code.extend(wide(pattern.offsets()));
                code.extend(wide(pattern.inputs()));
                code
            }
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
        }
    }

    /// Reads what [`encode`](Form::encode) wrote, and refuses everything else.
    pub(crate) fn decode(code: &[i64]) -> Result<Self, String> {
        let mut reader = Reader { code, at: 0 };
        match reader.one()? as i64 {
            KERNELS => {
                let (outputs, inputs) = (reader.one()?, reader.one()?);
                let offsets = reader.many(outputs.saturating_add(1), u32::MAX as usize)?;
                let kernels = reader.many(reader.left(), u32::MAX as usize)?;
                let pattern = KernelPattern::new(inputs, offsets, kernels).map_err(|error| error.to_string())?;
                Ok(Self::Kernels(Arc::new(pattern)))
            }
            BLOCKS => {
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
                    return Err(format!("{} integers behind the last block", reader.left()));
                }
                let blocks = Blocks { outputs, inputs, blocks };
                blocks.check()?;
                Ok(Self::Blocks(Arc::new(blocks)))
            }
            other => Err(format!("it starts with {other}, where 1 (kernels) and 2 (blocks) are known")),
        }
    }
}

impl Blocks {
    /// Every output in exactly one block, ascending lists, at least one input each.
    fn check(&self) -> Result<(), String> {
        let mut seen = vec![false; self.outputs];
        for block in &self.blocks {
            let ascending = |list: &[u32]| list.windows(2).all(|pair| pair[0] < pair[1]);
            if !ascending(&block.outputs) || !ascending(&block.inputs) || block.inputs.is_empty() {
                return Err("a block whose filters or inputs are not ascending, or that has no input".into());
            }
            for &output in &block.outputs {
                if std::mem::replace(&mut seen[output as usize], true) {
                    return Err(format!("filter {output} in two blocks"));
                }
            }
        }
        match seen.iter().position(|seen| !seen) {
            None => Ok(()),
            Some(output) => Err(format!("filter {output} in no block")),
        }
    }
}

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

    /// The next numbers, each below a bound.
    fn many(&mut self, count: usize, bound: usize) -> Result<Vec<u32>, String> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.code.len());
        let Some(end) = end else {
            return Err(format!("{count} more integers expected, {} are left", self.left()));
        };
        let taken = &self.code[self.at..end];
        self.at = end;
        let small = |&number: &i64| u32::try_from(number).ok().filter(|&number| (number as usize) < bound);
        let checked: Option<Vec<u32>> = taken.iter().map(small).collect();
        checked.ok_or_else(|| format!("an integer that is negative or not below {bound}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn blocks() -> Form {
        let first = Block { outputs: vec![0, 2], inputs: vec![1, 3], keep: vec![true, false, true, true] };
        let second = Block { outputs: vec![1], inputs: vec![0], keep: vec![false] };
        Form::Blocks(Arc::new(Blocks { outputs: 3, inputs: 4, blocks: vec![first, second] }))
    }

    proptest! {
        #[test]
        fn kernels_come_back(outputs in 0_usize..9, inputs in 1_usize..9, bits: u64) {
            let keep = |o: usize, i: usize| bits >> ((o * inputs + i) % 64) & 1 == 1;
            let form = Form::Kernels(Arc::new(KernelPattern::from_fn(outputs, inputs, keep)));
            prop_assert_eq!(Form::decode(&form.encode()).unwrap(), form.clone());
            let pairs: Vec<_> = form.pairs().into_iter().flatten().collect();
            prop_assert!(pairs.iter().all(|&(o, i)| keep(o, i)));
            prop_assert_eq!(pairs.len(), form.executed());
        }

        #[test]
        fn no_list_of_integers_panics(code in prop::collection::vec(-2_i64..6, 0..40)) {
            let _ = Form::decode(&code);
        }

        #[test]
        fn a_changed_code_is_refused_or_another_form(place in 0_usize..24, value in -1_i64..7) {
            let mut code = blocks().encode();
            let place = place % code.len();
            if code[place] != value {
                code[place] = value;
                if let Ok(form) = Form::decode(&code) {
                    prop_assert_ne!(form, blocks());
                }
            }
        }
    }

    #[test]
    fn blocks_come_back() {
        assert_eq!(Form::decode(&blocks().encode()).unwrap(), blocks());
        assert_eq!((blocks().rows(), blocks().executed(), blocks().outputs()), (5, 5, 3));
        assert_eq!(blocks().pairs(), [Some((0, 1)), None, Some((2, 1)), Some((2, 3)), None]);
    }

    #[test]
    fn errors_say_what_is_wrong() {
        for (code, text) in [
            (vec![], "1 more integers expected"),
            (vec![7], "starts with 7"),
            (vec![1, 1, 2, 0, 1, 2], "below the number of inputs"),
            (vec![2, 1, 1, 1, 1, 1, 0, 0, 1, 9], "behind the last block"),
            (vec![2, 2, 1, 1, 1, 1, 0, 0, 1], "filter 1 in no block"),
            (vec![2, 1, 1, 1, 1, 0, 0], "no input"),
        ] {
            let error = Form::decode(&code).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
    }
}
