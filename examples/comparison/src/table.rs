//! Markdown tables.

use comfy_table::{CellAlignment, Table, presets};

/// Returns an empty Markdown table; columns from `text` on are numbers and stand on the right.
pub fn markdown(header: &[&str], text: usize) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header(header);
    for column in table.column_iter_mut().skip(text) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Returns the mean and the standard deviation of a sample (over n - 1), 0 of a single number.
///
/// ```
/// let (mean, deviation) = comparison::table::spread(&[1.0, 2.0, 3.0]);
/// assert_eq!((mean, deviation), (2.0, 1.0));
/// ```
pub fn spread(numbers: &[f64]) -> (f64, f64) {
    let count = numbers.len().max(1) as f64;
    let mean = numbers.iter().sum::<f64>() / count;
    let squares = numbers.iter().map(|number| (number - mean).powi(2)).sum::<f64>();
    (mean, (squares / (count - 1.0).max(1.0)).sqrt())
}

/// Returns an error short enough for a table: without the layers that hold a budget.
pub(crate) fn why_not(error: Option<&str>) -> String {
    error.and_then(|error| error.split("; most of them").next()).unwrap_or_default().to_string()
}
