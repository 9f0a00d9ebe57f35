//! [`FineTuneConfig`]: the settings of fine-tuning, and what they must hold.

use burn::config::Config;
use burn::grad_clipping::GradientClippingConfig;
use burn::lr_scheduler::LrSchedulerConfig;
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamConfig, AdamWConfig, ModuleOptimizer, SgdConfig};
use burn_sfp_nn::ConfigError;

/// How the learning rate changes during fine-tuning. Each variant is one of Burn's learning-rate schedulers.
///
/// ```
/// use burn::lr_scheduler::step::StepLrSchedulerConfig;
/// use burn_sfp_prune::{FineTuneConfig, Schedule};
///
/// // A tenth of the learning rate after each 1,000 optimiser steps.
/// let step = StepLrSchedulerConfig::new(0.01, 1_000).with_gamma(0.1);
/// let config = FineTuneConfig::new().with_schedule(Schedule::PerStep(step.into()));
/// ```
#[derive(Config, Debug)]
#[non_exhaustive]
pub enum Schedule {
    /// The learning rate stays the same.
    Constant,
    /// The learning rate is multiplied by this factor after each epoch; above 0 and at most 1 (0.975 in the paper).
    Exponential(f64),
    /// The learning rate falls along half a cosine, down to 0 after the last sample.
    Cosine,
    /// A scheduler of Burn's, advanced once per optimiser step. It brings its own learning rate, so that
    /// [`FineTuneConfig::learning_rate`] is not used.
    PerStep(LrSchedulerConfig),
    /// A scheduler of Burn's, advanced once per epoch. It brings its own learning rate, so that
    /// [`FineTuneConfig::learning_rate`] is not used.
    PerEpoch(LrSchedulerConfig),
}

/// The optimiser of fine-tuning. Each variant is one of Burn's optimisers.
///
/// ```
/// use burn::optim::AdamWConfig;
/// use burn_sfp_prune::{FineTuneConfig, OptimizerConfig};
///
/// let config = FineTuneConfig::new()
///     .with_optimizer(OptimizerConfig::AdamW(AdamWConfig::new()))
///     .with_learning_rate(1e-4);
/// ```
#[derive(Config, Debug)]
#[non_exhaustive]
pub enum OptimizerConfig {
    /// Stochastic gradient descent with the momentum and the weight decay of [`FineTuneConfig`].
    Sgd,
    /// Adam. The momentum and the weight decay of [`FineTuneConfig`] are not used.
    Adam(AdamConfig),
    /// AdamW. The momentum and the weight decay of [`FineTuneConfig`] are not used.
    AdamW(AdamWConfig),
}

/// Settings of fine-tuning, which minimises the cross-entropy by gradient descent.
///
/// The defaults are one epoch of stochastic gradient descent with learning rate 0.02, falling along half a cosine, and Nesterov
/// momentum 0.9.
///
/// ```
/// use burn_sfp_prune::{FineTuneConfig, Schedule};
///
/// let paper = FineTuneConfig::paper().with_epochs(3.0).with_momentum(0.95);
/// assert_eq!((paper.epochs, paper.momentum, paper.learning_rate), (3.0, 0.95, 0.01));
/// assert!(matches!(paper.schedule, Schedule::Exponential(0.975)));
/// ```
#[derive(Config, Debug)]
pub struct FineTuneConfig {
    /// Passes over the training data. Fractions are allowed: training ends after that share of the last pass. 0 leaves the model as
    /// it is.
    #[config(default = 1.0)]
    pub epochs: f64,
    /// Learning rate at the start. Burn's cosine and exponential schedulers accept at most 1.
    #[config(default = 0.02)]
    pub learning_rate: f64,
    /// How the learning rate changes.
    #[config(default = "Schedule::Cosine")]
    pub schedule: Schedule,
    /// The optimiser.
    #[config(default = "OptimizerConfig::Sgd")]
    pub optimizer: OptimizerConfig,
    /// Momentum of [`OptimizerConfig::Sgd`], at least 0 and below 1.
    #[config(default = 0.9)]
    pub momentum: f64,
    /// Whether the momentum is Nesterov's.
    #[config(default = true)]
    pub nesterov: bool,
    /// L2 penalty of [`OptimizerConfig::Sgd`] on the parameters that learn, 0 for none.
    #[config(default = 5e-4)]
    pub weight_decay: f32,
    /// Label smoothing, at least 0 and below 1; 0 for none.
    #[config(default = 0.0)]
    pub label_smoothing: f32,
    /// Whether all layers learn, and not only the pruned ones.
    #[config(default = false)]
    pub all_layers: bool,
    /// Clipping of the gradient of each parameter, by value or by its norm; none by default. It takes the place of one that Adam or
    /// AdamW bring along.
    pub gradient_clipping: Option<GradientClippingConfig>,
}

impl Default for FineTuneConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl FineTuneConfig {
    /// Returns the recipe of the paper (docs/method.md, section 1): learning rate 0.01, multiplied by 0.975 after each epoch,
    /// Nesterov momentum 0.975, L2 penalty 1e-3.
    pub fn paper() -> Self {
        Self::new()
            .with_learning_rate(0.01)
            .with_momentum(0.975)
            .with_weight_decay(1e-3)
            .with_schedule(Schedule::Exponential(0.975))
    }

    /// Refuses settings that are out of range. Those of the schedule are checked where it is initialised.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if !(self.epochs >= 0.0 && self.epochs.is_finite()) {
            return Err(out_of_range("epochs", self.epochs, "finite and at least 0"));
        }
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            return Err(out_of_range("learning rate", self.learning_rate, "finite and above 0"));
        }
        if !(0.0..1.0).contains(&self.momentum) {
            return Err(out_of_range("momentum", self.momentum, "at least 0 and below 1"));
        }
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            return Err(out_of_range("weight decay", self.weight_decay, "finite and at least 0"));
        }
        if !(0.0..1.0).contains(&self.label_smoothing) {
            return Err(out_of_range("label smoothing", self.label_smoothing, "at least 0 and below 1"));
        }
        if let Some(GradientClippingConfig::Value(most) | GradientClippingConfig::Norm(most)) = self.gradient_clipping
            && !(most > 0.0 && most.is_finite())
        {
            return Err(out_of_range("gradient clipping", most, "finite and above 0"));
        }
        match self.schedule {
            Schedule::Exponential(factor) if !(factor > 0.0 && factor <= 1.0) => {
                return Err(out_of_range("factor of the exponential schedule", factor, "above 0 and at most 1"));
            }
            _ => {}
        }
        match &self.optimizer {
            OptimizerConfig::Sgd => Ok(()),
            OptimizerConfig::Adam(config) => check_numbers(&config.to_string(), false),
            OptimizerConfig::AdamW(config) => check_numbers(&config.to_string(), true),
        }
    }

    /// Returns the optimiser in its first state: that which is given, else that of the settings, with their clipping.
    pub(super) fn init_optimizer(&self, given: Option<&ModuleOptimizer>) -> ModuleOptimizer {
        let optimizer = given.cloned().unwrap_or_else(|| self.unclipped());
        match &self.gradient_clipping {
            Some(clipping) => optimizer.with_grad_clipping(clipping.init()),
            None => optimizer,
        }
    }

    fn unclipped(&self) -> ModuleOptimizer {
        match &self.optimizer {
            OptimizerConfig::Adam(config) => config.init(),
            OptimizerConfig::AdamW(config) => config.init(),
            OptimizerConfig::Sgd => {
                // Burn dampens gradients by 0.1 unless told otherwise; the usual Nesterov momentum does not.
                let momentum =
                    MomentumConfig::new().with_momentum(self.momentum).with_dampening(0.0).with_nesterov(self.nesterov);
                SgdConfig::new()
                    .with_momentum((self.momentum > 0.0).then_some(momentum))
                    .with_weight_decay((self.weight_decay > 0.0).then(|| WeightDecayConfig::new(self.weight_decay)))
                    .init()
            }
        }
    }
}

/// Checks the numbers of an optimiser of Burn's. Its fields are private, but it prints as JSON, a field a line, in which NaN and
/// infinity are `null`.
///
/// `decays` says whether it has a weight decay in any case.
fn check_numbers(json: &str, decays: bool) -> Result<(), ConfigError> {
    for line in json.lines() {
        let Some((name, value)) = line.trim().trim_end_matches(',').split_once(':') else { continue };
        let (name, value) = (name.trim().trim_matches('"'), value.trim());
        let number: f64 = value.parse().unwrap_or(f64::NAN);
        let (name, allowed, expected) = match name {
            "beta_1" => ("beta 1 of the optimiser", (0.0..1.0).contains(&number), "at least 0 and below 1"),
            "beta_2" => ("beta 2 of the optimiser", (0.0..1.0).contains(&number), "at least 0 and below 1"),
            "epsilon" => ("epsilon of the optimiser", number > 0.0, "finite and above 0"),
            // AdamW has a number here, Adam nothing or a penalty on a line of its own.
            "weight_decay" if value != "{" && (value != "null" || decays) => {
                ("weight decay of the optimiser", number >= 0.0, "finite and at least 0")
            }
            "penalty" => ("weight decay of the optimiser", number >= 0.0, "finite and at least 0"),
            "Value" | "Norm" => ("gradient clipping of the optimiser", number > 0.0, "finite and above 0"),
            _ => continue,
        };
        if !allowed {
            let found = if value == "null" { "NaN or infinite" } else { value };
            return Err(out_of_range(name, found, expected));
        }
    }
    Ok(())
}

/// The error of a setting that is out of its range.
pub(super) fn out_of_range(name: &'static str, found: impl ToString, expected: &'static str) -> ConfigError {
    ConfigError { name, found: found.to_string(), expected }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::lr_scheduler::noam::NoamLrSchedulerConfig;

    #[test]
    fn settings_are_saved_and_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("finetune.json");
        let schedules = [
            Schedule::Constant,
            Schedule::Exponential(0.5),
            Schedule::Cosine,
            Schedule::PerStep(NoamLrSchedulerConfig::new(0.1).into()),
            Schedule::PerEpoch(LrSchedulerConfig::Constant(0.3)),
        ];
        for schedule in schedules {
            let config = FineTuneConfig::new()
                .with_epochs(2.5)
                .with_learning_rate(0.3)
                .with_schedule(schedule)
                .with_optimizer(OptimizerConfig::AdamW(AdamWConfig::new().with_weight_decay(0.2)))
                .with_momentum(0.1)
                .with_nesterov(false)
                .with_weight_decay(0.25)
                .with_label_smoothing(0.125)
                .with_all_layers(true)
                .with_gradient_clipping(Some(GradientClippingConfig::Norm(2.0)));
            config.save(&file).unwrap();
            assert_eq!(FineTuneConfig::load(&file).unwrap().to_string(), config.to_string());
        }
        assert_eq!(FineTuneConfig::default().to_string(), FineTuneConfig::new().to_string());
    }

    #[test]
    fn settings_out_of_range() {
        let config = FineTuneConfig::new;
        let adam = |adam| config().with_optimizer(OptimizerConfig::Adam(adam));
        let adamw = |adamw| config().with_optimizer(OptimizerConfig::AdamW(adamw));
        for (config, text) in [
            (config().with_epochs(-1.0), "epochs is -1"),
            (config().with_epochs(f64::INFINITY), "epochs is inf"),
            (config().with_learning_rate(0.0), "learning rate is 0"),
            (config().with_momentum(1.0), "momentum is 1"),
            (config().with_weight_decay(-0.5), "weight decay is -0.5"),
            (config().with_weight_decay(f32::NAN), "weight decay is NaN"),
            (config().with_label_smoothing(1.0), "label smoothing is 1"),
            (config().with_schedule(Schedule::Exponential(f64::NAN)), "exponential schedule is NaN"),
            (config().with_schedule(Schedule::Exponential(-0.5)), "exponential schedule is -0.5"),
            (adam(AdamConfig::new().with_beta_1(f32::NAN)), "beta 1 of the optimiser is NaN"),
            (adam(AdamConfig::new().with_beta_2(1.5)), "beta 2 of the optimiser is 1.5"),
            (adam(AdamConfig::new().with_epsilon(f32::INFINITY)), "epsilon of the optimiser is NaN or infinite"),
            (
                adam(AdamConfig::new().with_weight_decay(Some(WeightDecayConfig::new(-1.0)))),
                "weight decay of the optimiser is -1",
            ),
            (
                adam(AdamConfig::new().with_grad_clipping(Some(GradientClippingConfig::Norm(f32::NAN)))),
                "gradient clipping",
            ),
            (config().with_gradient_clipping(Some(GradientClippingConfig::Norm(0.0))), "gradient clipping is 0"),
            (adamw(AdamWConfig::new().with_weight_decay(f32::NAN)), "weight decay of the optimiser is NaN"),
            (adamw(AdamWConfig::new().with_weight_decay(-0.25)), "weight decay of the optimiser is -0.25"),
        ] {
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(text), "`{text}` is not in: {error}");
        }
        FineTuneConfig::paper().check().unwrap();
        let decay = Some(WeightDecayConfig::new(1e-4));
        adam(AdamConfig::new()).check().unwrap();
        adam(AdamConfig::new().with_weight_decay(decay)).check().unwrap();
        adam(AdamConfig::new().with_grad_clipping(Some(GradientClippingConfig::Value(1.0)))).check().unwrap();
        adamw(AdamWConfig::new()).check().unwrap();
    }
}
