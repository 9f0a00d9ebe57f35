//! Merging the analyses of disjoint shares of the data.

use std::collections::BTreeMap;

use ndarray::{Array2, Array3};

use super::check::total;
use super::finish::finish_layer;
use super::info::ReadoutInfo;
use super::layer::{LayerAnalysis, LayerState};
use super::result::{Analysis, Seconds};
use crate::SfpError;

/// Means over two shares of the samples.
#[derive(Clone, Copy)]
struct Shares {
    ours: f64,
    theirs: f64,
    all: f64,
}

impl Shares {
    fn mean(self, ours: f64, theirs: f64) -> f64 {
        (ours * self.ours + theirs * self.theirs) / self.all
    }
}

fn refuse<T>(message: impl Into<String>) -> Result<T, SfpError> {
    Err(SfpError::Merge(message.into()))
}

impl Analysis {
    /// Merges this analysis with that of another share of the data; both made with the same model and settings and with
    /// [`AnalyzeConfig::with_state`](crate::AnalyzeConfig::with_state). Class sums and normal equations add up, so the result is
    /// that of one analysis of all samples, up to the rounding of a double-precision sum.
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_graph::GraphModule;
    /// # use burn_sfp_core::{AnalyzeConfig, TensorCalibration, analyze};
    /// # #[derive(Module, Debug)]
    /// # struct Mlp { a: Linear, b: Linear }
    /// # impl GraphModule for Mlp {
    /// #     type Inputs = Tensor<2>;
    /// #     type Outputs = Tensor<2>;
    /// #     fn run(&self, x: Tensor<2>) -> Tensor<2> {
    /// #         self.b.forward(burn::tensor::activation::relu(self.a.forward(x)))
    /// #     }
    /// # }
    /// # let device = Device::flex();
    /// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 2).init(&device) };
    /// # let share = |k: i32| TensorCalibration::new(Tensor::<2>::ones([4, 4], &device) * k, vec![0, 1, 0, 1], 2);
    /// let config = AnalyzeConfig::new().with_state(true);
    /// let first = analyze(&mlp, &share(1), &config)?;
    /// let second = analyze(&mlp, &share(2), &config)?;
    /// let both = first.merge(&second)?;
    /// assert_eq!(both.samples, 8);
    /// # Ok::<(), burn_sfp_core::SfpError>(())
    /// ```
    ///
    /// # Errors
    /// [`SfpError::Merge`] where the model, its weights, settings or readouts differ or the state was not kept,
    /// [`SfpError::InvalidAnalysis`] where one of the two contradicts itself.
    pub fn merge(&self, other: &Analysis) -> Result<Analysis, SfpError> {
        self.check()?;
        other.check()?;
        self.check_comparable(other)?;
        let counts = self.counts.iter().zip(&other.counts).map(|(a, b)| a.checked_add(*b));
        let counts = counts.collect::<Option<Vec<u64>>>().filter(|counts| total(counts).is_some());
        let Some(counts) = counts else { return refuse("together they count more samples than fit into 64 bits") };
        let all: u64 = counts.iter().sum();
        let shares = Shares { ours: self.samples as f64, theirs: other.samples as f64, all: all as f64 };
        let top1 = shares.mean(self.top1, other.top1);
        let mut layers = Vec::with_capacity(self.layers.len());
        for (ours, theirs) in self.layers.iter().zip(&other.layers) {
            let state = merge_states(ours, theirs, top1, shares)?;
            layers.push(finish_layer(state, &counts, self.threshold, true, None, &mut Seconds::default())?.0);
        }
        let input_means = merge_input_means(&self.input_means, &other.input_means, shares)?;
        let model = (self.model.clone(), self.fingerprint.clone());
        let merged = Analysis::new(self.threshold, counts, top1, layers, input_means, model, Seconds::default());
        merged.check()?;
        Ok(merged)
    }

    fn check_comparable(&self, other: &Analysis) -> Result<(), SfpError> {
        if self.model != other.model {
            return refuse("they were made for models with other parameters");
        }
        if let Some(parameter) = self.fingerprint.difference(&other.fingerprint) {
            return refuse(format!(
                "they were made with two checkpoints of the model: parameter `{parameter}` has other values; analyse all \
                 shares of the data with the same weights"
            ));
        }
        if self.threshold != other.threshold || self.classes != other.classes {
            return refuse("their thresholds or numbers of classes differ");
        }
        if !self.layers.iter().map(|layer| &layer.path).eq(other.layers.iter().map(|layer| &layer.path)) {
            return refuse("they cover different layers");
        }
        Ok(())
    }
}

/// Adds the sums of two shares and determines the readout of both together.
fn merge_states(
    ours: &LayerAnalysis,
    theirs: &LayerAnalysis,
    top1: f64,
    shares: Shares,
) -> Result<LayerState, SfpError> {
    let (Some(a), Some(b)) = (&ours.state, &theirs.state) else {
        return refuse(format!("layer `{}` kept no state; analyse with `with_state(true)`", ours.path));
    };
    if a.sums.dim() != b.sums.dim() || a.grid != b.grid {
        return refuse(format!("layer `{}` was read on different grids", ours.path));
    }
    let accuracy = ours.readout.accuracy().zip(theirs.readout.accuracy()).map(|(x, y)| shares.mean(x, y));
    let merged = merge_readouts(ours, a, b, &theirs.readout, top1, accuracy)?;
    Ok(LayerState {
        path: ours.path.clone(),
        kind: ours.kind,
        grid: a.grid.clone(),
        sums: &a.sums + &b.sums,
        gram: merged.gram,
        readout: merged.readout,
        info: merged.info,
    })
}

/// A readout that is common to two shares, or the normal equations that it follows from.
struct MergedReadout {
    info: ReadoutInfo,
    readout: Option<Array3<f32>>,
    gram: Option<Array2<f64>>,
}

fn merge_readouts(
    ours: &LayerAnalysis,
    a: &LayerState,
    b: &LayerState,
    theirs: &ReadoutInfo,
    top1: f64,
    accuracy: Option<f64>,
) -> Result<MergedReadout, SfpError> {
    let path = &ours.path;
    let common = |info| MergedReadout { info, readout: a.readout.clone(), gram: None };
    match (&ours.readout, theirs) {
        (ReadoutInfo::Classifier { .. }, ReadoutInfo::Classifier { .. }) if a.readout != b.readout => {
            refuse(format!("layer `{path}`: the classifiers differ"))
        }
        (ReadoutInfo::Classifier { .. }, ReadoutInfo::Classifier { .. }) => {
            Ok(common(ReadoutInfo::Classifier { accuracy: top1 }))
        }
        (ReadoutInfo::Ridge { strength: x, .. }, ReadoutInfo::Ridge { strength: y, .. }) if x == y => {
            let (Some(first), Some(second)) = (&a.gram, &b.gram) else {
                return refuse(format!("layer `{path}` kept no normal equations"));
            };
            let info = ReadoutInfo::Ridge { strength: *x, accuracy: None };
            Ok(MergedReadout { info, readout: None, gram: Some(first + second) })
        }
        _ if a.readout.is_some() && a.readout == b.readout => Ok(common(shared_readout(&ours.readout, accuracy))),
        _ => refuse(format!(
            "layer `{path}` has readouts that differ; hand the first analysis's readouts over with `Readout::Given`"
        )),
    }
}

/// Provenance of a readout that both shares used, with its accuracy on both.
fn shared_readout(ours: &ReadoutInfo, measured: Option<f64>) -> ReadoutInfo {
    let mut info = match ours {
        // The other share was given it: it follows from the normal equations of this share alone.
        fitted @ ReadoutInfo::Ridge { .. } => ReadoutInfo::Given { from: Box::new(fitted.clone()), accuracy: None },
        readout => readout.clone(),
    };
    if let ReadoutInfo::Given { accuracy, .. } | ReadoutInfo::Gradient { accuracy, .. } = &mut info {
        *accuracy = measured;
    }
    info
}

fn merge_input_means(
    ours: &BTreeMap<String, Vec<f32>>,
    theirs: &BTreeMap<String, Vec<f32>>,
    shares: Shares,
) -> Result<BTreeMap<String, Vec<f32>>, SfpError> {
    let mut merged = ours.clone();
    for (path, ours) in &mut merged {
        let Some(theirs) = theirs.get(path) else {
            return refuse(format!("one of them has no input means of layer `{path}`"));
        };
        if theirs.len() != ours.len() {
            return refuse(format!("their input means of layer `{path}` differ in length"));
        }
        for (a, b) in ours.iter_mut().zip(theirs) {
            *a = shares.mean(f64::from(*a), f64::from(*b)) as f32;
        }
    }
    Ok(merged)
}
