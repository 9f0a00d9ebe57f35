//! The layers and heads under analysis, where their readouts come from, and what a batch adds to them.

use std::collections::HashSet;

use burn::tensor::{Device, Tensor};
use burn_sfp_graph::{GraphError, Heads, Network, OutputTap};
use ndarray::Array3;

use super::grid::Pooled;
use super::probe::Probe;
use crate::SfpError;
use crate::analysis::{Analysis, ReadoutInfo, UnitKind};
use crate::config::{AnalyzeConfig, Grid, Readout};
use crate::labels::{BatchLabels, Top1};
use crate::readout::{GradientConfig, GradientReadout};
use crate::sums::{ClassSums, Gram};

/// Most features of a readout whose normal equations are solved directly (a Gram matrix of 2 GiB).
const MOST_FEATURES: usize = 16384;

/// Where the readout of a target comes from.
#[allow(clippy::large_enum_variant)] // one per layer
pub(super) enum Fit {
    /// The network's own classifier.
    Classifier,
    /// Ridge regression of this strength.
    Ridge(f64),
    /// Gradient descent, in progress.
    Gradient(GradientConfig, GradientReadout),
    /// The readout of another analysis, and its provenance.
    Given(Array3<f32>, ReadoutInfo),
}

/// A layer under analysis, or the heads of an attention.
pub(super) struct AnalysisTarget {
    pub probe: Probe,
    pub path: String,
    pub kind: UnitKind,
    pub pooled: Option<Pooled>,
    pub fit: Fit,
    pub sums: Option<ClassSums>,
    pub gram: Option<Gram>,
    /// Top-1 hits of a gradient readout during the last pass.
    pub hits: usize,
}

/// Which pass over the data is running: sums are taken in the first one, gradient readouts learn in all of them.
#[derive(Clone, Copy)]
pub(super) struct Pass {
    pub is_first: bool,
    pub is_last: bool,
    /// Learning rate, where gradient readouts are fitted.
    pub learning_rate: Option<f64>,
}

impl AnalysisTarget {
    /// Adds the activations `[N, F, S]` of a batch: to the sums in the first pass, to the gradient descent in each.
    pub fn receive(&mut self, acts: &Tensor<3>, labels: &BatchLabels<'_>, pass: Pass) -> Result<(), SfpError> {
        let acts = match &self.pooled {
            Some(pooled) => pooled.apply(acts.clone()),
            None => acts.clone(),
        };
        if pass.is_first {
            ClassSums::add(&mut self.sums, &acts, labels, &self.path)?;
            if let Fit::Ridge(_) = self.fit {
                Gram::add(&mut self.gram, &acts, &self.path)?;
            }
        }
        if let (Fit::Gradient(_, readout), Some(rate)) = (&mut self.fit, pass.learning_rate) {
            let logits = readout.step(&acts, &labels.tensor(&acts.device()), rate);
            if pass.is_last {
                self.hits += Top1::of(&logits, &labels.list).of_readout(&self.path)?;
            }
        }
        Ok(())
    }
}

/// A layer or attention that could be analyzed.
struct Candidate<'a> {
    probe: Probe,
    path: &'a str,
    kind: UnitKind,
    tap: &'a OutputTap,
    feeds_classifier: bool,
}

/// Layers and heads in the order in which they run. The classifier is not among them: its output units are the labels
/// themselves, so there is nothing to read out.
fn candidates(network: &Network) -> Vec<Candidate<'_>> {
    let heads = |(index, heads): (usize, &'_ Heads)| (heads.after, index);
    let mut waiting = network.heads().iter().enumerate().map(heads).peekable();
    let mut all = Vec::new();
    for index in 0..=network.layers().len() {
        while let Some((_, at)) = waiting.next_if(|&(after, _)| after <= index) {
            let Heads { path, tap, .. } = &network.heads()[at];
            all.push(Candidate { probe: Probe::Heads(at), path, kind: UnitKind::Heads, tap, feeds_classifier: false });
        }
        let Some(layer) = network.layers().get(index).filter(|layer| !layer.is_classifier) else { continue };
        all.push(Candidate {
            probe: Probe::Layer(index),
            path: &layer.path,
            kind: UnitKind::Layer(layer.kind),
            tap: &layer.tap,
            feeds_classifier: layer.feeds_classifier,
        });
    }
    all
}

/// The targets that the settings ask for, in the order in which they run.
pub(super) fn choose_targets(
    network: &Network,
    config: &AnalyzeConfig,
    device: &Device,
) -> Result<Vec<AnalysisTarget>, SfpError> {
    check_paths(network, config)?;
    check_given(network, config)?;
    let chosen: Option<HashSet<&str>> =
        config.layer_paths.as_ref().map(|paths| paths.iter().map(String::as_str).collect());
    let wanted = |path: &str| chosen.as_ref().is_none_or(|chosen| chosen.contains(path));
    let mut targets = Vec::new();
    for candidate in candidates(network).into_iter().filter(|candidate| wanted(candidate.path)) {
        let tap = candidate.tap;
        if tap.shape[0] == network.batch() {
            targets.push(candidate.into_target(network, config, device)?);
        } else if config.layer_paths.is_some() {
            return refuse(
                candidate.path,
                format!(
                    "its output has shape {:?} for {} samples, and which rows belong to which sample is not known",
                    tap.shape,
                    network.batch()
                ),
            );
        }
    }
    Ok(targets)
}

/// Refuses readouts that were fitted with other weights.
fn check_given(network: &Network, config: &AnalyzeConfig) -> Result<(), SfpError> {
    let Readout::Given(analysis) = &config.readout else { return Ok(()) };
    match analysis.fingerprint.difference(network.fingerprint()) {
        None => Ok(()),
        Some(parameter) => Err(SfpError::OtherWeights { parameter: parameter.to_string() }),
    }
}

fn check_paths(network: &Network, config: &AnalyzeConfig) -> Result<(), SfpError> {
    let known = |path: &String| network.layer(path).is_some() || network.heads_at(path).is_some();
    match config.layer_paths.iter().flatten().find(|path| !known(path)) {
        None => Ok(()),
        Some(unknown) => {
            let layers = network.layers().iter().map(|layer| &layer.path);
            let available = layers.chain(network.heads().iter().map(|heads| &heads.path)).cloned().collect();
            Err(GraphError::UnknownLayer { path: unknown.clone(), available }.into())
        }
    }
}

/// What to do about a layer that has too many features under this grid.
fn advice(grid: Grid) -> String {
    match grid {
        Grid::Full => "set a grid (`Grid::Auto`) or analyse other layers (`with_layers`)".into(),
        Grid::AtMost(most) if most > 1 => {
            format!("set a smaller grid than `Grid::AtMost({most})` or analyse other layers (`with_layers`)")
        }
        _ => "its positions cannot be pooled any further: fit its readout by `Readout::Gradient`, or analyse other layers \
              (`with_layers`)"
            .into(),
    }
}

fn refuse<T>(path: &str, message: String) -> Result<T, SfpError> {
    Err(SfpError::Readout { path: path.to_string(), message })
}

impl Candidate<'_> {
    fn into_target(
        self,
        network: &Network,
        config: &AnalyzeConfig,
        device: &Device,
    ) -> Result<AnalysisTarget, SfpError> {
        let Self { probe, path, kind, tap, feeds_classifier } = self;
        let pooled = if feeds_classifier { None } else { Pooled::choose(config.grid, kind, tap) };
        let filters = tap.shape[tap.filter_axis];
        let positions = pooled.as_ref().map_or(tap.positions, Pooled::positions);
        let (features, classes) = (filters * positions, network.classes());
        let fit = match &config.readout {
            _ if feeds_classifier => Fit::Classifier,
            Readout::Ridge { .. } if features > MOST_FEATURES => {
                return refuse(
                    path,
                    format!(
                        "its {features} features (filters times positions) are more than the {MOST_FEATURES} that a direct \
                         solver takes; {}",
                        advice(config.grid)
                    ),
                );
            }
            Readout::Ridge { strength } => Fit::Ridge(*strength),
            Readout::Gradient(gradient) => {
                let stream = random_stream(probe);
                let start = GradientReadout::new(gradient, features, classes, config.seed, stream, device);
                Fit::Gradient(*gradient, start)
            }
            Readout::Given(analysis) => given(analysis, path, (filters, positions, classes))?,
        };
        Ok(AnalysisTarget { probe, path: path.to_string(), kind, pooled, fit, sums: None, gram: None, hits: 0 })
    }
}

/// The random stream of a target's gradient readout, which depends on nothing else that is analyzed.
fn random_stream(probe: Probe) -> u64 {
    match probe {
        Probe::Layer(index) | Probe::Input(index) | Probe::Before(index) | Probe::Behind(index) => index as u64,
        Probe::Heads(index) => (1 << 32) + index as u64,
    }
}

fn given(analysis: &Analysis, path: &str, expected: (usize, usize, usize)) -> Result<Fit, SfpError> {
    match analysis.readout(path) {
        Some((readout, info)) if readout.dim() == expected => Ok(Fit::Given(readout, info)),
        Some((readout, _)) => refuse(
            path,
            format!(
                "the readout handed over has shape {:?}, the layer needs {expected:?}; use the same model and grid",
                readout.dim()
            ),
        ),
        None => {
            refuse(path, "the analysis handed over holds no readout for it; analyse with `with_state(true)`".into())
        }
    }
}
