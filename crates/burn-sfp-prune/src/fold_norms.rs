//! Batch normalisations folded into the layers before them, for inference.
//!
//! In evaluation mode a batch normalisation is `scale * x + shift` channel by channel, with `scale = gamma / sqrt(variance + epsilon)`
//! and `shift = beta - mean * scale` (Jacob et al., "Quantization and Training of Neural Networks for Efficient
//! Integer-Arithmetic-Only Inference", CVPR 2018, section 3.2). A layer `W x + b` before it does that itself with `scale * W` and
//! `scale * b + shift`.

use std::collections::HashMap;

use burn::module::{ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};
use burn_sfp_core::GraphModule;
use burn_sfp_core::network::{BatchNormalization, Layer, Network};

use crate::PruneError;
use crate::rewrite::in_training;

/// A module whose layers have taken in the batch normalisations behind them.
#[derive(Clone, Debug)]
pub struct Folded<M> {
    /// The module, of the user's own type and with parameters of the same shapes.
    pub model: M,
    /// What was folded, in the order in which it runs.
    pub folded: Vec<FoldedNorm>,
    /// What was left alone.
    pub kept: Vec<KeptNorm>,
}

/// A batch normalisation whose work a layer does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoldedNorm {
    /// Module path.
    pub path: String,
    /// Module path of the layer that does its work.
    pub layer: String,
    /// Whether the layer has no bias that could take the shift: the normalisation still adds it then.
    pub shifts: bool,
}

/// A batch normalisation that works as before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptNorm {
    /// Module path.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// Folds batch normalisations into the convolutions and linear layers before them, where that is exact: the layer's output is
/// read by the normalisation alone, and weight, bias and running statistics serve nothing else. The outputs of the result equal
/// those of the original in evaluation mode, to rounding. The original is not changed.
///
/// The normalisation becomes the identity (gamma 1, beta 0, mean 0, variance 1 - epsilon). Behind a layer without bias it keeps the
/// shift, as its beta. Burn's `BatchNorm` does the same work for that as before;
/// [`FoldBatchNorm`](burn_sfp_core::nn::FoldBatchNorm), made from it with `from`, does none, or adds its beta.
///
/// For inference: in training a normalisation takes the statistics of the batch, so train first and fold then. A model that was in
/// training (autodiff) comes back in training; `valid()` on it gives the outputs above. Connection masks stay.
///
/// ```
/// use burn::prelude::*;
/// use burn::nn::conv::{Conv2d, Conv2dConfig};
/// use burn::nn::{BatchNorm, BatchNormConfig};
/// use burn_sfp_core::GraphModule;
/// use burn_sfp_prune::fold_batch_norms;
///
/// #[derive(Module, Debug)]
/// struct Block { conv: Conv2d, norm: BatchNorm }
///
/// impl GraphModule for Block {
///     type Inputs = Tensor<4>;
///     type Outputs = Tensor<4>;
///     fn run(&self, x: Tensor<4>) -> Tensor<4> { self.norm.forward(self.conv.forward(x)) }
/// }
/// let device = Device::flex();
/// let block = Block {
///     conv: Conv2dConfig::new([3, 8], [3, 3]).init(&device),
///     norm: BatchNormConfig::new(8).init(&device),
/// };
/// let x = Tensor::<4>::ones([1, 3, 5, 5], &device);
/// let folded = fold_batch_norms(&block, &x)?;
/// assert_eq!((folded.folded[0].path.as_str(), folded.folded[0].layer.as_str()), ("norm", "conv"));
/// assert!((folded.model.run(x.clone()) - block.run(x)).abs().max().into_scalar::<f32>() < 1e-5);
/// # Ok::<(), burn_sfp_prune::PruneError>(())
/// ```
///
/// # Errors
/// [`SfpError`](burn_sfp_core::SfpError) where the model cannot be captured on these inputs.
pub fn fold_batch_norms<M: GraphModule>(model: &M, inputs: &M::Inputs) -> Result<Folded<M>, PruneError> {
    let network = Network::capture(model, inputs)?;
    let (mut edits, mut folded, mut kept) = (HashMap::new(), Vec::new(), Vec::new());
    for norm in network.batch_norms() {
        match fold(&network, &norm, &mut edits) {
            Ok(done) => folded.push(done),
            Err(reason) => kept.push(KeptNorm { path: norm.path, reason }),
        }
    }
    // Real copies of running statistics, on plain tensors: nothing written below reaches the original.
    let copy = model.valid().map(&mut Rewrite { path: Vec::new(), edits });
    Ok(Folded { model: if in_training(model) { copy.train() } else { copy }, folded, kept })
}

/// What happens to a parameter.
enum Edit {
    /// Multiplied by these numbers, laid out along its first two axes.
    Scale(Vec<f32>, [usize; 2]),
    /// Other numbers; none for a state that is given up.
    Replace(Vec<f32>),
}

fn fold(network: &Network, norm: &BatchNormalization, edits: &mut HashMap<String, Edit>) -> Result<FoldedNorm, String> {
    let layer = &network.layers()[norm.layer.clone()?];
    if norm.epsilon >= 1.0 {
        return Err(format!("its epsilon is {}: with 1 or more it cannot be made the identity", norm.epsilon));
    }
    let numbers = |parameter: usize| {
        let data = network.parameter_data_at(parameter).filter(|data| data.dtype().is_float());
        let data = data.ok_or_else(|| format!("`{}` is quantised", network.parameters()[parameter].path))?;
        Ok::<_, String>(data.iter::<f64>().collect::<Vec<f64>>())
    };
    let (gamma, beta, mean) = (numbers(norm.gamma)?, numbers(norm.beta)?, numbers(norm.mean)?);
    let variance = numbers(norm.variance)?;
    if !network.parameter_data_at(layer.weight()).is_some_and(|data| data.dtype().is_float()) {
        return Err(format!("the weight of layer `{}` is quantised", layer.path));
    }
    let scale: Vec<f64> = gamma.iter().zip(&variance).map(|(g, v)| g / (v + norm.epsilon).sqrt()).collect();
    let bias = layer.bias().map(numbers).transpose()?;
    let shift: Vec<f32> = (0..scale.len())
        .map(|k| (beta[k] + scale[k] * (bias.as_ref().map_or(0.0, |bias| bias[k]) - mean[k])) as f32)
        .collect();
    if !scale.iter().all(|scale| (*scale as f32).is_finite()) || !shift.iter().all(|shift| shift.is_finite()) {
        return Err("its statistics give no finite scale and shift".into());
    }

    let parameter = |index: usize| network.parameters()[index].path.clone();
    edits.insert(parameter(layer.weight()), along_filters(&scale, layer));
    let channels = scale.len();
    // The drop-in of this project leaves out what has no numbers.
    let left_out = network.parameters()[norm.gamma].container == "FoldBatchNorm";
    let state = |value: f32| Edit::Replace(vec![value; if left_out { 0 } else { channels }]);
    edits.insert(parameter(norm.gamma), state(1.0));
    edits.insert(parameter(norm.mean), state(0.0));
    edits.insert(parameter(norm.variance), state((1.0 - norm.epsilon) as f32));
    match layer.bias() {
        Some(bias) => {
            edits.insert(parameter(bias), Edit::Replace(shift));
            edits.insert(parameter(norm.beta), state(0.0));
        }
        None => {
            edits.insert(parameter(norm.beta), Edit::Replace(shift));
        }
    }
    Ok(FoldedNorm { path: norm.path.clone(), layer: layer.path.clone(), shifts: layer.bias().is_none() })
}

/// A factor for each filter, laid out along the first two axes of the layer's weight.
fn along_filters(scale: &[f64], layer: &Layer) -> Edit {
    let scale: Vec<f32> = scale.iter().map(|scale| *scale as f32).collect();
    let filters = scale.len();
    if layer.kind.output_axis() == 0 {
        return Edit::Scale(scale, [filters, 1]);
    }
    // `[in, out / groups]`: an input only knows the filters of its own group.
    let (inputs, members) = if layer.groups == 1 { (1, filters) } else { (layer.inputs, filters / layer.groups) };
    let group = |input: usize| input * layer.groups / inputs;
    let rows = (0..inputs).flat_map(|input| scale[group(input) * members..][..members].iter().copied()).collect();
    Edit::Scale(rows, [inputs, members])
}

struct Rewrite {
    path: Vec<String>,
    edits: HashMap<String, Edit>,
}

impl ModuleMapper for Rewrite {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(edit) = self.edits.get(&self.path.join(".")) else { return param };
        param.map(|tensor| {
            let like = (&tensor.device(), tensor.dtype());
            match edit {
                Edit::Scale(factors, along) => {
                    let mut shape = [1; D];
                    shape[..2].copy_from_slice(along);
                    tensor * Tensor::from_data(TensorData::new(factors.clone(), shape), like)
                }
                Edit::Replace(numbers) => {
                    let shape = if numbers.is_empty() { [0; D] } else { tensor.dims() };
                    Tensor::from_data(TensorData::new(numbers.clone(), shape), like)
                }
            }
        })
    }
}
