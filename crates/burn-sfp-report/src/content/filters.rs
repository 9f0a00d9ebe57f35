//! What single filters recognise, for the picker.

use burn_sfp_core::performance::FilterPerformance;
use serde::Serialize;

use super::matrices::Matrix;
use super::shown::spread;
use crate::limits;

/// A filter of the picker.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct FilterRow {
    /// Its index in the original.
    pub index: usize,
    /// Whether it stays; `None` where the plan does not say.
    pub stays: Option<bool>,
    /// Its clusters of labels.
    pub clusters: Vec<Vec<usize>>,
    /// Labels that are left out of the clusters.
    pub more: usize,
    pub noise: usize,
    /// The largest element of its matrix.
    pub max: f64,
    pub matrix: Option<Matrix>,
}

/// How many filters and labels of one layer the picker has room for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub filters: usize,
    pub mentions: usize,
}

impl Room {
    /// The room of each of some layers.
    pub fn of(layers: usize) -> Self {
        let layers = layers.max(1);
        Self { filters: (limits::FILTERS / layers).max(4), mentions: (limits::MENTIONS / layers).max(100) }
    }
}

/// The filters of a layer that are listed: all, or as many as there is room for, evenly spread.
pub(crate) fn chosen(filters: &[FilterPerformance], room: Room) -> Vec<usize> {
    let labels: usize = filters.iter().flat_map(|filter| &filter.clusters).map(Vec::len).sum();
    let each = (labels / filters.len().max(1)).clamp(1, limits::MENTIONS_OF_A_FILTER);
    spread(filters.len(), room.filters.min(room.mentions / each).max(1))
}

/// A filter, with its clusters cut to what a filter may list.
pub(crate) fn filter(index: usize, of: &FilterPerformance, stays: Option<bool>, matrix: Option<Matrix>) -> FilterRow {
    let mut room = limits::MENTIONS_OF_A_FILTER;
    let mut clusters = Vec::new();
    for cluster in &of.clusters {
        let shown = &cluster[..cluster.len().min(room)];
        room -= shown.len();
        if !shown.is_empty() {
            clusters.push(shown.to_vec());
        }
    }
    let labels: usize = of.clusters.iter().map(Vec::len).sum();
    let more = labels - clusters.iter().map(Vec::len).sum::<usize>();
    FilterRow { index, stays, clusters, more, noise: of.noise, max: of.max, matrix }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_fits() {
        let mut all = FilterPerformance::default();
        all.clusters = vec![(0..150).collect(), (150..400).collect(), vec![400]];
        let row = filter(7, &all, Some(true), None);
        assert_eq!(row.clusters.iter().map(Vec::len).collect::<Vec<_>>(), [150, 50]);
        assert_eq!((row.index, row.more), (7, 201));
        let many = vec![all; 1_000];
        let room = Room::of(100);
        let listed = chosen(&many, room).len();
        assert!(listed > 0 && listed * limits::MENTIONS_OF_A_FILTER <= room.mentions, "{listed} filters");
    }
}
