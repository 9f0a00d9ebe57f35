//! One row: the choice, the fit, the top-1.

use burn::tensor::Tensor;
use burn_sfp::prelude::{
    Afcc, Calibration, Connections, MagnitudeConnections, NoProgress, Planner, PolicyExt, PrunePlan, RandomAfcc,
    RankingPolicy, ReconstructionConnections, Recover, Spread, recover,
};

use super::LAYERS;
use super::contenders::{Contender, Kind, Share};
use super::late::{Chosen, Late};
use super::prepared::Prepared;
use super::single::{held, without_smallest};
use super::train::Training;
use crate::error::ExampleError;
use crate::model::{FRONT, Vgg11};

/// What came of a contender.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    /// Share of the connections of each layer that is gone.
    pub removed: Vec<f64>,
    /// Share of the weights of all these layers that is gone.
    pub removed_share: f64,
    /// Top-1 with the weights as they were.
    pub pruned: f64,
    /// Top-1 once they are fitted.
    pub recovered: f64,
    /// Top-1 after training, where there is any.
    pub trained: Option<f64>,
}

/// Measures a contender.
pub(super) fn trial(
    contender: &Contender,
    prepared: &Prepared,
    training: Option<&Training>,
    without_fit: bool,
) -> Result<Measured, ExampleError> {
    let train = |model: Vgg11, plan: &PrunePlan| -> Result<Option<f64>, ExampleError> {
        let Some(training) = training else { return Ok(None) };
        let trained = training.run(model, plan, &prepared.model)?;
        Ok(Some(if training.from < FRONT {
            prepared.whole_top1(&trained)
        } else {
            prepared.top1(&Late { net: trained })
        }))
    };
    if contender.kind == Kind::Nothing {
        let (top1, removed) = (prepared.top1, vec![0.0; LAYERS.len()]);
        let trained = train(prepared.model.clone(), &prepared.untouched()?)?;
        return Ok(Measured { removed, removed_share: 0.0, pruned: top1, recovered: top1, trained });
    }
    let like = match contender.share {
        Share::OfAfcc(threshold) => prepared.afcc(threshold)?,
        Share::Even(share) => prepared.even(share)?,
    };
    let plan = match contender.kind {
        Kind::SingleWeights | Kind::Nothing => like,
        _ => prepared.plan(&*policy(contender, &like), contender.threshold)?,
    };
    let ((pruned, late_plan), config) = match contender.kind {
        Kind::SingleWeights => (single(prepared, &plan)?, Recover::new().keep_zeros(true)),
        _ => (late(prepared, &plan)?, Recover::new()),
    };
    let right_after = prepared.top1(&pruned);
    let fitted = if without_fit {
        pruned
    } else {
        let fitted = recover(&prepared.late, &pruned, &late_plan, &prepared.features, &config, &NoProgress)?;
        println!("{}", fitted.report);
        fitted.model
    };
    let (removed, removed_share) = shares(&plan);
    let recovered = prepared.top1(&fitted);
    let trained = match contender.kind {
        Kind::SingleWeights => train(held(fitted.net), &prepared.untouched()?)?,
        _ => train(fitted.net, &plan)?,
    };
    Ok(Measured { removed, removed_share, pruned: right_after, recovered, trained })
}

/// The policy of a contender, which removes as much as a plan.
fn policy(contender: &Contender, like: &PrunePlan) -> Box<dyn RankingPolicy> {
    let afcc = || Afcc::new().layers(LAYERS);
    let magnitude = || MagnitudeConnections::l2().layers(LAYERS).like(like);
    let reconstruction = || ReconstructionConnections::new().layers(LAYERS).like(like);
    match contender.kind {
        Kind::Afcc => Box::new(afcc()),
        Kind::RandomAfcc => Box::new(RandomAfcc::new(contender.seed).layers(LAYERS)),
        Kind::Magnitude | Kind::SingleWeights | Kind::Nothing => Box::new(magnitude()),
        Kind::Reconstruction => Box::new(reconstruction()),
        Kind::ReconstructionByLayer => Box::new(reconstruction().spread(Spread::PerLayer)),
        Kind::LabelFields => Box::new(reconstruction().in_label_fields()),
        Kind::LabelFieldsGlobal => Box::new(reconstruction().in_label_fields().spread(Spread::Global)),
        Kind::MagnitudeAmongAfcc => Box::new(magnitude().among(afcc())),
        Kind::ReconstructionAmongAfcc => Box::new(reconstruction().among(afcc())),
        Kind::LabelFieldsAmongAfcc => Box::new(reconstruction().in_label_fields().among(afcc())),
    }
}

/// The late part without the connections of a plan.
fn late(prepared: &Prepared, plan: &PrunePlan) -> Result<(Late, PrunePlan), ExampleError> {
    let masks: Vec<(String, Connections)> = (plan.masks.iter())
        .map(|mask| {
            let keep = |output: usize, input: usize| mask.keep[output].binary_search(&(input as u32)).is_ok();
            (mask.layer.clone(), Connections::from_fn(mask.keep.len(), mask.inputs, keep))
        })
        .collect();
    let made = Planner::new().keep_empty(true).prune(&prepared.late, &example(prepared), &Chosen(&masks))?;
    Ok((made.model, made.plan))
}

/// The late part without as many single weights.
fn single(prepared: &Prepared, plan: &PrunePlan) -> Result<(Late, PrunePlan), ExampleError> {
    let whole = Planner::new().keep_empty(true).prune(&prepared.late, &example(prepared), &Chosen(&[]))?;
    let layers = plan.layers.iter().filter(|layer| LAYERS.contains(&layer.path.as_str()));
    let share = |before: u64, after: u64| 1.0 - after as f64 / before.max(1) as f64;
    let shares = layers
        .map(|layer| (format!("net.{}.weight", layer.path), share(layer.connections_before, layer.connections_after)));
    Ok((without_smallest(whole.model, &shares.collect()), whole.plan))
}

/// A batch of what the late part reads.
fn example(prepared: &Prepared) -> Tensor<4> {
    let first = prepared.features.batches().flatten().next();
    first.map_or_else(|| Tensor::zeros([1, 256, 4, 4], &Default::default()), |batch| batch.input)
}

/// The share of connections that each layer lost, and that of the weights of all of them.
fn shares(plan: &PrunePlan) -> (Vec<f64>, f64) {
    let (mut removed, mut gone, mut all) = (Vec::new(), 0.0, 0.0);
    for layer in plan.layers.iter().filter(|layer| LAYERS.contains(&layer.path.as_str())) {
        let share = 1.0 - layer.connections_after as f64 / layer.connections_before.max(1) as f64;
        let each = if layer.path == "fc" { 1.0 } else { 9.0 };
        gone += share * layer.connections_before as f64 * each;
        all += layer.connections_before as f64 * each;
        removed.push(share);
    }
    (removed, if all > 0.0 { gone / all } else { 0.0 })
}
