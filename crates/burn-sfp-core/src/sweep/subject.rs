//! The layers under analysis and where their readouts come from.

use ndarray::{Array2, Array3};

use super::grid::Pooled;
use super::readout::GradientReadout;
use super::{AnalyzeConfig, Readout};
use crate::analysis::ReadoutInfo;
use crate::backend::{ClassSums, Gram};
use crate::network::{Layer, Network};
use crate::{Analysis, SfpError};

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

/// A layer under analysis.
pub(super) struct Subject {
    pub layer: usize,
    pub pooled: Option<Pooled>,
    pub fit: Fit,
    pub sums: Option<ClassSums>,
    pub gram: Option<Gram>,
    pub hits: usize,
}

pub(super) fn choose_subjects(network: &Network, config: &AnalyzeConfig) -> Result<Vec<Subject>, SfpError> {
    let available = || network.layers().iter().map(|layer| layer.path.clone()).collect::<Vec<_>>();
    if let Some(wanted) = &config.layers
        && let Some(unknown) = wanted.iter().find(|path| network.layer(path).is_none())
    {
        return Err(SfpError::UnknownLayer { path: unknown.clone(), available: available() });
    }
    let mut subjects = Vec::new();
    for (index, layer) in network.layers().iter().enumerate() {
        let wanted = config.layers.as_ref().is_none_or(|wanted| wanted.contains(&layer.path));
        // The classifier's output units are the labels themselves: there is nothing to read out.
        if layer.is_classifier || !wanted {
            continue;
        }
        let (fit, pooled) = if layer.feeds_classifier {
            (Fit::Classifier, None)
        } else {
            let pooled = Pooled::choose(config.grid, layer.kind, &layer.tap);
            let fit = match &config.readout {
                Readout::Ridge { strength } => Fit::Ridge(*strength),
                Readout::Gradient(_) => Fit::Gradient(None),
                Readout::Given(analysis) => given(analysis, layer, &pooled, network.classes())?,
            };
            (fit, pooled)
        };
        let features = layer.filters * pooled.as_ref().map_or(layer.tap.positions, Pooled::positions);
        if matches!(fit, Fit::Ridge(_)) && features > MOST_FEATURES {
            return Err(SfpError::Readout {
                path: layer.path.clone(),
                message: format!(
                    "its {features} features (filters times positions) are more than the {MOST_FEATURES} that a direct \
                     solver takes; set a grid (`Grid::Auto`) or analyse other layers"
                ),
            });
        }
        subjects.push(Subject { layer: index, pooled, fit, sums: None, gram: None, hits: 0 });
    }
    Ok(subjects)
}

fn given(analysis: &Analysis, layer: &Layer, pooled: &Option<Pooled>, classes: usize) -> Result<Fit, SfpError> {
    let positions = pooled.as_ref().map_or(layer.tap.positions, Pooled::positions);
    let expected = (layer.filters, positions, classes);
    let refuse = |message: String| Err(SfpError::Readout { path: layer.path.clone(), message });
    match analysis.readout(&layer.path) {
        Some((readout, info)) if readout.dim() == expected => Ok(Fit::Given(readout, info)),
        Some((readout, _)) => refuse(format!(
            "the readout handed over has shape {:?}, the layer needs {expected:?}; use the same model and grid",
            readout.dim()
        )),
        None => refuse("the analysis handed over holds no readout for it; analyse with `with_state(true)`".into()),
    }
}

/// The classifier's weight `[F·S, C]` as a readout `[F, S, C]`.
pub(super) fn classifier_readout(network: &Network, filters: usize, positions: usize) -> Result<Array3<f32>, SfpError> {
    let layer = network.layers().iter().find(|layer| layer.is_classifier);
    let weight = layer.and_then(|layer| {
        let path = &network.parameters()[layer.weight()].path;
        super::config::floats(network.parameter_data(path)?)
    });
    let classes = network.classes();
    weight
        .and_then(|weight| Array2::from_shape_vec((filters * positions, classes), weight).ok())
        .and_then(|weight| weight.into_shape_with_order((filters, positions, classes)).ok())
        .ok_or_else(|| SfpError::Readout {
            path: layer.map(|layer| layer.path.clone()).unwrap_or_default(),
            message: "the classifier's weight could not be read as [features, classes]".into(),
        })
}
