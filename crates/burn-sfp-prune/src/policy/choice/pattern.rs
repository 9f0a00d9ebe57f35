//! [`Pattern`]: connections that stay or go together.

use burn_sfp_nn::ConfigError;

use super::super::connections::Connections;

/// Which connections of a layer stay or go together.
///
/// ```
/// use burn_sfp_prune::{MagnitudeConnections, Pattern};
///
/// // Filters in groups of 32 that read the same inputs: `sparsify` makes dense blocks of them where its cost model finds these faster.
/// let blocks = MagnitudeConnections::l2().removing(0.9).pattern(Pattern::Shared { outputs: 32 });
/// // Two of four neighbouring inputs, as some hardware computes them.
/// let two_of_four = MagnitudeConnections::l2().pattern(Pattern::NOfM { n: 2, m: 4 });
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pattern {
    /// Each connection by itself.
    #[default]
    Single,
    /// Groups of so many outputs read the same inputs, those with the highest sum of scores over the group.
    ///
    /// Groups are formed greedily: the output with the largest sum of scores opens one, and those join whose scores are the most on the inputs
    /// that it would keep, as a share of all of theirs. The groups are the blocks of [`sparsify`](crate::sparsify).
    Shared {
        /// Outputs of a group, at least 1; the last group may have fewer.
        outputs: usize,
    },
    /// Of each m neighbouring inputs an output keeps the n with the highest scores. The pattern alone says how many connections stay; a layer
    /// of which none is asked to go stays whole.
    NOfM {
        /// Inputs that stay, at least 1.
        n: usize,
        /// Neighbouring inputs, at least n.
        m: usize,
    },
}

/// Outputs that keep the same inputs.
pub(super) struct Row {
    pub outputs: Vec<usize>,
    /// For each input the mean of the scores.
    pub scores: Vec<f64>,
    /// Whether an input comes before all others: at least half of the outputs want it.
    pub first: Vec<bool>,
}

impl Pattern {
    pub(super) fn check(self) -> Result<(), ConfigError> {
        let wrong = |found: String, expected| Err(ConfigError { name: "pattern", found, expected });
        match self {
            Self::Shared { outputs: 0 } => wrong("groups of 0 outputs".into(), "at least 1 output"),
            Self::NOfM { n, m } if n == 0 || n > m => {
                wrong(format!("{n} of {m}"), "at least 1, and at most all of them")
            }
            _ => Ok(()),
        }
    }

    /// The rows of a layer, for scores `[outputs * inputs]`; an output keeps about `count` inputs.
    pub(super) fn rows(self, scores: &[f64], inputs: usize, count: usize, first: Option<&Connections>) -> Vec<Row> {
        let outputs = scores.len() / inputs.max(1);
        let groups = match self {
            Self::Shared { outputs: size } if size > 1 => groups(scores, inputs, count, size),
            _ => (0..outputs).map(|output| vec![output]).collect(),
        };
        let row = |outputs: Vec<usize>| {
            let number = outputs.len() as f64;
            let mean =
                |input: usize| outputs.iter().map(|output| scores[output * inputs + input]).sum::<f64>() / number;
            let wanted = |input: usize| {
                let those = outputs.iter().filter(|&&output| first.is_none_or(|first| first.keeps(output, input)));
                2 * those.count() >= outputs.len()
            };
            let (scores, first) = ((0..inputs).map(mean).collect(), (0..inputs).map(wanted).collect());
            Row { outputs, scores, first }
        };
        groups.into_iter().map(row).collect()
    }
}

/// Outputs in groups that want similar inputs.
fn groups(scores: &[f64], inputs: usize, count: usize, size: usize) -> Vec<Vec<usize>> {
    let rows: Vec<&[f64]> = scores.chunks(inputs.max(1)).collect();
    let totals: Vec<f64> = rows.iter().map(|row| row.iter().sum()).collect();
    let mut open: Vec<usize> = (0..rows.len()).collect();
    // The largest first, ties by position.
    open.sort_by(|&a, &b| totals[b].total_cmp(&totals[a]).then(a.cmp(&b)));
    let mut groups = Vec::new();
    while !open.is_empty() {
        let seed = open.remove(0);
        let mut order: Vec<usize> = (0..inputs).collect();
        order.sort_by(|&a, &b| rows[seed][b].total_cmp(&rows[seed][a]).then(a.cmp(&b)));
        let shared = |output: usize| {
            let own: f64 = order.iter().take(count).map(|&input| rows[output][input]).sum();
            if totals[output] > 0.0 { own / totals[output] } else { 0.0 }
        };
        let mut others: Vec<(f64, usize)> = open.iter().map(|&output| (shared(output), output)).collect();
        others.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut group: Vec<usize> = others.iter().take(size - 1).map(|&(_, output)| output).collect();
        group.push(seed);
        group.sort_unstable();
        open.retain(|output| group.binary_search(output).is_err());
        groups.push(group);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_that_want_the_same_share_a_group() {
        // Outputs equal modulo 3 want the inputs equal modulo 3.
        let scores: Vec<f64> =
            (0..9 * 6).map(|k| if k / 6 % 3 == k % 6 % 3 { 1.0 + (k / 6) as f64 } else { 0.1 }).collect();
        let mut found = groups(&scores, 6, 2, 3);
        found.sort();
        assert_eq!(found, [[0, 3, 6], [1, 4, 7], [2, 5, 8]]);
        assert_eq!(groups(&scores, 6, 2, 4).iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 1]);
    }
}
