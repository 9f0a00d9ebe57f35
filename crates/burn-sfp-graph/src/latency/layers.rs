//! [`LayerLatencies`]: how long each layer of a network takes at several widths, on the device that it is for.

use std::path::Path;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::measure::{Latency, LatencyConfig, measure_module};
use super::single::{Single, run_single};
use crate::file::{Format, load_json, save_json};
use crate::layers::layer::Layer;
use crate::{GraphError, GraphModule, Network, NoProgress, Progress};

/// The widths at which a layer is measured, as shares of its own.
const SHARES: [f64; 4] = [0.25, 0.5, 0.75, 1.0];

const FORMAT: Format = Format {
    name: "burn-sfp layer latencies",
    what: "a table of layers' latencies",
    version: 1,
    advice: "measure again",
};

/// Seconds of the layers of a network on one device at one size of batch: each kind of layer measured at 16 pairs of widths, and
/// interpolated between them (the table of HALP: Shen et al., "Structural Pruning via Latency-Saliency Knapsack", NeurIPS 2022, arXiv
/// 2210.06659).
///
/// Layers that have the same kind, kernel and input are measured once. What else a forward pass does (activations, sums, poolings, and layers
/// that cannot be run alone) is the rest of the whole model's time, and is taken to fall with the bytes of the activations.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::GraphModule;
/// use burn_sfp_graph::latency::{LatencyConfig, LayerLatencies};
/// # #[derive(Module, Debug)]
/// # struct Mlp { a: Linear, b: Linear }
/// # impl GraphModule for Mlp {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<2>) -> Tensor<2> { self.b.forward(self.a.forward(x)) }
/// # }
/// # let device = Device::flex();
/// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 3).init(&device) };
/// let table = LayerLatencies::measure(&mlp, &Tensor::ones([16, 4], &device), &LatencyConfig::new().with_runs(5))?;
/// assert_eq!((table.batch, table.layers.len()), (16, 2));
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("layers.json");
/// table.save(&path)?;
/// assert_eq!(LayerLatencies::load(&path)?, table);
/// # Ok::<(), burn_sfp_graph::GraphError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LayerLatencies {
    /// Samples in a batch.
    pub batch: usize,
    /// Seconds of a forward pass of the whole model.
    pub whole: f64,
    /// Seconds of the whole model that are not those of its layers.
    pub rest: f64,
    /// The different layers.
    pub layers: Vec<LayerLatency>,
}

/// Seconds of one kind of layer at several widths.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LayerLatency {
    /// What is measured.
    pub layer: Single,
    /// Numbers of inputs, ascending.
    pub inputs: Vec<usize>,
    /// Numbers of outputs, ascending.
    pub outputs: Vec<usize>,
    /// Seconds for each pair, those of a number of inputs in a row. More channels never take less.
    pub seconds: Vec<f64>,
}

impl LayerLatencies {
    /// Measures a model and its layers on a batch; only the shapes of the inputs count.
    ///
    /// # Errors
    /// Those of [`Network::capture`] and [`measure_module`].
    pub fn measure<M: GraphModule>(model: &M, inputs: &M::Inputs, config: &LatencyConfig) -> Result<Self, GraphError> {
        Self::measure_with(model, inputs, config, &NoProgress)
    }

    /// [`measure`](LayerLatencies::measure) with progress, a step for each different layer.
    ///
    /// # Errors
    /// Those of [`measure`](LayerLatencies::measure), and [`GraphError::Cancelled`] if the progress cancels.
    pub fn measure_with<M: GraphModule>(
        model: &M,
        inputs: &M::Inputs,
        config: &LatencyConfig,
        progress: &dyn Progress,
    ) -> Result<Self, GraphError> {
        let network = Network::capture(model, inputs)?;
        let whole = measure_module(model, inputs, config)?.median;
        Self::of_network(&network, whole, config, progress)
    }

    fn of_network(
        network: &Network,
        whole: f64,
        config: &LatencyConfig,
        progress: &dyn Progress,
    ) -> Result<Self, GraphError> {
        let mut different: Vec<Single> = Vec::new();
        for single in network.layers().iter().filter_map(Single::of) {
            if !different.contains(&single) {
                different.push(single);
            }
        }
        progress.start("layer latencies", Some(different.len()));
        let mut table = Self { batch: network.batch(), whole, rest: 0.0, layers: Vec::new() };
        for single in different {
            if progress.is_cancelled() {
                return Err(GraphError::Cancelled);
            }
            table.layers.extend(LayerLatency::measure(single, &network.device, config));
            progress.advance(1);
        }
        progress.finish();
        let sum: f64 = network.layers().iter().map(|layer| table.seconds(layer, layer.inputs, layer.filters)).sum();
        // Alone, layers may take longer than one after the other: then nothing is left for the rest.
        if sum > whole && sum > 0.0 {
            let times = whole / sum;
            table.layers.iter_mut().flat_map(|layer| &mut layer.seconds).for_each(|seconds| *seconds *= times);
        }
        table.rest = (whole - sum).max(0.0);
        Ok(table)
    }

    /// Returns the seconds of a layer at other widths, all calls together; 0 if it is none of the table's.
    pub fn seconds(&self, layer: &Layer, inputs: usize, outputs: usize) -> f64 {
        let Some(single) = Single::of(layer) else { return 0.0 };
        let found = self.layers.iter().find(|measured| measured.layer == single);
        found.map_or(0.0, |measured| layer.calls as f64 * measured.at(inputs, outputs))
    }

    /// Writes the table as JSON with a checksum. The file appears whole or not at all.
    ///
    /// # Errors
    /// [`GraphError::InvalidTable`] where [`check`](LayerLatencies::check) fails, [`GraphError::File`] where the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), GraphError> {
        self.check()?;
        Ok(save_json(path.as_ref(), &FORMAT, self)?)
    }

    /// Reads a table that [`save`](LayerLatencies::save) wrote.
    ///
    /// # Errors
    /// [`GraphError::File`] where the file is missing, truncated, damaged, foreign or of another version, [`GraphError::InvalidTable`]
    /// where [`check`](LayerLatencies::check) fails.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, GraphError> {
        let table: Self = load_json(path.as_ref(), &FORMAT)?;
        table.check()?;
        Ok(table)
    }

    /// Checks that all seconds are finite and at least 0, and that every layer has them for all its widths.
    ///
    /// # Errors
    /// [`GraphError::InvalidTable`] with the first layer that is wrong.
    pub fn check(&self) -> Result<(), GraphError> {
        let good = |seconds: &f64| *seconds >= 0.0 && seconds.is_finite();
        if !(good(&self.whole) && good(&self.rest) && self.batch > 0) {
            return Err(GraphError::InvalidTable("the seconds of the whole model are not finite".into()));
        }
        for (index, layer) in self.layers.iter().enumerate() {
            let ascends = |widths: &[usize]| !widths.is_empty() && widths.windows(2).all(|pair| pair[0] < pair[1]);
            let whole = layer.seconds.len() == layer.inputs.len() * layer.outputs.len();
            if !(ascends(&layer.inputs) && ascends(&layer.outputs) && whole && layer.seconds.iter().all(good)) {
                return Err(GraphError::InvalidTable(format!("the widths and seconds of layer {index} do not agree")));
            }
        }
        Ok(())
    }
}

impl LayerLatency {
    /// `None` where the layer cannot be run alone on this device.
    fn measure(single: Single, device: &Device, config: &LatencyConfig) -> Option<Self> {
        let of = |width: usize| {
            let mut widths: Vec<usize> =
                SHARES.iter().map(|share| ((share * width as f64).round() as usize).max(1)).collect();
            widths.dedup();
            widths
        };
        // The channels of a grouped convolution come and go with those of all groups; of a depthwise one both are the same.
        let (inputs, outputs) = (of(single.inputs), of(single.outputs));
        let mut seconds = Vec::new();
        for &from in &inputs {
            for &to in &outputs {
                let run = run_single(&single, from, to, device)?;
                // The shortest run is the one that nothing else disturbed.
                seconds.push(Latency::measure(config, run).ok()?.min);
            }
        }
        let mut measured = Self { layer: single, inputs, outputs, seconds };
        measured.ascend();
        Some(measured)
    }

    /// Lets no number of channels take less than a smaller one.
    fn ascend(&mut self) {
        let columns = self.outputs.len();
        for at in 0..self.seconds.len() {
            let (row, column) = (at / columns, at % columns);
            let above = if row > 0 { self.seconds[at - columns] } else { 0.0 };
            let before = if column > 0 { self.seconds[at - 1] } else { 0.0 };
            self.seconds[at] = self.seconds[at].max(above).max(before);
        }
    }

    /// Seconds of one call, interpolated linearly in both widths.
    fn at(&self, inputs: usize, outputs: usize) -> f64 {
        let ((row, down), (column, right)) = (place(&self.inputs, inputs), place(&self.outputs, outputs));
        let columns = self.outputs.len();
        let at = |row: usize, column: usize| {
            self.seconds[row.min(self.inputs.len() - 1) * columns + column.min(columns - 1)]
        };
        let along = |row: usize| at(row, column) * (1.0 - right) + at(row, column + 1) * right;
        along(row) * (1.0 - down) + along(row + 1) * down
    }
}

/// The last width that is no larger, and how far the way to the next one is gone. Below the first width it stays at the first.
fn place(widths: &[usize], width: usize) -> (usize, f64) {
    let above = widths.partition_point(|&other| other <= width);
    match (above.checked_sub(1), widths.get(above)) {
        (None, _) => (0, 0.0),
        (Some(last), None) => (last, 0.0),
        (Some(last), Some(&next)) => (last, (width - widths[last]) as f64 / (next - widths[last]) as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::kind::LayerKind;

    #[test]
    fn widths_between_those_measured_are_interpolated() {
        let layer = Single::linear(8, 4, 1);
        assert_eq!(layer.kind, LayerKind::Linear);
        let mut table = LayerLatency {
            layer,
            inputs: vec![2, 4, 8],
            outputs: vec![2, 4],
            seconds: vec![1.0, 2.0, 3.0, 5.0, 4.0, 9.0],
        };
        table.ascend();
        assert_eq!(table.at(4, 4), 5.0);
        assert_eq!(table.at(3, 3), (1.0 + 2.0 + 3.0 + 5.0) / 4.0);
        assert_eq!(table.at(6, 4), 7.0);
        // No fewer channels than measured take less, and no more take more.
        assert_eq!((table.at(1, 1), table.at(100, 100)), (1.0, 9.0));
        table.seconds[2] = 0.5;
        table.ascend();
        assert_eq!(table.seconds[2], 1.0);
    }
}
