//! [`Analysis::check`]: whether an analysis agrees with itself.

use std::collections::HashSet;

use ndarray::Array3;

use super::info::ReadoutInfo;
use super::layer::{LayerAnalysis, LayerState};
use super::result::{ANALYSIS_VERSION, Analysis};
use crate::SfpError;
use crate::performance::{FilterPerformance, LayerSummary};

/// The number of samples; `None` where it does not fit into 64 bits.
pub(super) fn total(counts: &[u64]) -> Option<u64> {
    counts.iter().try_fold(0_u64, |all, count| all.checked_add(*count))
}

/// What is wrong.
type Found = Result<(), String>;

impl Analysis {
    /// Checks that the analysis agrees with itself: counts, shapes, labels below the number of classes, shares within 0 and 1, finite
    /// values, and summaries that follow from what they summarise.
    ///
    /// What [`analyze`](crate::analyze) and [`merge`](Self::merge) return passes. [`save`](Self::save), [`load`](Self::load), `merge` and
    /// what takes an analysis check it, because its fields are public and every `serde` format can make one.
    ///
    /// ```
    /// # use burn_sfp_core::{Analysis, SfpError};
    /// fn from_elsewhere(text: &str) -> Result<Analysis, Box<dyn std::error::Error>> {
    ///     let analysis: Analysis = serde_json::from_str(text)?;
    ///     analysis.check()?;
    ///     Ok(analysis)
    /// }
    /// ```
    ///
    /// # Errors
    /// [`SfpError::InvalidAnalysis`] with the first contradiction.
    pub fn check(&self) -> Result<(), SfpError> {
        self.check_whole().map_err(SfpError::InvalidAnalysis)?;
        let mut paths = HashSet::new();
        for layer in &self.layers {
            let twice = if paths.insert(layer.path.as_str()) { Ok(()) } else { Err("it is there twice".into()) };
            twice
                .and_then(|()| check_layer(self, layer))
                .map_err(|what| SfpError::InvalidAnalysis(format!("layer `{}`: {what}", layer.path)))?;
        }
        Ok(())
    }

    /// Checks everything but the layers.
    fn check_whole(&self) -> Found {
        let fail = |what: String| Err(what);
        if self.version != ANALYSIS_VERSION {
            return fail(format!("it is of version {}, this build knows version {ANALYSIS_VERSION}", self.version));
        }
        if !(self.threshold > 0.0 && self.threshold < 1.0) {
            return fail(format!("its threshold is {}", self.threshold));
        }
        if self.classes != self.counts.len() || total(&self.counts) != Some(self.samples) {
            return fail("its classes and samples are not those of its counts".into());
        }
        if let Some(label) = self.counts.iter().position(|count| *count == 0) {
            return fail(format!("it counts no sample of label {label}"));
        }
        check_share("its top-1", self.top1)?;
        let seconds = &self.seconds;
        let all = [seconds.capture, seconds.sweep, seconds.readout, seconds.performance, seconds.accuracy];
        if all.iter().any(|seconds| !(*seconds >= 0.0 && seconds.is_finite())) {
            return fail("its seconds are negative or not finite".into());
        }
        for (path, means) in &self.input_means {
            if means.iter().any(|mean| !mean.is_finite()) {
                return fail(format!("an input mean of layer `{path}` is not finite"));
            }
        }
        let paths: HashSet<&str> = self.model.iter().map(|parameter| parameter.path.as_str()).collect();
        if paths.len() < self.model.len() {
            return fail("its model has a parameter twice".into());
        }
        match self.fingerprint.paths().find(|path| !paths.contains(path)) {
            None => Ok(()),
            Some(path) => fail(format!("its fingerprint has parameter `{path}`, which its model does not have")),
        }
    }
}

fn check_share(what: &str, share: f64) -> Found {
    if (0.0..=1.0).contains(&share) { Ok(()) } else { Err(format!("{what} is {share}")) }
}

fn check_layer(analysis: &Analysis, layer: &LayerAnalysis) -> Found {
    let &LayerAnalysis { filters, positions, classes, samples, .. } = layer;
    if (classes, samples) != (analysis.classes, analysis.samples) {
        return Err(format!("its {classes} classes and {samples} samples are not those of the analysis"));
    }
    if layer.performance.len() != filters {
        return Err(format!("it has {filters} filters and the results of {}", layer.performance.len()));
    }
    if let Some(grid) = &layer.grid
        && grid.iter().try_fold(1_usize, |all, length| all.checked_mul(*length)) != Some(positions)
    {
        return Err(format!("its grid {grid:?} does not have its {positions} positions"));
    }
    check_readout(&layer.readout)?;
    // The filter that had each label last.
    let mut last = vec![usize::MAX; classes];
    for (filter, found) in layer.performance.iter().enumerate() {
        check_filter(found, filter, &mut last).map_err(|what| format!("filter {filter}: {what}"))?;
    }
    if layer.summary != LayerSummary::of(&layer.performance, classes) {
        return Err("its summary is not that of its filters".into());
    }
    match &layer.state {
        Some(state) => check_state(layer, state),
        None => Ok(()),
    }
}

fn check_readout(readout: &ReadoutInfo) -> Found {
    if let Some(accuracy) = readout.accuracy() {
        check_share("the accuracy of its readout", accuracy)?;
    }
    match readout {
        ReadoutInfo::Ridge { strength, .. } if !(*strength > 0.0 && strength.is_finite()) => {
            Err(format!("the strength of its ridge regression is {strength}"))
        }
        ReadoutInfo::Gradient { config, .. } => config.check().map_err(|error| error.to_string()),
        ReadoutInfo::Given { from, .. } if matches!(**from, ReadoutInfo::Given { .. }) => {
            Err("its readout was given twice".into())
        }
        ReadoutInfo::Given { from, .. } => check_readout(from),
        _ => Ok(()),
    }
}

/// Checks one filter. `last` has an element for each class, and no index of this filter yet.
fn check_filter(found: &FilterPerformance, filter: usize, last: &mut [usize]) -> Found {
    let classes = last.len();
    if !found.max.is_finite() {
        return Err(format!("the largest element of its performance matrix is {}", found.max));
    }
    if !(found.label_weight >= 0.0 && found.label_weight.is_finite()) {
        return Err(format!("the squares of its readout at its labels sum up to {}", found.label_weight));
    }
    for cluster in &found.clusters {
        if cluster.is_empty() || !cluster.windows(2).all(|pair| pair[0] < pair[1]) {
            return Err("a cluster has no label, or labels that do not ascend".into());
        }
        for &label in cluster {
            match last.get_mut(label) {
                None => return Err(format!("a cluster has label {label} of {classes} classes")),
                Some(last) if *last == filter => return Err(format!("label {label} is in two clusters")),
                Some(last) => *last = filter,
            }
        }
    }
    let firsts: Vec<usize> = found.clusters.iter().map(|cluster| cluster[0]).collect();
    if !firsts.windows(2).all(|pair| pair[0] < pair[1]) {
        return Err("its clusters are not in the order of their first labels".into());
    }
    // The labels of clusters are distinct and below the number of classes, so these products fit.
    let inside: usize = found.clusters.iter().map(|cluster| cluster.len() * cluster.len()).sum();
    let all = classes.saturating_mul(classes);
    if found.noise > all - inside.min(all) || found.column_noise > found.noise || found.near > all {
        return Err(format!("it counts more elements than a performance matrix of {classes} classes has"));
    }
    Ok(())
}

fn check_state(layer: &LayerAnalysis, state: &LayerState) -> Found {
    let &LayerAnalysis { classes, filters, positions, .. } = layer;
    let features = filters.saturating_mul(positions);
    let finite = |array: &Array3<f64>| array.iter().all(|value| value.is_finite());
    if state.sums.dim() != (classes, filters, positions) || !finite(&state.sums) {
        return Err("its class sums have another shape or are not finite".into());
    }
    if let Some(gram) = &state.gram
        && (gram.dim() != (features, features) || gram.iter().any(|value| !value.is_finite()))
    {
        return Err("its normal equations have another shape or are not finite".into());
    }
    if let Some(readout) = &state.readout
        && (readout.dim() != (filters, positions, classes) || readout.iter().any(|value| !value.is_finite()))
    {
        return Err("its kept readout has another shape or is not finite".into());
    }
    if state.grid != layer.grid || state.kind != layer.kind {
        return Err("its state has another grid or is of another kind".into());
    }
    Ok(())
}
