//! The policies that are compared.

use burn_sfp::prelude::*;
use serde::{Deserialize, Serialize};

/// Whether a policy reads what filters recognise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// It does, alone or together with another signal.
    Sfp,
    /// It does not.
    Other,
}

/// A policy over filters, and how its scores of different layers are compared.
pub struct Contender {
    /// Its family.
    pub family: Family,
    /// The policy.
    pub policy: Box<dyn RankingPolicy>,
    /// `None` is the policy's own way.
    pub normalizer: Option<Normalizer>,
}

impl Contender {
    /// Returns the policy's name, and that of the normaliser if it is not the policy's own.
    pub fn name(&self) -> String {
        let name = self.policy.name();
        self.normalizer.map_or_else(|| name.clone(), |normalizer| format!("{name}, {normalizer:?}").to_lowercase())
    }
}

/// Returns all policies over filters and combinations of the SFP signal with others; `seed` is that of the random one.
///
/// How scores of different layers are compared matters as much as the scores. So combinations, and of the others those by Taylor and by
/// reconstruction, also stand there with two normalisers under which filters of wide layers go first: [`Normalizer::Sum`] and
/// [`Normalizer::Lamp`]. The norm with the latter is [`Lamp`], and it is Taylor's own.
///
/// Left out are AFCC, which removes connections, and how many is not for a budget to say, and `Taylor::elements`, which ranks as
/// `HessianDiagonal` does where all batches have one size.
pub fn contenders(seed: u64) -> Vec<Contender> {
    let of = |family, normalizer, policy: Box<dyn RankingPolicy>| Contender { family, policy, normalizer };
    let sfp: [Box<dyn RankingPolicy>; 2] = [Box::new(SfpRanking::new()), Box::new(LabelCover::new(3))];
    let others: [Box<dyn RankingPolicy>; 11] = [
        Box::new(Magnitude::l1()),
        Box::new(Magnitude::l2()),
        Box::new(Lamp::new()),
        Box::new(GeometricMedian::new()),
        Box::new(BatchNormScale::new()),
        Box::new(ActivationMean::new()),
        Box::new(Apoz::new()),
        Box::new(Taylor::new()),
        Box::new(HessianDiagonal::new()),
        Box::new(ReconstructionError::new()),
        Box::new(Random::new(seed)),
    ];
    let mut all: Vec<Contender> = sfp.into_iter().map(|policy| of(Family::Sfp, None, policy)).collect();
    all.extend(others.into_iter().map(|policy| of(Family::Other, None, policy)));
    for normalizer in [Some(Normalizer::Sum), Some(Normalizer::Lamp)] {
        let error = ReconstructionError::new();
        all.push(of(Family::Sfp, normalizer, Box::new(SfpRanking::new().times(Taylor::new()))));
        all.push(of(Family::Sfp, normalizer, Box::new(SfpRanking::new().times(error))));
        all.push(of(Family::Other, normalizer, Box::new(error)));
    }
    for normalizer in [Normalizer::Mean, Normalizer::Sum] {
        all.push(of(Family::Other, Some(normalizer), Box::new(Taylor::new())));
    }
    all.push(of(Family::Sfp, Some(Normalizer::Lamp), Box::new(SfpRanking::new().times(Magnitude::l2()))));
    for normalizer in [Normalizer::Lamp, Normalizer::None] {
        all.push(of(Family::Other, Some(normalizer), Box::new(ReconstructionError::new().greedy())));
    }
    all
}
