//! Latencies of several models side by side.

use std::fmt;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::{Deserialize, Serialize};

use super::measure::{Latency, LatencyConfig, compare_with, forward};
use crate::{Cost, GraphError, GraphModule, ModuleInput, NoProgress, Progress};

/// The latency of one model on batches of one size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LatencyRow {
    /// Name of the model.
    pub model: String,
    /// Samples in a batch.
    pub batch: usize,
    /// Seconds for a batch.
    pub latency: Latency,
    /// Multiply-adds that are executed for a sample, those with masked zeros included, where they are known.
    pub macs: Option<u64>,
    /// Number of operations whose multiply-adds are not known and so not part of `macs`.
    #[serde(default)]
    pub uncounted: usize,
    /// Bytes of parameters, running statistics and the integers of sparse layers, where they are known.
    pub bytes: Option<u64>,
}

/// Latencies of several models, compared with the first one batch size by batch size. Prints as a table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LatencyTable {
    /// The rows in the order in which they were measured. The others of a batch size are compared with its first row.
    pub rows: Vec<LatencyRow>,
}

impl LatencyTable {
    /// Measures models in turn on each of the inputs, which may be batches of several sizes.
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_graph::GraphModule;
    /// use burn_sfp_graph::latency::{LatencyConfig, LatencyTable};
    /// # #[derive(Module, Debug)]
    /// # struct Mlp { a: Linear, b: Linear }
    /// # impl GraphModule for Mlp {
    /// #     type Inputs = Tensor<2>;
    /// #     type Outputs = Tensor<2>;
    /// #     fn run(&self, x: Tensor<2>) -> Tensor<2> { self.b.forward(self.a.forward(x)) }
    /// # }
    /// # let device = Device::flex();
    /// # let mlp = |width| Mlp {
    /// #     a: LinearConfig::new(4, width).init(&device),
    /// #     b: LinearConfig::new(width, 3).init(&device),
    /// # };
    /// # let (before, after) = (mlp(8), mlp(4));
    /// let inputs = [1, 64].map(|samples| Tensor::<2>::ones([samples, 4], &device));
    /// let table = LatencyTable::measure(&[("before", &before), ("after", &after)], &inputs, &LatencyConfig::new())?;
    /// println!("{table}");
    /// assert_eq!(table.rows.len(), 4);
    /// assert!(table.speedup(&table.rows[1]).is_some());
    /// # Ok::<(), burn_sfp_graph::GraphError>(())
    /// ```
    ///
    /// # Errors
    /// As [`forward`].
    pub fn measure<M: GraphModule>(
        models: &[(&str, &M)],
        inputs: &[M::Inputs],
        config: &LatencyConfig,
    ) -> Result<Self, GraphError> {
        Self::measure_with(models, inputs, config, &NoProgress)
    }

    /// [`measure`](LatencyTable::measure) with progress. If it cancels, the batch sizes measured by then are returned.
    ///
    /// # Errors
    /// As [`forward`].
    pub fn measure_with<M: GraphModule>(
        models: &[(&str, &M)],
        inputs: &[M::Inputs],
        config: &LatencyConfig,
        progress: &dyn Progress,
    ) -> Result<Self, GraphError> {
        let _span = tracing::info_span!("latency", models = models.len()).entered();
        let turns = config.warm_up + config.runs.max(1);
        progress.start("latency", Some(turns * models.len() * inputs.len()));
        let mut rows = Vec::new();
        for inputs in inputs {
            if progress.is_cancelled() {
                break;
            }
            let runs: Vec<_> = models.iter().map(|(_, model)| || forward(*model, inputs)).collect();
            let runs: Vec<&dyn Fn() -> Result<(), GraphError>> = runs.iter().map(|run| run as _).collect();
            let latencies = compare_with(config, &runs, progress)?;
            rows.extend(models.iter().zip(latencies).map(|((name, model), latency)| {
                let cost = Cost::of(*model, inputs).ok();
                LatencyRow {
                    model: name.to_string(),
                    batch: inputs.samples(),
                    latency,
                    macs: cost.map(|cost| cost.macs),
                    uncounted: cost.map_or(0, |cost| cost.uncounted),
                    bytes: cost.map(|cost| cost.bytes),
                }
            }));
        }
        progress.finish();
        Ok(Self { rows })
    }

    /// The speed-up of a row: the median of the first row of its batch size over its own median.
    pub fn speedup(&self, row: &LatencyRow) -> Option<f64> {
        let first = self.rows.iter().find(|first| first.batch == row.batch)?;
        Some(first.latency.median / row.latency.median)
    }
}

impl fmt::Display for LatencyTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_preset(NOTHING);
        table.set_header(["model", "batch", "median ms", "min ms", "max ms", "speed-up", "M MACs", "MB"]);
        let milliseconds = |seconds: f64| format!("{:.3}", 1e3 * seconds);
        let millions = |count: Option<u64>, digits: usize| {
            count.map_or_else(|| "-".to_string(), |count| format!("{:.digits$}", 1e-6 * count as f64))
        };
        for row in &self.rows {
            let Latency { median, min, max, .. } = row.latency;
            let uncounted = if row.uncounted > 0 { " + ?" } else { "" };
            table.add_row([
                row.model.clone(),
                row.batch.to_string(),
                milliseconds(median),
                milliseconds(min),
                milliseconds(max),
                format!("{:.2}x", self.speedup(row).unwrap_or(f64::NAN)),
                millions(row.macs, 2) + uncounted,
                millions(row.bytes, 3),
            ]);
        }
        table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        writeln!(f, "{table}")?;
        if self.rows.iter().any(|row| row.uncounted > 0) {
            writeln!(
                f,
                " + ?: some operations have multiply-adds that are not known (`Network::uncounted` names them)"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_the_same_batch_size() {
        let row = |model: &str, batch, milliseconds: f64, macs| LatencyRow {
            model: model.into(),
            batch,
            latency: Latency { median: 1e-3 * milliseconds, min: 0.5e-3 * milliseconds, max: 2e-3 * milliseconds },
            macs,
            uncounted: 0,
            bytes: Some(1_500_000),
        };
        let rows = vec![
            row("before", 1, 4.0, Some(2_000_000)),
            row("after", 1, 1.0, None),
            row("before", 64, 100.0, None),
            row("after", 64, 50.0, None),
        ];
        let table = LatencyTable { rows };
        let text = table.to_string();
        for part in ["4.00x", "2.00x", "1.500", "100.000", "200.000", " - "] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        let saved = serde_json::to_string(&table).unwrap();
        assert_eq!(serde_json::from_str::<LatencyTable>(&saved).unwrap(), table);
    }
}
