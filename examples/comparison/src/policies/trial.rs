//! One policy at one budget.

use burn_sfp::prelude::*;
use quickstart::train::top1;

use super::contenders::Contender;
use super::rows::Settings;
use super::subject::Subject;

/// What came of a policy at a budget.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// Share of the multiply-adds that is left.
    pub got: f64,
    /// Top-1 right after pruning.
    pub pruned: f64,
    /// Top-1 after one epoch.
    pub after: f64,
}

/// Prunes a copy of the network to a share of its multiply-adds and trains it for one epoch, all layers.
pub fn prune_and_tune(
    subject: &Subject,
    contender: &Contender,
    kept: f64,
    settings: Settings,
    progress: &dyn Progress,
) -> Result<Trial, DataError> {
    let mut planner = Planner::new().budget(Keep::macs(kept).order(settings.order.of_removal()));
    if let Some(normalizer) = contender.normalizer {
        planner = planner.normalizer(normalizer);
    }
    let policy = subject.evidence.policy(&contender.policy);
    let plan = planner.plan(&subject.network, &subject.analysis, &policy)?;
    let smaller = plan.apply(&subject.model)?;
    let pruned = top1(&smaller, &subject.test)?;
    // Which layers a policy cuts must not decide which ones learn.
    let config = FineTuneConfig::new().with_all_layers(true);
    let samples = subject.epoch.iter().map(|batch| batch.labels.len()).sum();
    let tuned = fine_tune(smaller, &plan, |_| subject.epoch.iter().cloned().map(Ok), samples, &config, progress)?;
    Ok(Trial { got: plan.macs_after as f64 / plan.macs_before as f64, pruned, after: top1(&tuned, &subject.test)? })
}
