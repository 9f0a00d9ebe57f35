//! [`Plot`]: which plots there are.

use crate::content::{Content, LayerRow, Measure, UnitRow};

/// A plot and what it shows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Plot<'a> {
    /// What is left of each size.
    Sizes(&'a [Measure]),
    /// Filters of each layer before and after.
    Filters(&'a [LayerRow]),
    /// Accuracy of readouts along the depth.
    Accuracy(&'a [UnitRow]),
    /// Signal-to-noise ratio along the depth.
    Snr(&'a [UnitRow]),
    /// Sizes of the clusters of all layers.
    Clusters(&'a [UnitRow]),
    /// By how many filters each label is recognised in the last layer.
    Labels(&'a UnitRow),
}

impl Plot<'_> {
    /// The name of its file.
    pub fn name(&self) -> &'static str {
        match self {
            Plot::Sizes(_) => "sizes",
            Plot::Filters(_) => "filters",
            Plot::Accuracy(_) => "accuracy",
            Plot::Snr(_) => "snr",
            Plot::Clusters(_) => "clusters",
            Plot::Labels(_) => "labels",
        }
    }

    /// What it shows, in a line.
    pub fn caption(&self) -> &'static str {
        match self {
            Plot::Sizes(_) => "What is left of each size",
            Plot::Filters(_) => "Filters of each layer: before (light) and after (dark)",
            Plot::Accuracy(_) => "Accuracy of the readout of each layer",
            Plot::Snr(_) => "Signal-to-noise ratio of each layer",
            Plot::Clusters(_) => "Number of labels in a cluster, all layers together",
            Plot::Labels(_) => "Filters that recognise a label, last analysed layer",
        }
    }
}

/// The plots that there is something for.
pub(crate) fn all(content: &Content) -> Vec<Plot<'_>> {
    let mut plots = vec![Plot::Sizes(&content.measures)];
    if !content.layers.is_empty() {
        plots.push(Plot::Filters(&content.layers));
    }
    let Some(recognised) = &content.recognised else { return plots };
    let layers = recognised.layers.as_slice();
    if layers.iter().any(|layer| layer.accuracy.is_some()) {
        plots.push(Plot::Accuracy(layers));
    }
    if layers.iter().any(|layer| layer.snr.is_some()) {
        plots.push(Plot::Snr(layers));
    }
    if layers.iter().any(|layer| !layer.sizes.is_empty()) {
        plots.push(Plot::Clusters(layers));
    }
    plots.extend(layers.last().map(Plot::Labels));
    plots
}
