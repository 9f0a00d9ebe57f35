//! Latencies of several models side by side.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Latency, LatencyConfig, compare, forward};
use crate::network::Cost;
use crate::{GraphModule, ModuleInput, SfpError};

/// A model on batches of one size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencyRow {
    /// Which model.
    pub model: String,
    /// Samples of a batch.
    pub batch: usize,
    /// Seconds of a batch.
    pub latency: Latency,
    /// Multiply-adds a sample that are executed, those with masked zeros included, where they are known.
    pub macs: Option<u64>,
    /// Bytes of parameters, running statistics and the integers of sparse layers, where they are known.
    pub bytes: Option<u64>,
}

/// Models against the first one, batch size by batch size. Prints as a table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencyTable {
    /// In the order in which they were measured; the first row of each batch size is what the others are compared with.
    pub rows: Vec<LatencyRow>,
}

impl LatencyTable {
    /// Measures models in turn on each of the inputs, which may be batches of several sizes.
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_core::SfpModule;
    /// use burn_sfp_core::latency::{LatencyConfig, LatencyTable};
    /// # #[derive(Module, Debug)]
    /// # struct Mlp { a: Linear, b: Linear }
    /// # impl SfpModule for Mlp {
    /// #     type Input = Tensor<2>;
    /// #     fn logits(&self, x: Tensor<2>) -> Tensor<2> { self.b.forward(self.a.forward(x)) }
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
    /// # Ok::<(), burn_sfp_core::SfpError>(())
    /// ```
    ///
    /// # Errors
    /// As [`forward`].
    pub fn measure<M: GraphModule>(
        models: &[(&str, &M)],
        inputs: &[M::Inputs],
        config: &LatencyConfig,
    ) -> Result<Self, SfpError> {
        let mut rows = Vec::new();
        for inputs in inputs {
            let runs: Vec<_> = models.iter().map(|(_, model)| || forward(*model, inputs)).collect();
            let runs: Vec<&dyn Fn() -> Result<(), SfpError>> = runs.iter().map(|run| run as _).collect();
            let latencies = compare(config, &runs)?;
            rows.extend(models.iter().zip(latencies).map(|((name, model), latency)| {
                let cost = Cost::of(*model, inputs).ok();
                LatencyRow {
                    model: name.to_string(),
                    batch: inputs.samples(),
                    latency,
                    macs: cost.map(|cost| cost.macs),
                    bytes: cost.map(|cost| cost.bytes),
                }
            }));
        }
        Ok(Self { rows })
    }

    /// Median of the first row of the same batch size over the median of this one.
    pub fn speedup(&self, row: &LatencyRow) -> Option<f64> {
        let first = self.rows.iter().find(|first| first.batch == row.batch)?;
        Some(first.latency.median / row.latency.median)
    }
}

impl fmt::Display for LatencyTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|row| row.model.chars().count()).chain([5]).max().unwrap_or_default();
        write!(f, "{:<width$} {:>6} {:>12} {:>12} {:>12}", "model", "batch", "median ms", "min ms", "max ms")?;
        writeln!(f, " {:>9} {:>12} {:>12}", "speed-up", "M MACs", "MB")?;
        let known = |number: Option<u64>, digits: usize| {
            number.map_or_else(|| "-".to_string(), |number| format!("{:.digits$}", 1e-6 * number as f64))
        };
        for row in &self.rows {
            let Latency { median, min, max } = row.latency;
            write!(f, "{:<width$} {:>6}", row.model, row.batch)?;
            write!(f, " {:>12.3} {:>12.3} {:>12.3}", 1e3 * median, 1e3 * min, 1e3 * max)?;
            let speedup = self.speedup(row).unwrap_or(f64::NAN);
            writeln!(f, " {:>8.2}x {:>12} {:>12}", speedup, known(row.macs, 2), known(row.bytes, 3))?;
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
