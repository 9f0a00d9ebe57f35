//! The layers and heads under analysis and where their readouts come from.

use ndarray::{Array3, Array4};

use super::grid::Pooled;
use super::readout::GradientReadout;
use super::runner::Probe;
use super::{AnalyzeConfig, Readout};
use crate::analysis::ReadoutInfo;
use crate::backend::{ClassSums, Gram};
use crate::network::{Heads, Network, Tap};
use crate::{Analysis, SfpError, UnitKind};

/// Most features of a readout whose normal equations are solved directly (a Gram matrix of 2 GiB).
const MOST_FEATURES: usize = 16384;

#[allow(clippy::large_enum_variant)] // one a layer
pub(super) enum Fit {
    /// The network's own classifier.
    Classifier,
    Ridge(f64),
    Gradient(Option<GradientReadout>),
    Given(Array3<f32>, ReadoutInfo),
}

/// A layer under analysis, or the heads of an attention.
pub(super) struct Subject {
    pub probe: Probe,
    pub path: String,
    pub kind: UnitKind,
    pub pooled: Option<Pooled>,
    pub fit: Fit,
    pub sums: Option<ClassSums>,
    pub gram: Option<Gram>,
    pub hits: usize,
}

impl Subject {
    /// Tells the random starts of readouts apart, whatever else is analysed.
    pub fn stream(&self) -> u64 {
        match self.probe {
            Probe::Layer(index) | Probe::Input(index) => index as u64,
            Probe::Heads(index) => (1 << 32) + index as u64,
        }
    }
}

/// What could be analysed.
struct Candidate<'a> {
    probe: Probe,
    path: &'a str,
    kind: UnitKind,
    tap: &'a Tap,
    feeds_classifier: bool,
}

/// Layers and heads in the order in which they run. The classifier is not among them: its output units are the labels
/// themselves, there is nothing to read out.
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

pub(super) fn choose_subjects(network: &Network, config: &AnalyzeConfig) -> Result<Vec<Subject>, SfpError> {
    let known = |path: &String| network.layer(path).is_some() || network.heads_at(path).is_some();
    if let Some(wanted) = &config.layers
        && let Some(unknown) = wanted.iter().find(|path| !known(path))
    {
        let layers = network.layers().iter().map(|layer| &layer.path);
        let available = layers.chain(network.heads().iter().map(|heads| &heads.path)).cloned().collect();
        return Err(SfpError::UnknownLayer { path: unknown.clone(), available });
    }
    let mut subjects = Vec::new();
    for candidate in candidates(network) {
        let Candidate { probe, path, kind, tap, feeds_classifier } = candidate;
        if config.layers.as_ref().is_some_and(|wanted| !wanted.iter().any(|wanted| wanted == path)) {
            continue;
        }
        let refuse = |message: String| Err(SfpError::Readout { path: path.to_string(), message });
        if tap.shape[0] != network.batch() {
            if config.layers.is_none() {
                continue;
            }
            return refuse(format!(
                "its output has shape {:?} for {} samples, and which rows belong to which sample is not known",
                tap.shape,
                network.batch()
            ));
        }
        let filters = tap.shape[tap.filter_axis];
        let (fit, pooled) = if feeds_classifier {
            (Fit::Classifier, None)
        } else {
            let pooled = Pooled::choose(config.grid, kind, tap);
            let positions = pooled.as_ref().map_or(tap.positions, Pooled::positions);
            let fit = match &config.readout {
                Readout::Ridge { strength } => Fit::Ridge(*strength),
                Readout::Gradient(_) => Fit::Gradient(None),
                Readout::Given(analysis) => given(analysis, path, (filters, positions, network.classes()))?,
            };
            (fit, pooled)
        };
        let features = filters * pooled.as_ref().map_or(tap.positions, Pooled::positions);
        if matches!(fit, Fit::Ridge(_)) && features > MOST_FEATURES {
            return refuse(format!(
                "its {features} features (filters times positions) are more than the {MOST_FEATURES} that a direct solver \
                 takes; set a grid (`Grid::Auto`) or analyse other layers"
            ));
        }
        subjects.push(Subject { probe, path: path.to_string(), kind, pooled, fit, sums: None, gram: None, hits: 0 });
    }
    Ok(subjects)
}

fn given(analysis: &Analysis, path: &str, expected: (usize, usize, usize)) -> Result<Fit, SfpError> {
    let refuse = |message: String| Err(SfpError::Readout { path: path.to_string(), message });
    match analysis.readout(path) {
        Some((readout, info)) if readout.dim() == expected => Ok(Fit::Given(readout, info)),
        Some((readout, _)) => refuse(format!(
            "the readout handed over has shape {:?}, the layer needs {expected:?}; use the same model and grid",
            readout.dim()
        )),
        None => refuse("the analysis handed over holds no readout for it; analyse with `with_state(true)`".into()),
    }
}

/// The classifier's weight as the readout `[F, S, C]` of the layer tapped. Its rows are the tap's elements as they lie, the
/// filters perhaps last.
pub(super) fn classifier_readout(network: &Network, tap: &Tap) -> Result<Array3<f32>, SfpError> {
    let layer = network.layers().iter().find(|layer| layer.is_classifier);
    let weight = layer.and_then(|layer| {
        let path = &network.parameters()[layer.weight()].path;
        super::config::floats(network.parameter_data(path)?)
    });
    let classes = network.classes();
    let (before, filters, after) = around(tap);
    weight
        .and_then(|weight| Array4::from_shape_vec((before, filters, after, classes), weight).ok())
        .map(|weight| weight.permuted_axes([1, 0, 2, 3]).as_standard_layout().into_owned())
        .and_then(|weight| weight.into_shape_with_order((filters, before * after, classes)).ok())
        .ok_or_else(|| SfpError::Readout {
            path: layer.map(|layer| layer.path.clone()).unwrap_or_default(),
            message: "the classifier's weight could not be read as [features, classes]".into(),
        })
}

/// Positions before the filter axis, filters, positions after it.
pub(super) fn around(tap: &Tap) -> (usize, usize, usize) {
    let product = |axes: &[usize]| axes.iter().product();
    (product(&tap.shape[1..tap.filter_axis]), tap.shape[tap.filter_axis], product(&tap.shape[tap.filter_axis + 1..]))
}
