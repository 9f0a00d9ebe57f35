//! [`LayerLatencies`]: how long each layer of a network takes at several widths, on the device that it is for.

use std::path::Path;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::in_place::layer_seconds;
use super::measure::{Latency, LatencyConfig, measure_module};
use super::single::{Single, run_single};
use super::smooth::smoothed;
use crate::cost::activations::RunningActivations;
use crate::file::{Format, load_json, save_json};
use crate::layers::layer::Layer;
use crate::{GraphError, GraphModule, Network, NoProgress, Progress};

/// The widths at which a layer is measured, as shares of its own.
const SHARES: [f64; 5] = [0.0625, 0.25, 0.5, 0.75, 1.0];

const FORMAT: Format = Format {
    name: "burn-sfp layer latencies",
    what: "a table of layers' latencies",
    version: 1,
    advice: "measure again",
};

/// Seconds of the layers of a network on one device at one size of batch: each kind of layer measured at 25 pairs of widths, and
/// interpolated between them (the table of HALP: Shen et al., "Structural Pruning via Latency-Saliency Knapsack", NeurIPS 2022, arXiv
/// 2210.06659).
///
/// Where the seconds of a layer follow from a call, its inputs, its outputs and their product to 15 %, that function takes the place of the
/// measurements, whose differences say little about one channel. Layers that have the same kind, kernel and input are measured once. What else a forward pass does (activations, sums, poolings, and layers
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
        // Alone, a layer has its weight in the cache, which it does not in a forward pass.
        Ok(table.refined(network, network, [whole; 2], config))
    }

    /// Returns the table as a smaller model shows it: each kind of layer is measured in that model's forward pass and scaled to that, and the
    /// rest is what remains of the seconds of the whole smaller model. Where the device runs no operations one by one, everything is
    /// scaled alike.
    ///
    /// `network` is the one that the table is of, and `seconds` are those of its model and of the smaller one, measured in turn. Layers are
    /// known by their paths; those that are not found are left as they are.
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_graph::{GraphModule, Network};
    /// use burn_sfp_graph::latency::{LatencyConfig, LayerLatencies, compare, forward};
    /// # #[derive(Module, Debug)]
    /// # struct Mlp { a: Linear, b: Linear }
    /// # impl GraphModule for Mlp {
    /// #     type Inputs = Tensor<2>;
    /// #     type Outputs = Tensor<2>;
    /// #     fn run(&self, x: Tensor<2>) -> Tensor<2> { self.b.forward(self.a.forward(x)) }
    /// # }
    /// # let device = Device::flex();
    /// # let mlp = |width| Mlp { a: LinearConfig::new(4, width).init(&device), b: LinearConfig::new(width, 3).init(&device) };
    /// let (whole, smaller, x) = (mlp(8), mlp(6), Tensor::ones([16, 4], &device));
    /// let config = LatencyConfig::new().with_runs(5);
    /// let table = LayerLatencies::measure(&whole, &x, &config)?;
    /// let both = compare(&config, &[&|| forward(&whole, &x), &|| forward(&smaller, &x)])?;
    /// let [network, smaller] = [Network::capture(&whole, &x)?, Network::capture(&smaller, &x)?];
    /// let refined = table.refined(&network, &smaller, [both[0].median, both[1].median], &config);
    /// assert_eq!(refined.whole, both[0].median);
    /// # Ok::<(), burn_sfp_graph::GraphError>(())
    /// ```
    pub fn refined(&self, network: &Network, smaller: &Network, seconds: [f64; 2], config: &LatencyConfig) -> Self {
        let pairs: Vec<(&Layer, &Layer)> = network
            .layers()
            .iter()
            .filter_map(|layer| Some((layer, smaller.layer(&layer.path).filter(|other| other.calls > 0)?)))
            .collect();
        let foreseen: Vec<f64> =
            pairs.iter().map(|(layer, other)| self.seconds(layer, other.inputs, other.filters)).collect();
        let activations = |network: &Network| RunningActivations::of(network).total().max(1) as f64;
        let remaining = activations(smaller) / activations(network);
        let found = layer_seconds(smaller, config).ok().map(|all| {
            let place = |other: &Layer| smaller.layers().iter().position(|layer| layer.path == other.path);
            let of = |(_, other): &(&Layer, &Layer)| place(other).map_or(0.0, |index| all[index]);
            pairs.iter().map(of).collect::<Vec<f64>>()
        });
        let kinds: Vec<Option<usize>> = pairs.iter().map(|(layer, _)| self.place_of(layer)).collect();
        Self { whole: seconds[0], ..self.scaled(&kinds, &foreseen, found.as_deref(), seconds[1], remaining) }
    }

    /// Scales kinds of layers, given for each layer, from what was foreseen to what was found. `seconds` are those of the whole smaller model,
    /// whose activations take the share `remaining`.
    fn scaled(
        &self,
        kinds: &[Option<usize>],
        foreseen: &[f64],
        found: Option<&[f64]>,
        seconds: f64,
        remaining: f64,
    ) -> Self {
        let mut table = self.clone();
        let of_kind = |kind: usize, seconds: &[f64]| -> f64 {
            kinds.iter().zip(seconds).filter(|(known, _)| **known == Some(kind)).map(|(_, seconds)| seconds).sum()
        };
        let whole_of = |seconds: &[f64]| (0..self.layers.len()).map(|kind| of_kind(kind, seconds)).sum::<f64>();
        let Some(found) = found else {
            let before = whole_of(foreseen) + self.rest * remaining;
            let times = if before > 0.0 { seconds / before } else { 1.0 };
            table.layers.iter_mut().flat_map(|layer| &mut layer.seconds).for_each(|seconds| *seconds *= times);
            table.rest *= times;
            return table;
        };
        // One by one, operations may take longer than all together: then nothing is left for the rest.
        let sum = whole_of(found);
        let all = if sum > seconds { seconds / sum } else { 1.0 };
        for (kind, layer) in table.layers.iter_mut().enumerate() {
            let (before, after) = (of_kind(kind, foreseen), of_kind(kind, found));
            if before > 0.0 && after > 0.0 {
                layer.seconds.iter_mut().for_each(|seconds| *seconds *= all * after / before);
            }
        }
        table.rest = (seconds - sum).max(0.0) / remaining;
        table
    }

    fn place_of(&self, layer: &Layer) -> Option<usize> {
        let single = Single::of(layer)?;
        self.layers.iter().position(|measured| measured.layer == single)
    }

    /// Returns the seconds of a layer at other widths, all calls together; 0 if it is none of the table's.
    pub fn seconds(&self, layer: &Layer, inputs: usize, outputs: usize) -> f64 {
        self.place_of(layer).map_or(0.0, |place| layer.calls as f64 * self.layers[place].at(inputs, outputs))
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
        if let Some(smooth) = smoothed(&inputs, &outputs, &seconds) {
            return Some(Self { layer: single, inputs, outputs, seconds: smooth });
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

    /// Two kinds of layers, the first one twice in the network, and what else there is.
    #[test]
    fn tables_are_scaled_to_what_was_found() {
        let kind = |width: usize| LayerLatency {
            layer: Single::linear(width, width, 1),
            inputs: vec![width],
            outputs: vec![width],
            seconds: vec![2.0],
        };
        let table = LayerLatencies { batch: 1, whole: 8.0, rest: 2.0, layers: vec![kind(1), kind(2), kind(3)] };
        let kinds = [Some(0), Some(1), Some(0), None];
        let (foreseen, found) = ([1.0, 2.0, 3.0, 9.0], [2.0, 1.0, 4.0, 9.0]);
        let scaled = table.scaled(&kinds, &foreseen, Some(&found), 10.0, 0.5);
        let seconds: Vec<f64> = scaled.layers.iter().map(|layer| layer.seconds[0]).collect();
        assert_eq!((seconds, scaled.rest, scaled.whole), (vec![3.0, 1.0, 2.0], 6.0, 8.0));
        // One by one the layers take 7 seconds, all together 3.5.
        let scaled = table.scaled(&kinds, &foreseen, Some(&found), 3.5, 0.5);
        assert_eq!((scaled.layers[0].seconds[0], scaled.rest), (1.5, 0.0));
        // Of a device that runs no operations, only the sum is known: 7 seconds were foreseen.
        let scaled = table.scaled(&kinds, &foreseen, None, 14.0, 0.5);
        assert_eq!((scaled.layers[0].seconds[0], scaled.rest), (4.0, 4.0));
    }

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
