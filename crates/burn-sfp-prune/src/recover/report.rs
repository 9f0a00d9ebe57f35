//! [`RecoveryReport`]: what was corrected, and what was left out.

use std::fmt;

use super::config::RecoveryStep;

/// A model whose accuracy was recovered without training.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Recovered<M> {
    /// The model, of the user's own type, with the shapes of the pruned one. Removed connections are zero.
    pub model: M,
    /// What was corrected.
    pub report: RecoveryReport,
}

/// What a recovery without training did.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// Calibration samples that were used.
    pub samples: u64,
    /// Whether these were all: not if their activations would have taken more than the memory that was allowed
    /// ([`Recover::memory`](crate::Recover::memory)), or if the work was cancelled.
    pub all_samples: bool,
    /// The corrections, in the order in which the layers run.
    pub corrected: Vec<Corrected>,
    /// What could not be corrected, and why, in the order in which the layers run.
    pub left_out: Vec<NotCorrected>,
    /// Seconds that it took.
    pub seconds: f64,
}

/// A correction of a layer or of a batch normalisation.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Corrected {
    /// Module path.
    pub path: String,
    /// What was done.
    pub step: RecoveryStep,
    /// For least squares the mean squared error against the original's output over that output's variance, before and after: with the
    /// weights that the plan left, and with the new ones, each with the best bias.
    pub error: Option<(f64, f64)>,
}

/// A correction that could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotCorrected {
    /// Module path.
    pub path: String,
    /// What was not done.
    pub step: RecoveryStep,
    /// Why not.
    pub reason: String,
}

impl RecoveryReport {
    /// The correction of a layer or normalisation by a step.
    pub fn correction(&self, path: &str, step: RecoveryStep) -> Option<&Corrected> {
        self.corrected.iter().find(|corrected| corrected.path == path && corrected.step == step)
    }

    pub(super) fn leave_out(&mut self, path: &str, step: RecoveryStep, reason: impl Into<String>) {
        self.left_out.push(NotCorrected { path: path.into(), step, reason: reason.into() });
    }
}

impl fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |step| self.corrected.iter().filter(|corrected| corrected.step == step).count();
        let (solved, means) = (count(RecoveryStep::LeastSquares), count(RecoveryStep::Means));
        let norms = count(RecoveryStep::Statistics);
        let which = if self.all_samples { "" } else { "the first " };
        writeln!(
            f,
            "recovered without training in {:.1} s on {which}{} samples: {solved} layers re-solved, {means} biases matched, {norms} \
             batch normalisations measured",
            self.seconds, self.samples
        )?;
        for Corrected { path, error, .. } in &self.corrected {
            if let Some((before, after)) = error {
                writeln!(f, "  {path}: error {:.1} % of the variance, {:.1} % before", 100.0 * after, 100.0 * before)?;
            }
        }
        for NotCorrected { path, step, reason } in &self.left_out {
            writeln!(f, "  {path}: no {step}: {reason}")?;
        }
        Ok(())
    }
}
