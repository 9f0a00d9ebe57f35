//! Folding of batch normalisations into the layers before them, for inference.
//!
//! In evaluation mode a batch normalisation is `scale * x + shift` channel by channel, with
//! `scale = gamma / sqrt(variance + epsilon)` and `shift = beta - mean * scale` (Jacob et al., "Quantization and Training of Neural
//! Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018, section 3.2). A layer `W x + b` before it computes the same
//! with `scale * W` and `scale * b + shift`.

use std::collections::{BTreeMap, HashMap};

use burn::module::Param;
use burn::tensor::{Tensor, TensorData};
use burn_sfp_graph::GraphModule;
use burn_sfp_graph::{BatchNormalization, Layer, Network};
use burn_sfp_nn::walk::{ParamMapper, ParamPath, ShapeIds, map_params};
use burn_sfp_nn::{NnLayer, recognize};

use crate::PruneError;
use crate::rewrite::on_copy;

/// A module whose batch normalisations are folded into the layers before them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Folded<M> {
    /// The module, of the user's own type.
    pub model: M,
    /// The batch normalisations that were folded, in the order in which they run.
    pub folded: Vec<FoldedNorm>,
    /// The batch normalisations that were left as they are, in the order in which they run.
    pub kept: Vec<KeptNorm>,
}

/// A batch normalisation that was folded into a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FoldedNorm {
    /// Module path of the normalisation.
    pub path: String,
    /// Module path of the layer.
    pub layer: String,
    /// Whether the normalisation still adds the shift, because the layer has no bias.
    pub shifts: bool,
}

/// A batch normalisation that was left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeptNorm {
    /// Module path of the normalisation.
    pub path: String,
    /// Why it could not be folded.
    pub reason: String,
}

/// Returns the model with its batch normalisations folded into the convolutions and linear layers before them, where that is exact:
/// nothing but the normalisation reads the layer's output, and weight, bias and running statistics are used nowhere else.
///
/// The outputs of the result equal those of the model in evaluation mode, to rounding. The model itself is not changed.
///
/// A folded normalisation becomes the identity (gamma 1, beta 0, mean 0, variance 1 - epsilon). Behind a layer without bias it keeps
/// the shift, as its beta. Burn's `BatchNorm` computes the identity at the cost of any other normalisation;
/// [`FoldBatchNorm`](burn_sfp_nn::FoldBatchNorm), made from it with `from`, computes nothing, or adds its beta.
///
/// The result is for inference: in training a normalisation takes the statistics of the batch, so train first and fold then. A model
/// that was in training (with autodiff) comes back in training; `valid()` on it gives the outputs above. Connection masks stay.
///
/// ```
/// use burn::prelude::*;
/// use burn::nn::conv::{Conv2d, Conv2dConfig};
/// use burn::nn::{BatchNorm, BatchNormConfig};
/// use burn_sfp_graph::GraphModule;
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
/// [`GraphError`](burn_sfp_graph::GraphError) if the model cannot be captured on these inputs.
pub fn fold_batch_norms<M: GraphModule>(model: &M, inputs: &M::Inputs) -> Result<Folded<M>, PruneError> {
    let network = Network::capture(model, inputs)?;
    let types = recognize(model);
    let (mut edits, mut folded, mut kept) = (HashMap::new(), Vec::new(), Vec::new());
    for norm in network.batch_norms() {
        match fold(&network, &norm, &types, &mut edits) {
            Ok(done) => folded.push(done),
            Err(reason) => kept.push(KeptNorm { path: norm.path, reason }),
        }
    }
    let model = on_copy(model, |copy| Ok(map_params(copy, &mut Rewrite { edits, ids: ShapeIds::default() })))?;
    Ok(Folded { model, folded, kept })
}

/// A change of one parameter.
enum Edit {
    /// Multiplication by these factors, laid out along the parameter's first two axes.
    Scale(Vec<f64>, [usize; 2]),
    /// Replacement by these values; by none where the parameter is given up.
    Replace(Vec<f64>),
}

/// Adds the edits that fold a normalisation, by the path of the parameter; or returns why it cannot be folded. `types` are the
/// layers of our own types.
fn fold(
    network: &Network,
    norm: &BatchNormalization,
    types: &BTreeMap<String, NnLayer>,
    edits: &mut HashMap<String, Edit>,
) -> Result<FoldedNorm, String> {
    let layer = &network.layers()[norm.layer.clone()?];
    if norm.epsilon >= 1.0 {
        return Err(format!("its epsilon is {}: with 1 or more it cannot be made the identity", norm.epsilon));
    }
    let (scale, shift) = scale_and_shift(network, norm, layer)?;
    let channels = scale.len();
    let mut edit = |parameter: usize, edit: Edit| edits.insert(network.parameters()[parameter].path.clone(), edit);
    // Our own layer leaves out what has no elements.
    let left_out = types.get(&norm.path) == Some(&NnLayer::FoldBatchNorm);
    let state = |value: f64| Edit::Replace(vec![value; if left_out { 0 } else { channels }]);
    edit(layer.weight(), scale_filters(&scale, layer));
    edit(norm.gamma, state(1.0));
    edit(norm.mean, state(0.0));
    edit(norm.variance, state(1.0 - norm.epsilon));
    match layer.bias() {
        Some(bias) => {
            edit(bias, Edit::Replace(shift));
            edit(norm.beta, state(0.0));
        }
        None => {
            edit(norm.beta, Edit::Replace(shift));
        }
    }
    Ok(FoldedNorm { path: norm.path.clone(), layer: layer.path.clone(), shifts: layer.bias().is_none() })
}

/// Returns the scale of the layer's weight and the shift that takes the place of its bias, channel by channel.
fn scale_and_shift(
    network: &Network,
    norm: &BatchNormalization,
    layer: &Layer,
) -> Result<(Vec<f64>, Vec<f64>), String> {
    let float_data = |parameter: usize| network.parameter_data_at(parameter).filter(|data| data.dtype().is_float());
    let values = |parameter: usize| {
        let quantised = || format!("`{}` is quantised", network.parameters()[parameter].path);
        Ok::<_, String>(float_data(parameter).ok_or_else(quantised)?.iter::<f64>().collect::<Vec<f64>>())
    };
    let (gamma, beta, mean) = (values(norm.gamma)?, values(norm.beta)?, values(norm.mean)?);
    let variance = values(norm.variance)?;
    if float_data(layer.weight()).is_none() {
        return Err(format!("the weight of layer `{}` is quantised", layer.path));
    }
    let bias = layer.bias().map(values).transpose()?;
    let scale: Vec<f64> = gamma.iter().zip(&variance).map(|(g, v)| g / (v + norm.epsilon).sqrt()).collect();
    let shift: Vec<f64> =
        (0..scale.len()).map(|k| beta[k] + scale[k] * (bias.as_ref().map_or(0.0, |bias| bias[k]) - mean[k])).collect();
    if !scale.iter().chain(&shift).all(|value| (*value as f32).is_finite()) {
        return Err("its statistics give no finite scale and shift".into());
    }
    Ok((scale, shift))
}

/// Returns the multiplication of each filter by its factor, laid out along the first two axes of the layer's weight.
fn scale_filters(scale: &[f64], layer: &Layer) -> Edit {
    let filters = scale.len();
    if layer.kind.output_axis() == 0 {
        return Edit::Scale(scale.to_vec(), [filters, 1]);
    }
    // `[in, out / groups]`: the row of an input holds the filters of its own group only.
    let (inputs, members) = if layer.groups == 1 { (1, filters) } else { (layer.inputs, filters / layer.groups) };
    let group = |input: usize| input * layer.groups / inputs;
    let rows = (0..inputs).flat_map(|input| scale[group(input) * members..][..members].iter().copied()).collect();
    Edit::Scale(rows, [inputs, members])
}

struct Rewrite {
    edits: HashMap<String, Edit>,
    ids: ShapeIds,
}

impl ParamMapper for Rewrite {
    fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(edit) = self.edits.get(&path.join()) else { return param };
        self.ids.map(param, |tensor| {
            let like = (&tensor.device(), tensor.dtype());
            match edit {
                Edit::Scale(factors, along) => {
                    let mut shape = [1; D];
                    shape[..2].copy_from_slice(along);
                    tensor * Tensor::from_data(TensorData::new(factors.clone(), shape), like)
                }
                Edit::Replace(values) => {
                    let shape = if values.is_empty() { [0; D] } else { tensor.dims() };
                    Tensor::from_data(TensorData::new(values.clone(), shape), like)
                }
            }
        })
    }
}
