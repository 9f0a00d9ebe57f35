//! What a fine-tuning by [`FineTune`](super::FineTune) does around its steps: reports, held-out data, early stop, checkpoints.

use std::path::PathBuf;

use burn::module::ParamId;
use burn::tensor::Device;
use burn_sfp_core::{Calibration, SfpModule};

use super::checkpoint::{Progressed, load, save};
use super::config::out_of_range;
use super::held_out::evaluate;
use super::hooks::{At, Hooks};
use super::rate::Position;
use super::report::EpochReport;
use super::step::Stepper;
use super::values::{ids_of, not_single, steady_ids, with_ids};
use crate::PruneError;

/// A file that training goes on from.
#[derive(Clone, Debug)]
pub(super) struct Checkpoints {
    pub path: PathBuf,
    /// Optimiser steps between two of them, 0 for none within an epoch.
    pub every: usize,
    pub key: String,
}

/// Called with each epoch's report.
pub(super) type Report<'a> = Box<dyn FnMut(&EpochReport) + 'a>;

/// The state around the steps.
pub(super) struct Observer<'a, M: SfpModule> {
    /// The device's random numbers are left alone without one.
    pub seed: Option<u64>,
    pub device: Device,
    pub held_out: Option<&'a dyn Calibration<M::Inputs>>,
    pub patience: Option<usize>,
    pub report: Option<Report<'a>>,
    pub checkpoints: Option<Checkpoints>,
    pub progressed: Progressed,
    pub best: Option<M>,
    /// The ids that the parameters had.
    pub ids: Vec<ParamId>,
}

impl<M: SfpModule> Observer<'_, M> {
    fn save(&self, at: &At<'_, M>) -> Result<(), PruneError> {
        let Some(checkpoints) = &self.checkpoints else { return Ok(()) };
        let progressed = Progressed { position: at.position, ..self.progressed.clone() };
        save(&checkpoints.path, &progressed, at.model, self.best.as_ref(), at.optimizer)
    }

    /// Whether the accuracy has not become better for as many epochs as the patience allows.
    fn is_stuck(&self) -> bool {
        let last = self.progressed.epochs.len();
        self.patience.zip(self.progressed.best).is_some_and(|(patience, best)| last > best + patience)
    }
}

impl<M: SfpModule> Hooks<M> for Observer<'_, M> {
    fn begin(&mut self, model: M, stepper: &mut Stepper, position: &mut Position) -> Result<M, PruneError> {
        let Some(checkpoints) = &self.checkpoints else { return Ok(model) };
        if let Some(found) = not_single(&model) {
            let expected = "F32 for a checkpoint: Burn restores the states of optimisers in single precision";
            return Err(out_of_range("type of a parameter that learns", format!("{found:?}"), expected).into());
        }
        self.ids = ids_of(&model);
        let model = with_ids(model, &steady_ids(&self.ids));
        self.progressed.key = checkpoints.key.clone();
        if !checkpoints.path.exists() {
            return Ok(model);
        }
        let loaded = load(&checkpoints.path, &checkpoints.key, &model, stepper.optimizer.clone())?;
        *position = loaded.progressed.position;
        stepper.optimizer = loaded.optimizer;
        (self.progressed, self.best) = (loaded.progressed, loaded.best);
        Ok(loaded.model.train())
    }

    fn is_done(&self) -> bool {
        self.progressed.is_done
    }

    fn before_step(&mut self, position: Position) {
        if let Some(seed) = self.seed {
            self.device.seed(mixed(seed, &[position.step as u64]));
        }
    }

    fn after_step(&mut self, at: &At<'_, M>, loss: f64, hits: usize, samples: usize) -> Result<(), PruneError> {
        let (sum, right, all) = &mut self.progressed.sums;
        *sum += loss * samples as f64;
        *right += hits as u64;
        *all += samples as u64;
        match &self.checkpoints {
            Some(checkpoints) if checkpoints.every > 0 && at.position.step.is_multiple_of(checkpoints.every) => {
                self.save(at)
            }
            _ => Ok(()),
        }
    }

    fn after_epoch(&mut self, at: &At<'_, M>) -> Result<bool, PruneError> {
        let (loss, hits, samples) = std::mem::take(&mut self.progressed.sums);
        let each = |sum: f64| sum / (samples as f64).max(1.0);
        let report = EpochReport {
            epoch: at.position.epoch - 1,
            learning_rate: at.learning_rate,
            loss: each(loss),
            accuracy: each(hits as f64),
            held_out: self.held_out.map(|data| evaluate(at.model, data)).transpose()?,
        };
        if let Some(found) = report.held_out {
            let before = self.progressed.best.and_then(|best| self.progressed.epochs[best].held_out);
            // NaN is better than nothing only.
            if before.is_none_or(|before| found.accuracy > before.accuracy) {
                self.progressed.best = Some(self.progressed.epochs.len());
                self.best = Some(at.model.valid());
            }
        }
        if let Some(call) = &mut self.report {
            call(&report);
        }
        self.progressed.epochs.push(report);
        let is_stuck = self.is_stuck();
        self.progressed.is_done = is_stuck;
        self.save(at)?;
        Ok(is_stuck)
    }

    fn cancelled(&mut self, at: &At<'_, M>) -> Result<(), PruneError> {
        self.save(at)
    }

    fn end(&mut self, model: M) -> Result<M, PruneError> {
        let model = self.best.take().unwrap_or(model);
        Ok(if self.checkpoints.is_some() { with_ids(model, &self.ids) } else { model })
    }
}

/// A seed that depends on a seed and on numbers (the finaliser of SplitMix64, Steele, Lea and Flood 2014).
pub(super) fn mixed(seed: u64, numbers: &[u64]) -> u64 {
    numbers.iter().fold(seed, |seed, number| {
        let mut z = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}
