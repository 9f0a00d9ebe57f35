//! [`Part`]: a policy inside of another one.

use std::collections::BTreeMap;
use std::fmt;

use super::super::check::check_ranking;
use super::super::connections::Connections;
use super::super::context::PolicyContext;
use super::super::ranking::{Ranking, RankingPolicy};
use crate::PruneError;
use crate::evidence::Needs;
use crate::normalize::Normalizer;

/// A policy inside of another one.
pub(super) struct Part<'a>(Box<dyn RankingPolicy + 'a>);

impl fmt::Debug for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.name())
    }
}

impl<'a> Part<'a> {
    pub fn new(policy: impl RankingPolicy + 'a) -> Self {
        Self(Box::new(policy))
    }

    /// Returns what the policy reads of the calibration data besides the analysis.
    pub fn needs(&self) -> Needs {
        self.0.needs()
    }

    /// Returns the policy's name, in brackets where it has several words.
    pub fn name(&self) -> String {
        let name = self.0.name();
        if name.contains(' ') { format!("({name})") } else { name }
    }

    /// Returns the policy's ranking. It is checked here, because the combination may hide what is wrong with it.
    pub fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        let ranking = self.0.rank(context)?;
        check_ranking(context.network, &self.0.name(), &ranking)?;
        Ok(ranking)
    }
}

/// Returns what policies need together.
pub(super) fn needs<'p>(parts: impl IntoIterator<Item = &'p Part<'p>>) -> Needs {
    parts.into_iter().fold(Needs::none(), |all, part| all.and(part.needs()))
}

/// Returns the ranking of policies that score together: layers that all of them score, normalised and joined filter by filter, and the
/// keep masks that [`kept_by_all`] makes. `join` sees one score of each part, in their order.
pub(super) fn join<'p>(
    parts: impl IntoIterator<Item = &'p Part<'p>>,
    context: &PolicyContext<'_>,
    normalizer: Normalizer,
    join: impl Fn(&[f64]) -> f64,
) -> Result<Ranking, PruneError> {
    let rankings: Vec<Ranking> = parts.into_iter().map(|part| part.rank(context)).collect::<Result<_, _>>()?;
    let mut joined = Ranking { connections: kept_by_all(&rankings), ..Ranking::default() };
    let Some((first, _)) = rankings.split_first() else { return Ok(joined) };
    for path in first.filters.keys() {
        let scores = rankings.iter().map(|ranking| Some(normalizer.apply(ranking.filters.get(path)?)));
        let Some(scores) = scores.collect::<Option<Vec<Vec<f64>>>>() else { continue };
        let of = |filter: usize| join(&scores.iter().map(|scores| scores[filter]).collect::<Vec<f64>>());
        joined.filters.insert(path.clone(), (0..scores[0].len()).map(of).collect());
    }
    Ok(joined)
}

/// Returns the connections that no ranking removes. One without a keep mask for a layer keeps all of its connections.
pub(super) fn kept_by_all(rankings: &[Ranking]) -> BTreeMap<String, Connections> {
    let mut all: BTreeMap<String, Connections> = BTreeMap::new();
    for (path, mask) in rankings.iter().flat_map(|ranking| &ranking.connections) {
        let both = match all.get(path) {
            None => mask.clone(),
            Some(other) => {
                let (outputs, inputs) = mask.shape();
                Connections::from_fn(outputs, inputs, |output, input| {
                    mask.keeps(output, input) && other.keeps(output, input)
                })
            }
        };
        all.insert(path.clone(), both);
    }
    all
}
