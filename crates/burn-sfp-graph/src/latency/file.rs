//! Saving and loading latency tables.

use std::path::Path;

use super::table::LatencyTable;
use crate::GraphError;
use crate::file::{Format, load_json, save_json};

const FORMAT: Format =
    Format { name: "burn-sfp latency table", what: "a latency table", version: 1, advice: "measure again" };

impl LatencyTable {
    /// Writes the table as JSON with a checksum. The file appears whole or not at all.
    ///
    /// ```
    /// # use burn_sfp_graph::latency::LatencyTable;
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("latency.json");
    /// let table = LatencyTable::default();
    /// table.save(&path)?;
    /// assert_eq!(LatencyTable::load(&path)?, table);
    /// # Ok::<(), burn_sfp_graph::GraphError>(())
    /// ```
    ///
    /// # Errors
    /// [`GraphError::InvalidTable`] where [`check`](Self::check) fails, [`GraphError::File`] where the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), GraphError> {
        self.check()?;
        Ok(save_json(path.as_ref(), &FORMAT, self)?)
    }

    /// Reads a table that [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// [`GraphError::File`] where the file is missing, truncated, damaged, foreign or of another version, [`GraphError::InvalidTable`]
    /// where [`check`](Self::check) fails.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, GraphError> {
        let table: Self = load_json(path.as_ref(), &FORMAT)?;
        table.check()?;
        Ok(table)
    }

    /// Checks that all seconds are finite, at least 0 and in order, and that every batch has a sample.
    ///
    /// # Errors
    /// [`GraphError::InvalidTable`] with the first row that is wrong.
    pub fn check(&self) -> Result<(), GraphError> {
        for (index, row) in self.rows.iter().enumerate() {
            let latency = row.latency;
            let in_order = 0.0 <= latency.min && latency.min <= latency.median && latency.median <= latency.max;
            if !(in_order && latency.max.is_finite()) {
                let what = format!("the seconds of row {index} (`{}`) are not finite and in order", row.model);
                return Err(GraphError::InvalidTable(what));
            }
            if row.batch == 0 {
                return Err(GraphError::InvalidTable(format!("row {index} (`{}`) has no sample", row.model)));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Latency, LatencyRow};
    use super::*;

    #[test]
    fn tables_that_are_none() {
        let row = |min, median, max, batch| LatencyRow {
            model: "net".into(),
            batch,
            latency: Latency { median, min, max },
            macs: Some(3),
            uncounted: 0,
            bytes: None,
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("latency.json");
        let good = LatencyTable { rows: vec![row(0.1, 0.2, 0.3, 1), row(0.0, 0.0, 0.0, 64)] };
        good.save(&path).unwrap();
        assert_eq!(LatencyTable::load(&path).unwrap(), good);
        for bad in [
            row(0.1, f64::NAN, 0.3, 1),
            row(0.1, 0.2, f64::INFINITY, 1),
            row(-0.1, 0.2, 0.3, 1),
            row(0.2, 0.1, 0.3, 1),
            row(0.1, 0.2, 0.3, 0),
        ] {
            let error = LatencyTable { rows: vec![row(0.1, 0.2, 0.3, 1), bad] }.save(&path).unwrap_err();
            assert!(matches!(&error, GraphError::InvalidTable(what) if what.contains("row 1")), "{error}");
        }
        assert_eq!(LatencyTable::load(&path).unwrap(), good, "a save that is refused leaves the file");
    }
}
