//! [`choose_connections`]: keep masks from scores.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use burn_sfp_graph::Layer;

use super::super::connections::Connections;
use super::super::context::PolicyContext;
use super::super::ranking::Ranking;
use super::pattern::{Pattern, Row};
use super::policy::{ConnectionPolicy, Wanted};
use super::settings::Spread;
use crate::PruneError;

/// Returns the keep masks that follow from a policy's scores and its [`ConnectionChoice`](super::ConnectionChoice).
///
/// The connections with the highest scores stay: as many as asked for, to the connection; where filters share their inputs
/// ([`Pattern::Shared`]), or layers whose connections hold different numbers of weights are compared, at most as many, to one more.
/// Of equal scores the later position stays. Layers with groups are left whole.
///
/// # Errors
/// Those of the policy; [`PruneError::Config`] for a share or a pattern out of its range,
/// [`GraphError::UnknownLayer`](burn_sfp_graph::GraphError::UnknownLayer) for a layer that does not exist,
/// [`PruneError::ModelMismatch`] where [`like`](super::ConnectionChoice::like) got the plan of another model, and
/// [`PruneError::BadRanking`] where a layer has another number of scores than connections, or one that is not finite.
pub fn choose_connections<P: ConnectionPolicy>(policy: &P, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
    choose_among(policy, &BTreeMap::new(), context)
}

/// The same, where the connections that `first` keeps stay before all others of their layer.
pub(in crate::policy) fn choose_among(
    policy: &dyn ConnectionPolicy,
    first: &BTreeMap<String, Connections>,
    context: &PolicyContext<'_>,
) -> Result<Ranking, PruneError> {
    let choice = policy.choice();
    choice.chosen_pattern().check()?;
    let layers = context.chosen_layers(choice.chosen_layers())?;
    choice.check_model(context.network, &layers)?;
    let layers: Vec<&Layer> = layers.into_iter().filter(|layer| layer.groups <= 1).collect();
    let shares = choice.shares(&layers)?;
    let spread = choice.chosen_spread().unwrap_or_else(|| policy.own_spread());
    let mut scored = Vec::new();
    for (layer, share) in layers.into_iter().zip(shares) {
        if share <= 0.0 {
            continue;
        }
        let first = first.get(&layer.path);
        let (outputs, inputs) = (layer.filters, layer.inputs);
        let wanted = Wanted { count: kept_of(inputs, share), spread, first };
        let Some(scores) = policy.scores(context, layer, &wanted)? else { continue };
        check(&policy.name(), layer, &scores)?;
        let scores = if spread == Spread::Global { policy.normalizer().apply(&scores) } else { scores };
        let rows = choice.chosen_pattern().rows(&scores, inputs, wanted.count, first);
        let of_connection = match choice.counts_macs() {
            true => layer.macs as f64 / (outputs * inputs).max(1) as f64,
            false => layer.kernel_elements() as f64,
        };
        let kept = vec![false; outputs * inputs];
        scored.push(Scored { layer, share, rows, cost: of_connection.max(f64::MIN_POSITIVE), kept });
    }
    match (choice.chosen_pattern(), spread) {
        (Pattern::NOfM { n, m }, _) => scored.iter_mut().for_each(|layer| layer.keep_runs(n, m)),
        (_, Spread::PerOutput) => scored.iter_mut().for_each(Scored::keep_by_output),
        (_, Spread::PerLayer) => scored.iter_mut().for_each(|layer| {
            let most = kept_of(layer.kept.len(), layer.share) as f64;
            keep_best(std::slice::from_mut(layer), &|_| 1.0, most);
        }),
        (_, Spread::Global) => {
            let most = scored.iter().map(|layer| (1.0 - layer.share) * layer.kept.len() as f64 * layer.cost).sum();
            keep_best(&mut scored, &|layer: &Scored<'_>| layer.cost, most);
        }
    }
    let masks = scored.into_iter().map(|Scored { layer, kept, .. }| {
        let inputs = layer.inputs;
        (layer.path.clone(), Connections::from_fn(layer.filters, inputs, |output, input| kept[output * inputs + input]))
    });
    Ok(Ranking { connections: masks.collect(), ..Ranking::default() })
}

/// What stays of so many when a share of them goes.
fn kept_of(all: usize, share: f64) -> usize {
    all - ((share * all as f64).round() as usize).min(all)
}

fn check(policy: &str, layer: &Layer, scores: &[f64]) -> Result<(), PruneError> {
    let connections = layer.filters * layer.inputs;
    let what = match scores.iter().position(|score| !score.is_finite()) {
        _ if scores.len() != connections => format!("{} scores for {connections} connections", scores.len()),
        Some(at) => {
            let (output, input) = (at / layer.inputs, at % layer.inputs);
            format!("the score of the connection from input {input} to output {output} is {}", scores[at])
        }
        None => return Ok(()),
    };
    Err(PruneError::BadRanking { policy: policy.into(), path: layer.path.clone(), what })
}

/// A layer with its scores.
struct Scored<'a> {
    layer: &'a Layer,
    /// Share of its connections that goes, before layers are compared.
    share: f64,
    rows: Vec<Row>,
    /// What a connection costs: weights or multiply-adds.
    cost: f64,
    /// Which connections stay, output by output.
    kept: Vec<bool>,
}

impl Scored<'_> {
    fn keep(&mut self, row: usize, input: usize) {
        let inputs = self.layer.inputs;
        for output in &self.rows[row].outputs {
            self.kept[output * inputs + input] = true;
        }
    }

    /// Every output keeps the same number.
    fn keep_by_output(&mut self) {
        let count = kept_of(self.layer.inputs, self.share);
        for row in 0..self.rows.len() {
            let mut order: Vec<usize> = (0..self.layer.inputs).collect();
            order.sort_by(|&a, &b| self.rows[row].order(a, b));
            order.into_iter().take(count).for_each(|input| self.keep(row, input));
        }
    }

    /// Of each `m` neighbouring inputs an output keeps `n`; of fewer at the end as many, or all.
    fn keep_runs(&mut self, n: usize, m: usize) {
        let inputs: Vec<usize> = (0..self.layer.inputs).collect();
        for row in 0..self.rows.len() {
            for run in inputs.chunks(m) {
                let mut order = run.to_vec();
                order.sort_by(|&a, &b| self.rows[row].order(a, b));
                order.into_iter().take(n).for_each(|input| self.keep(row, input));
            }
        }
    }
}

impl Row {
    /// The order in which inputs are kept.
    fn order(&self, a: usize, b: usize) -> Ordering {
        let by_score = || self.scores[b].total_cmp(&self.scores[a]);
        self.first[b].cmp(&self.first[a]).then_with(by_score).then(b.cmp(&a))
    }
}

/// Keeps the connections with the highest scores for what they cost, of all these layers together, until the next one would cost too
/// much.
fn keep_best(layers: &mut [Scored<'_>], cost: &dyn Fn(&Scored<'_>) -> f64, most: f64) {
    struct Candidate {
        first: bool,
        score: f64,
        at: (usize, usize, usize),
    }
    let mut order = Vec::new();
    for (index, layer) in layers.iter().enumerate() {
        for (at, row) in layer.rows.iter().enumerate() {
            let candidate = |input: usize| Candidate {
                first: row.first[input],
                score: row.scores[input] / cost(layer),
                at: (index, at, input),
            };
            order.extend((0..layer.layer.inputs).map(candidate));
        }
    }
    order.sort_by(|a, b| {
        let by_score = || b.score.total_cmp(&a.score);
        b.first.cmp(&a.first).then_with(by_score).then(b.at.cmp(&a.at))
    });
    let mut used = 0.0;
    for Candidate { at: (layer, row, input), .. } in order {
        used += layers[layer].rows[row].outputs.len() as f64 * cost(&layers[layer]);
        // The sum of costs is rounded.
        if used > most + 1e-9 * most.max(1.0) {
            break;
        }
        layers[layer].keep(row, input);
    }
}
