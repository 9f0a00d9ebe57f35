//! How much of a large network a report holds. What is left out is said in the report.

/// Layers that tables, the graph and the picker list.
pub(crate) const LAYERS: usize = 400;
/// Nodes of the graph, those of layers included.
pub(crate) const NODES: usize = 800;
/// Reasons and warnings that are listed, each.
pub(crate) const REASONS: usize = 200;
/// Layers that are named for one reason.
pub(crate) const LAYERS_OF_A_REASON: usize = 30;
/// Layers that are named as the source of one connection.
pub(crate) const SOURCES: usize = 4;
/// Characters of a name or a reason.
pub(crate) const TEXT: usize = 300;
/// Filters that the picker lists, all layers together.
pub(crate) const FILTERS: usize = 20_000;
/// Labels that the filters of the picker list, all layers together.
pub(crate) const MENTIONS: usize = 300_000;
/// Labels that one filter lists.
pub(crate) const MENTIONS_OF_A_FILTER: usize = 200;
/// Bars of all charts of labels together, and of one.
pub(crate) const BARS: usize = 100_000;
/// Bars that one chart of labels has at least.
pub(crate) const BARS_AT_LEAST: usize = 32;
/// Bars of a histogram of cluster sizes.
pub(crate) const SIZES: usize = 16;
/// Names of labels that the page holds.
pub(crate) const NAMES: usize = 20_000;
/// Labels along a side of a performance matrix.
pub(crate) const MATRIX_SIDE: usize = 100;
/// Bytes of all performance matrices together.
pub(crate) const MATRIX_BYTES: usize = 4 << 20;
/// Multiply-adds to compute all performance matrices: some seconds.
pub(crate) const MATRIX_MACS: usize = 10_000_000_000;
/// Rows and columns of a map of connections.
pub(crate) const MAP_SIDE: usize = 48;
/// Layers that have a map of connections.
pub(crate) const MAPS: usize = 200;
/// Samples that plots over the layers have room for.
pub(crate) const PLOTTED: usize = 2_000;
