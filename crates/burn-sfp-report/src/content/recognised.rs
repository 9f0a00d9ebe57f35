//! What the filters of each layer recognise.

use std::collections::HashMap;

use burn_sfp_core::performance::FilterPerformance;
use burn_sfp_core::{Analysis, LayerAnalysis, ReadoutInfo, UnitKind};
use burn_sfp_prune::{LayerPlan, ParameterCut, PrunePlan};
use serde::Serialize;

use super::filters::{self, FilterRow, Room};
use super::matrices;
use super::shown::listed;
use crate::given::Given;
use crate::text::shortened;
use crate::{ReportError, limits};

/// What the filters recognise.
#[derive(Debug, Serialize)]
pub(crate) struct Recognised {
    pub samples: u64,
    pub classes: usize,
    pub threshold: f64,
    pub top1: f64,
    /// Names of the labels; empty where none were given.
    pub names: Vec<String>,
    /// Whether the analysis kept what performance matrices are computed from.
    pub has_matrices: bool,
    /// Layers and heads, in the order in which they run.
    pub layers: Vec<UnitRow>,
}

/// What the filters, nodes or heads of a layer recognise.
#[derive(Debug, Serialize)]
pub(crate) struct UnitRow {
    pub path: String,
    /// The kind of layer, or `heads`.
    pub kind: &'static str,
    pub filters: usize,
    pub positions: usize,
    pub readout: &'static str,
    /// Top-1 of the readout, where it was measured.
    pub accuracy: Option<f64>,
    pub silent: usize,
    pub clusters_per_filter: f64,
    pub cluster_size: f64,
    pub noise: f64,
    pub snr: Option<f64>,
    /// Smallest and largest size of each bar, and the number of clusters.
    pub sizes: Vec<(usize, usize, usize)>,
    pub labels: LabelCounts,
    /// Filters that are listed, by index.
    pub listed: Vec<FilterRow>,
}

/// By how many filters labels are recognised.
#[derive(Debug, Serialize)]
pub(crate) struct LabelCounts {
    /// Labels of one bar.
    pub width: usize,
    /// For each bar, the mean number of filters that recognise one of its labels.
    pub bars: Vec<f64>,
    /// Number of labels that no filter recognises.
    pub missing: usize,
    pub least: usize,
    pub most: usize,
}

pub(super) fn recognised(
    given: &Given<'_>,
    analysis: &Analysis,
    left_out: &mut Vec<String>,
) -> Result<Recognised, ReportError> {
    let shown = &analysis.layers[..listed(analysis.layers.len())];
    if shown.len() < analysis.layers.len() {
        let all = analysis.layers.len();
        left_out.push(format!("analysed layers: the first {} of {all} are shown", shown.len()));
    }
    let staying = Staying::of(given.plan);
    let room = Room::of(shown.len());
    let matrix_room = if analysis.has_state() { matrices::room(analysis, shown) } else { vec![0; shown.len()] };
    let mut layers = Vec::with_capacity(shown.len());
    let (mut all, mut in_list, mut with_matrix) = (0, 0, 0);
    for (layer, matrix_room) in shown.iter().zip(matrix_room) {
        let row = row(analysis, layer, &staying, (room, matrix_room), shown.len())?;
        all += layer.performance.len();
        in_list += row.listed.len();
        with_matrix += row.listed.iter().filter(|filter| filter.matrix.is_some()).count();
        layers.push(row);
    }
    if in_list < all {
        left_out.push(format!("picker: {in_list} of {all} filters are listed, evenly spread"));
    }
    if analysis.has_state() && with_matrix < in_list {
        left_out.push(format!("picker: {with_matrix} of {in_list} listed filters have their performance matrix"));
    }
    if analysis.has_state() && analysis.classes > limits::MATRIX_SIDE {
        let (side, classes) = (limits::MATRIX_SIDE, analysis.classes);
        left_out
            .push(format!("performance matrices: {side} of {classes} labels are shown, those of the clusters first"));
    }
    let names: Vec<String> = given.labels.iter().take(limits::NAMES).map(|name| shortened(name)).collect();
    if names.len() < given.labels.len() {
        left_out.push(format!("labels: the names of the first {} of {} are held", names.len(), given.labels.len()));
    }
    Ok(Recognised {
        samples: analysis.samples,
        classes: analysis.classes,
        threshold: analysis.threshold,
        top1: analysis.top1,
        names,
        has_matrices: analysis.has_state(),
        layers,
    })
}

fn row(
    analysis: &Analysis,
    layer: &LayerAnalysis,
    staying: &Staying<'_>,
    (room, matrix_room): (Room, usize),
    layers: usize,
) -> Result<UnitRow, ReportError> {
    let listed = filters::chosen(&layer.performance, room);
    let with_matrix = matrices::chosen(&listed, matrix_room);
    let stays = staying.filters(layer);
    let mut rows = Vec::with_capacity(listed.len());
    for index in listed {
        let of = &layer.performance[index];
        let matrix = match with_matrix.binary_search(&index) {
            Ok(_) => Some(matrices::matrix(analysis, &layer.path, index, of)?),
            Err(_) => None,
        };
        let stays = stays.as_ref().and_then(|stays| stays.get(index).copied());
        rows.push(filters::filter(index, of, stays, matrix));
    }
    let summary = &layer.summary;
    Ok(UnitRow {
        path: shortened(&layer.path),
        kind: match &layer.kind {
            UnitKind::Layer(kind) => kind.name(),
            _ => "heads",
        },
        filters: layer.filters,
        positions: layer.positions,
        readout: readout(&layer.readout),
        accuracy: layer.readout.accuracy(),
        silent: summary.silent,
        clusters_per_filter: summary.clusters_per_filter,
        cluster_size: summary.cluster_size,
        noise: summary.noise,
        snr: summary.snr,
        sizes: sizes(&layer.performance),
        labels: LabelCounts::of(&summary.filters_per_label, layers),
        listed: rows,
    })
}

fn readout(info: &ReadoutInfo) -> &'static str {
    match info {
        ReadoutInfo::Classifier { .. } => "the classifier",
        ReadoutInfo::Ridge { .. } => "ridge",
        ReadoutInfo::Gradient { .. } => "gradient",
        ReadoutInfo::Given { .. } => "given",
        _ => "other",
    }
}

/// A histogram of cluster sizes: smallest and largest size of each bar, and the number of clusters.
fn sizes(filters: &[FilterPerformance]) -> Vec<(usize, usize, usize)> {
    let all = || filters.iter().flat_map(|filter| &filter.clusters).map(Vec::len);
    let largest = all().max().unwrap_or(0);
    let width = largest.div_ceil(limits::SIZES).max(1);
    let mut bars: Vec<_> = (0..largest.div_ceil(width)).map(|bar| (bar * width + 1, (bar + 1) * width, 0)).collect();
    for size in all().filter(|size| *size > 0) {
        bars[(size - 1) / width].2 += 1;
    }
    bars
}

impl LabelCounts {
    fn of(filters_per_label: &[usize], layers: usize) -> Self {
        let most = (limits::BARS / layers.max(1)).max(limits::BARS_AT_LEAST);
        let width = filters_per_label.len().div_ceil(most).max(1);
        let mean = |bar: &[usize]| bar.iter().sum::<usize>() as f64 / bar.len() as f64;
        // Two decimals are enough for a bar.
        let round = |value: f64| (100.0 * value).round() / 100.0;
        Self {
            width,
            bars: filters_per_label.chunks(width).map(mean).map(round).collect(),
            missing: filters_per_label.iter().filter(|count| **count == 0).count(),
            least: filters_per_label.iter().min().copied().unwrap_or(0),
            most: filters_per_label.iter().max().copied().unwrap_or(0),
        }
    }
}

/// Which filters of each layer stay, by the cuts of their weights.
struct Staying<'a> {
    layers: HashMap<&'a str, &'a LayerPlan>,
    cuts: HashMap<&'a str, &'a ParameterCut>,
}

impl<'a> Staying<'a> {
    fn of(plan: &'a PrunePlan) -> Self {
        Self {
            layers: plan.layers.iter().map(|layer| (layer.path.as_str(), layer)).collect(),
            cuts: plan.cuts.iter().map(|cut| (cut.path.as_str(), cut)).collect(),
        }
    }

    /// `None` of heads and of layers whose weight is computed from several parameters.
    fn filters(&self, analysed: &LayerAnalysis) -> Option<Vec<bool>> {
        let UnitKind::Layer(_) = analysed.kind else { return None };
        let layer = self.layers.get(analysed.path.as_str())?;
        if layer.filters_after == layer.filters_before {
            return Some(vec![true; layer.filters_before]);
        }
        let axes = &self.cuts.get(layer.weight.as_str())?.axes;
        let cut = axes.iter().find(|cut| cut.axis == layer.kind.output_axis())?;
        let mut stays = vec![false; cut.length];
        for &index in &cut.keep {
            *stays.get_mut(index)? = true;
        }
        (stays.len() == layer.filters_before && cut.keep.len() == layer.filters_after).then_some(stays)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_of_sizes() {
        let mut filter = FilterPerformance::default();
        assert!(sizes(std::slice::from_ref(&filter)).is_empty());
        filter.clusters = vec![vec![0], vec![1, 2, 3], vec![4]];
        assert_eq!(sizes(&[filter.clone()]), [(1, 1, 2), (2, 2, 0), (3, 3, 1)]);
        filter.clusters.push((0..100).collect());
        let bars = sizes(&[filter]);
        assert!(bars.len() <= limits::SIZES);
        assert_eq!((bars[0].2, bars.last().map(|bar| bar.2)), (3, Some(1)));
    }

    #[test]
    fn labels_share_bars_where_there_are_many() {
        let few = LabelCounts::of(&[3, 0, 5], 10);
        assert_eq!(
            (few.width, few.bars.as_slice(), few.missing, few.least, few.most),
            (1, [3.0, 0.0, 5.0].as_slice(), 1, 0, 5)
        );
        let many = LabelCounts::of(&vec![2; 100_000], 400);
        assert!(many.bars.len() <= 250 && many.bars.iter().all(|&bar| bar == 2.0));
    }
}
