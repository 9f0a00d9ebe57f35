//! Two analyses of disjoint shares of the data become the analysis of all of it.

use super::{Analysis, LayerState, ReadoutInfo, Seconds, finish_layer};
use crate::SfpError;

impl Analysis {
    /// Merges with the analysis of another share of the data, made with the same model and settings and with
    /// [`AnalyzeConfig::with_state`](crate::AnalyzeConfig::with_state). Class sums and normal equations add up, so the
    /// result is that of one analysis of all samples, to the rounding of a double-precision sum.
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_core::{AnalyzeConfig, SfpModule, TensorCalibration, analyze};
    /// # #[derive(Module, Debug)]
    /// # struct Mlp { a: Linear, b: Linear }
    /// # impl SfpModule for Mlp {
    /// #     type Input = Tensor<2>;
    /// #     fn logits(&self, x: Tensor<2>) -> Tensor<2> {
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
    /// [`SfpError::Merge`] where model, settings or readouts differ or the state was not kept.
    pub fn merge(&self, other: &Analysis) -> Result<Analysis, SfpError> {
        let differ = |what: &str| Err(SfpError::Merge(what.to_string()));
        if self.model != other.model {
            return differ("they were made for models with other parameters");
        }
        if self.threshold != other.threshold || self.classes != other.classes {
            return differ("their thresholds or numbers of classes differ");
        }
        let paths = |analysis: &Analysis| analysis.layers.iter().map(|layer| layer.path.clone()).collect::<Vec<_>>();
        if paths(self) != paths(other) {
            return differ("they cover different layers");
        }
        let counts: Vec<u64> = self.counts.iter().zip(&other.counts).map(|(a, b)| a + b).collect();
        let samples: u64 = counts.iter().sum();
        let weighted = |a: f64, b: f64| (a * self.samples as f64 + b * other.samples as f64) / samples as f64;
        let top1 = weighted(self.top1, other.top1);
        let mut layers = Vec::with_capacity(self.layers.len());
        for (ours, theirs) in self.layers.iter().zip(&other.layers) {
            let (Some(a), Some(b)) = (&ours.state, &theirs.state) else {
                return differ(&format!("layer `{}` kept no state; analyse with `with_state(true)`", ours.path));
            };
            if a.sums.dim() != b.sums.dim() || a.grid != b.grid {
                return differ(&format!("layer `{}` was read on different grids", ours.path));
            }
            let (info, readout, gram) = match (&ours.readout, &theirs.readout) {
                (ReadoutInfo::Classifier { .. }, ReadoutInfo::Classifier { .. }) => {
                    if a.readout != b.readout {
                        return differ(&format!("layer `{}`: the classifiers differ", ours.path));
                    }
                    (ReadoutInfo::Classifier { accuracy: top1 }, a.readout.clone(), None)
                }
                (ReadoutInfo::Ridge { strength: x, .. }, ReadoutInfo::Ridge { strength: y, .. }) if x == y => {
                    let (Some(first), Some(second)) = (&a.gram, &b.gram) else {
                        return differ(&format!("layer `{}` kept no normal equations", ours.path));
                    };
                    (ReadoutInfo::Ridge { strength: *x, accuracy: None }, None, Some(first + second))
                }
                _ if a.readout.is_some() && a.readout == b.readout => {
                    let accuracy = match (ours.readout.accuracy(), theirs.readout.accuracy()) {
                        (Some(x), Some(y)) => Some(weighted(x, y)),
                        _ => None,
                    };
                    let mut info = match &ours.readout {
                        // Handed over to the other share: it follows from this share's normal equations alone.
                        fitted @ ReadoutInfo::Ridge { .. } => {
                            ReadoutInfo::Given { from: Box::new(fitted.clone()), accuracy: None }
                        }
                        readout => readout.clone(),
                    };
                    if let ReadoutInfo::Given { accuracy: slot, .. } | ReadoutInfo::Gradient { accuracy: slot, .. } =
                        &mut info
                    {
                        *slot = accuracy;
                    }
                    (info, a.readout.clone(), None)
                }
                _ => {
                    return differ(&format!(
                        "layer `{}` has readouts that differ; hand the first analysis's readouts over with `Readout::Given`",
                        ours.path
                    ));
                }
            };
            let state = LayerState {
                path: ours.path.clone(),
                kind: ours.kind,
                grid: a.grid.clone(),
                sums: &a.sums + &b.sums,
                gram,
                readout,
                info,
            };
            layers.push(finish_layer(state, &counts, self.threshold, true, None, &mut Seconds::default())?.0);
        }
        let mut input_means = self.input_means.clone();
        for (path, ours) in &mut input_means {
            let Some(theirs) = other.input_means.get(path) else {
                return differ(&format!("one of them has no input means of layer `{path}`"));
            };
            for (a, b) in ours.iter_mut().zip(theirs) {
                *a = weighted(f64::from(*a), f64::from(*b)) as f32;
            }
        }
        Ok(Analysis::new(self.threshold, counts, top1, layers, input_means, self.model.clone(), Seconds::default()))
    }
}
