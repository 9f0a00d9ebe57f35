//! The learning rate of each optimiser step, taken from one of Burn's schedulers.

use burn::lr_scheduler::LrSchedulerConfig;
use burn::lr_scheduler::cosine::CosineAnnealingLrSchedulerConfig;
use burn::lr_scheduler::exponential::ExponentialLrSchedulerConfig;
use burn::lr_scheduler::module_lr_scheduler::{ModuleLearningRate, ModuleLrScheduler, ModuleLrSchedulerConfig};
use burn_sfp_nn::ConfigError;
use serde::{Deserialize, Serialize};

use super::config::{FineTuneConfig, Schedule, out_of_range};

/// How far training has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// Epochs that are over.
    pub epoch: usize,
    /// Batches seen.
    pub batch: usize,
    /// Optimiser steps made.
    pub step: usize,
    /// Samples seen.
    pub samples: usize,
    /// Batches seen of the epoch that has begun.
    pub in_epoch: usize,
}

/// What a scheduler counts as one of its iterations.
#[derive(Clone, Copy, Debug)]
enum Iteration {
    Epoch,
    Step,
    Sample,
}

/// A scheduler and the learning rate that it gave last.
pub(super) struct LearningRates {
    scheduler: ModuleLrScheduler,
    iteration: Iteration,
    /// Iterations that the scheduler has made.
    made: usize,
    current: ModuleLearningRate,
}

impl LearningRates {
    /// Returns the learning rates of a training on `samples` samples, repetitions counted.
    pub fn new(config: &FineTuneConfig, samples: usize) -> Result<Self, ConfigError> {
        let start = config.learning_rate;
        let (scheduler, iteration): (LrSchedulerConfig, _) = match &config.schedule {
            Schedule::Constant => (LrSchedulerConfig::Constant(start), Iteration::Epoch),
            Schedule::Exponential(factor) => {
                (ExponentialLrSchedulerConfig::new(start, *factor).into(), Iteration::Epoch)
            }
            // Counted in samples, because batches may have different lengths and their number is not known beforehand.
            Schedule::Cosine => {
                (CosineAnnealingLrSchedulerConfig::new(start, samples.max(1)).into(), Iteration::Sample)
            }
            Schedule::PerStep(scheduler) => (scheduler.clone(), Iteration::Step),
            Schedule::PerEpoch(scheduler) => (scheduler.clone(), Iteration::Epoch),
        };
        let scheduler = ModuleLrSchedulerConfig::new(scheduler).init().map_err(|message| {
            let found = format!("refused by Burn's scheduler (\"{message}\")");
            out_of_range("learning-rate schedule", found, "one that Burn's scheduler accepts")
        })?;
        Ok(Self { scheduler, iteration, made: 0, current: start.into() })
    }

    /// The learning rate returned last.
    pub fn last(&self) -> f64 {
        self.current.base()
    }

    /// Returns the learning rate at a position. Positions must not go back.
    pub fn at(&mut self, position: Position) -> Result<ModuleLearningRate, ConfigError> {
        let iteration = match self.iteration {
            Iteration::Epoch => position.epoch,
            Iteration::Step => position.step,
            Iteration::Sample => position.samples,
        };
        while self.made <= iteration {
            self.current = self.scheduler.step();
            self.made += 1;
        }
        let rate = self.current.base();
        if !(rate >= 0.0 && rate.is_finite()) {
            let found = format!("{rate} at step {}", position.step);
            return Err(out_of_range("the schedule's learning rate", found, "finite and at least 0"));
        }
        Ok(self.current.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::lr_scheduler::linear::LinearLrSchedulerConfig;

    fn rates(schedule: Schedule, positions: &[Position]) -> Vec<f64> {
        let config = FineTuneConfig::new().with_learning_rate(0.8).with_schedule(schedule);
        let mut rates = LearningRates::new(&config, 40).unwrap();
        positions.iter().map(|&position| rates.at(position).unwrap().base()).collect()
    }

    #[test]
    fn rates_follow_their_formulas() {
        // Two epochs of 20 samples in batches of 8, 8 and 4.
        let mut position = Position::default();
        let positions: Vec<Position> = [8, 8, 4, 8, 8, 4]
            .into_iter()
            .map(|count| {
                let here = Position { epoch: position.step / 3, ..position };
                (position.step, position.samples) = (position.step + 1, position.samples + count);
                here
            })
            .collect();
        let by = |schedule, formula: &dyn Fn(&Position) -> f64| {
            for (found, position) in rates(schedule, &positions).into_iter().zip(&positions) {
                assert!((found - formula(position)).abs() < 1e-12, "{found} at {position:?}");
            }
        };
        by(Schedule::Constant, &|_| 0.8);
        by(Schedule::Exponential(0.25), &|position| 0.8 * 0.25_f64.powi(position.epoch as i32));
        by(Schedule::Cosine, &|position| 0.4 * (1.0 + (std::f64::consts::PI * position.samples as f64 / 40.0).cos()));
        let linear = || LinearLrSchedulerConfig::new(0.5, 0.1, 4).into();
        by(Schedule::PerStep(linear()), &|position| (0.5 - 0.1 * position.step as f64).max(0.1));
        by(Schedule::PerEpoch(linear()), &|position| 0.5 - 0.1 * position.epoch as f64);
    }

    #[test]
    fn what_burn_refuses_is_a_config_error() {
        for schedule in [
            Schedule::Exponential(1.5),
            Schedule::PerStep(LinearLrSchedulerConfig::new(0.5, 0.1, 0).into()),
            Schedule::PerEpoch(ExponentialLrSchedulerConfig::new(-1.0, 0.5).into()),
        ] {
            let error = LearningRates::new(&FineTuneConfig::new().with_schedule(schedule), 40).err().unwrap();
            assert!(error.to_string().contains("refused by Burn"), "{error}");
        }
    }

    #[test]
    fn rates_that_are_not_finite() {
        for schedule in [
            Schedule::PerStep(LinearLrSchedulerConfig::new(f64::NAN, 0.1, 4).into()),
            Schedule::PerEpoch(ExponentialLrSchedulerConfig::new(0.1, f64::NAN).into()),
            Schedule::PerStep(LrSchedulerConfig::Constant(f64::INFINITY)),
            Schedule::PerStep(LrSchedulerConfig::Constant(-0.1)),
        ] {
            let config = FineTuneConfig::new().with_schedule(schedule);
            let error = match LearningRates::new(&config, 40) {
                Ok(mut rates) => rates.at(Position::default()).err().unwrap(),
                Err(error) => error,
            };
            assert!(error.to_string().contains("learning"), "{error}");
        }
    }
}
