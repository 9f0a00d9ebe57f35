//! The encoding of a [`WeightFormat`] as a list of integers in a record.

use std::sync::Arc;

use burn_sfp_ndarray::KernelPattern;

use super::format::{Block, Blocks, WeightFormat};

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
/// Integers of the checksum, the last ones.
const CHECKSUM: usize = 2;

impl WeightFormat {
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
    use proptest::prelude::*;

    use super::*;
    use crate::NnError;

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
