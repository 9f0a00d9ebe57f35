//! [`CutSearch`]: the largest cut that an accuracy allows.

use std::path::{Path, PathBuf};

use burn_sfp_core::SfpError;
use burn_sfp_graph::file::{Format, load_json, save_json};
use burn_sfp_nn::ConfigError;
use serde::{Deserialize, Serialize};

use crate::PruneError;

const FORMAT: Format = Format {
    name: "burn-sfp cut search",
    what: "the probes of a search for the largest cut",
    version: 1,
    advice: "search again",
};

/// Looks for the smallest share of a model that keeps its accuracy, by bisection.
///
/// A probe prunes to a share, trains if it likes, and returns the accuracy on held-out data. The search assumes that a smaller share is never
/// more accurate; where that fails by chance, it still returns a share that a probe has found good.
///
/// With [`save_to`](CutSearch::save_to) each probe is written to a file once it is done. A search that is started again goes on from there.
///
/// ```
/// use burn_sfp_prune::CutSearch;
/// // An accuracy of 0.9 that falls once less than 0.35 is left.
/// let accuracy = |share: f64| if share < 0.35 { 0.9 - (0.35 - share) } else { 0.9 };
/// let found = CutSearch::new(0.9, 0.01).probes(8).run(|share| Ok((accuracy(share), format!("model of {share}"))))?;
/// assert!((found.share - 0.34).abs() < 0.01 && found.value.is_some());
/// assert_eq!(found.probes.len(), 8);
/// # Ok::<(), burn_sfp_prune::PruneError>(())
/// ```
#[derive(Clone, Debug)]
pub struct CutSearch {
    settings: Settings,
    probes: usize,
    file: Option<PathBuf>,
}

/// What a file of probes belongs to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Settings {
    reference: f64,
    loss: f64,
    least: f64,
    /// What the caller says that the search is of.
    of: String,
}

/// One probe of a search.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// The share of the original that was kept.
    pub share: f64,
    /// Accuracy on held-out data.
    pub accuracy: f64,
    /// Whether the accuracy is high enough.
    pub good: bool,
}

/// What a search found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Found<T> {
    /// The smallest share that was good; 1, the original, if none was.
    pub share: f64,
    /// Its accuracy; that of the original if no probe was good.
    pub accuracy: f64,
    /// What the probe of this share returned; `None` if no probe was good.
    pub value: Option<T>,
    /// All probes, in their order.
    pub probes: Vec<Probe>,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    settings: Settings,
    probes: Vec<Probe>,
}

impl CutSearch {
    /// Searches for the smallest share with an accuracy of at least `reference - loss`: the original's accuracy on the same data, and how
    /// much of it may be lost (0.01 is one point in a hundred).
    pub fn new(reference: f64, loss: f64) -> Self {
        let settings = Settings { reference, loss, least: 0.05, of: String::new() };
        Self { settings, probes: 6, file: None }
    }

    /// Sets how many shares are tried; 6 by default, which finds the share to 1.5 points in a hundred.
    pub fn probes(mut self, probes: usize) -> Self {
        self.probes = probes;
        self
    }

    /// Sets the smallest share to try; 0.05 by default.
    pub fn least(mut self, share: f64) -> Self {
        self.settings.least = share;
        self
    }

    /// Writes each probe into a file, and goes on from the file if it is there. `of` says what is searched (the model, the policy, the
    /// budget's unit, the training): a file of another search is refused.
    pub fn save_to(mut self, path: impl Into<PathBuf>, of: impl Into<String>) -> Self {
        self.file = Some(path.into());
        self.settings.of = of.into();
        self
    }

    /// Runs the search. `probe` prunes to a share of the original and returns the accuracy, and whatever should come back for the best share
    /// (the pruned model, say).
    ///
    /// If the best probe is one from the file, it is run once more for what it returns.
    ///
    /// # Errors
    /// [`PruneError::Config`] if a setting is out of range, an accuracy is not a number, or the file is that of another search;
    /// [`SfpError::File`] if the file cannot be read or written; those of the probe. A probe that ends in
    /// [`PruneError::BudgetNotMet`] counts as one that is not good.
    pub fn run<T>(&self, mut probe: impl FnMut(f64) -> Result<(f64, T), PruneError>) -> Result<Found<T>, PruneError> {
        self.check()?;
        let known = self.load()?;
        let mut probes: Vec<Probe> = Vec::new();
        let mut best: Option<(Probe, Option<T>)> = None;
        let (mut low, mut high) = (self.settings.least, 1.0);
        for index in 0..self.probes {
            // The smallest share first: it may do.
            let share = if index == 0 { low } else { (low + high) / 2.0 };
            let (found, value) = match known.get(index).filter(|known| known.share == share) {
                Some(known) => (*known, None),
                None => self.try_share(share, &mut probe)?,
            };
            probes.push(found);
            if known.len() < probes.len() {
                self.save(&probes)?;
            }
            if found.good {
                best = Some((found, value));
                high = share;
            } else {
                low = share;
            }
            if index == 0 && found.good {
                break;
            }
        }
        let Some((found, value)) = best else {
            return Ok(Found { share: 1.0, accuracy: self.settings.reference, value: None, probes });
        };
        let value = match value {
            Some(value) => value,
            None => probe(found.share)?.1,
        };
        Ok(Found { share: found.share, accuracy: found.accuracy, value: Some(value), probes })
    }

    fn try_share<T>(
        &self,
        share: f64,
        probe: &mut impl FnMut(f64) -> Result<(f64, T), PruneError>,
    ) -> Result<(Probe, Option<T>), PruneError> {
        let (accuracy, value) = match probe(share) {
            Ok((accuracy, value)) => (accuracy, Some(value)),
            Err(PruneError::BudgetNotMet { .. }) => return Ok((Probe { share, accuracy: 0.0, good: false }, None)),
            Err(error) => return Err(error),
        };
        if !accuracy.is_finite() {
            return refuse("accuracy", accuracy.to_string(), "a finite number");
        }
        // A loss of exactly what is allowed is allowed, whatever the subtraction rounds to.
        let good = accuracy >= self.settings.reference - self.settings.loss - 1e-12;
        Ok((Probe { share, accuracy, good }, value))
    }

    fn check(&self) -> Result<(), PruneError> {
        let Settings { reference, loss, least, .. } = self.settings;
        if !reference.is_finite() {
            return refuse("reference accuracy", reference.to_string(), "a finite number");
        }
        if !(loss >= 0.0 && loss.is_finite()) {
            return refuse("loss of accuracy", loss.to_string(), "at least 0");
        }
        if !(least > 0.0 && least < 1.0) {
            return refuse("least share", least.to_string(), "above 0 and below 1");
        }
        if self.probes == 0 { refuse("probes", "0".into(), "at least 1") } else { Ok(()) }
    }

    /// The probes of the file, if there is one.
    fn load(&self) -> Result<Vec<Probe>, PruneError> {
        let Some(path) = self.file.as_deref().filter(|path| path.exists()) else { return Ok(Vec::new()) };
        let saved: Saved = load_json(path, &FORMAT).map_err(SfpError::from)?;
        if saved.settings == self.settings {
            return Ok(saved.probes);
        }
        let of = |settings: &Settings| {
            let Settings { reference, loss, least, of } = settings;
            format!("`{of}`, accuracy {reference}, loss {loss}, least share {least}")
        };
        Err(PruneError::OtherSearch { found: of(&saved.settings), expected: of(&self.settings) })
    }

    fn save(&self, probes: &[Probe]) -> Result<(), PruneError> {
        let write = |path: &Path| {
            let saved = Saved { settings: self.settings.clone(), probes: probes.to_vec() };
            save_json(path, &FORMAT, &saved).map_err(SfpError::from)
        };
        Ok(self.file.as_deref().map_or(Ok(()), write)?)
    }
}

fn refuse<T>(name: &'static str, found: String, expected: &'static str) -> Result<T, PruneError> {
    Err(PruneError::Config(ConfigError { name, found, expected }))
}
