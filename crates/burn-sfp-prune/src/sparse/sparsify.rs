//! [`sparsify`]: from a dense or masked model to a sparse one.

use std::collections::BTreeMap;

use burn_sfp_graph::GraphModule;
use burn_sfp_graph::{Layer, Network};
use burn_sfp_nn::sparse::{WeightFormat, with_formats};
use burn_sfp_nn::{NnLayer, recognize};

use super::choose::{choose, stays_dense, whole_if_packed};
use super::config::SparseConfig;
use super::report::{Sparse, SparseLayer};
use crate::PruneError;
use crate::mask::{KeepMasks, attach, masks_of};
use crate::rewrite::on_copy;

/// Returns the model with layers that do not compute removed connections: in masked layers those that the mask removes, in others
/// the kernels whose elements are all zero. The model itself is not changed.
///
/// `inputs` is an example at the batch size to be fast at; its values are not used. The result computes the same as the model, to
/// rounding. With [`pack`](SparseConfig::pack), layers that lack nothing change their format, too. It trains, and what is removed stays removed; it can be saved and loaded; [`densify`](super::densify) turns it back.
/// Layers that stay dense keep their masks, and other reparameterisations are folded into the weights.
///
/// To load a saved sparse model, do the same to a freshly built one (plan, `apply`, `sparsify` with the same settings) and load the
/// record into it.
///
/// ```
/// use burn::prelude::*;
/// use burn::nn::LinearConfig;
/// use burn_sfp_nn::SparseLinear;
/// use burn_sfp_graph::GraphModule;
/// use burn_sfp_core::{AnalyzeConfig, NoProgress, TensorCalibration, analyze_network};
/// use burn_sfp_prune::{MagnitudeConnections, Planner, SparseConfig, SparseFormat, densify, sparsify};
///
/// #[derive(Module, Debug)]
/// struct Mlp { a: SparseLinear, b: SparseLinear }
///
/// impl GraphModule for Mlp {
///     type Inputs = Tensor<2>;
///     type Outputs = Tensor<2>;
///     fn run(&self, x: Tensor<2>) -> Tensor<2> {
///         self.b.forward(burn::tensor::activation::relu(self.a.forward(x)))
///     }
/// }
/// let device = Device::flex();
/// let mlp = Mlp {
///     a: LinearConfig::new(4, 8).init(&device).into(),
///     b: LinearConfig::new(8, 2).init(&device).into(),
/// };
/// let x = Tensor::<2>::ones([2, 4], &device);
/// let data = TensorCalibration::new(x.clone(), vec![0, 1], 2);
/// let (network, analysis) = analyze_network(&mlp, &data, &AnalyzeConfig::new(), &NoProgress)?;
/// let plan = Planner::new().keep_empty(true).plan(&network, &analysis, &MagnitudeConnections::l1().removing(0.5))?;
///
/// let masked = plan.apply(&mlp)?;
/// let sparse = sparsify(&masked, &x, &SparseConfig::new().with_format(SparseFormat::Kernels))?;
/// assert_eq!(sparse.model.a.weight.dims(), [16, 1]);
/// assert_eq!(densify(&sparse.model)?.a.weight.dims(), [4, 8]);
/// # Ok::<(), burn_sfp_prune::PruneError>(())
/// ```
///
/// # Errors
/// - [`PruneError::Config`] if a cost of the cost model is negative or not finite;
/// - [`GraphError`](burn_sfp_graph::GraphError) if the forward pass cannot be captured;
/// - [`NnError::Layer`](burn_sfp_nn::NnError::Layer) if a layer was loaded from a record that does not hold together.
pub fn sparsify<M: GraphModule>(model: &M, inputs: &M::Inputs, config: &SparseConfig) -> Result<Sparse<M>, PruneError> {
    config.cost.check()?;
    let mut layers = Vec::new();
    let model = on_copy(model, |copy| {
        let masks = masks_of(&copy);
        let dense = with_formats(copy, &BTreeMap::new())?.materialize();
        let network = Network::capture(&dense, inputs)?;
        let formats;
        (layers, formats) = choose_formats(&network, &recognize(&dense), &masks, config);
        let sparse = with_formats(dense, &formats)?;
        // What stays dense stays masked, so that training does not bring back what was removed.
        let layer_of = |weight: &str| weight.rsplit_once('.').map_or("", |(layer, _)| layer).to_string();
        let dense_masks = masks.into_iter().filter(|(weight, _)| !formats.contains_key(&layer_of(weight))).collect();
        Ok(attach(sparse, &dense_masks))
    })?;
    Ok(Sparse { model, layers })
}

/// Returns what becomes of each layer that lacks connections, and the sparse formats by the path of the layer. `types` are
/// the layers of our own types.
fn choose_formats(
    network: &Network,
    types: &BTreeMap<String, NnLayer>,
    masks: &KeepMasks,
    config: &SparseConfig,
) -> (Vec<SparseLayer>, BTreeMap<String, WeightFormat>) {
    let (mut layers, mut formats) = (Vec::new(), BTreeMap::new());
    for layer in network.layers() {
        let Some(keep) = connections(network, layer, masks) else { continue };
        let kept = keep.iter().filter(|keep| **keep).count();
        let ours = matches!(types.get(&layer.path), Some(NnLayer::SparseConv2d | NnLayer::SparseLinear));
        if kept == keep.len() {
            if let Some(format) = whole_if_packed(layer, config).filter(|_| ours) {
                formats.insert(layer.path.clone(), format);
            }
            continue;
        }
        let (format, chosen) = match ours {
            true => choose(layer, &keep, network.batch(), config),
            false => stays_dense(layer, &network.parameters()[layer.weight()].container),
        };
        let executed = format.as_ref().map_or(keep.len(), WeightFormat::executed) as u64;
        layers.push(SparseLayer {
            path: layer.path.clone(),
            format: chosen,
            connections: keep.len() as u64,
            kept: kept as u64,
            macs_dense: layer.macs,
            macs: layer.macs / keep.len() as u64 * executed,
        });
        if let Some(format) = format {
            formats.insert(layer.path.clone(), format);
        }
    }
    (layers, formats)
}

/// Returns for each pair of output and input of a layer's weight, output by output, whether it is connected; `None` for a layer
/// that has no such pairs.
fn connections(network: &Network, layer: &Layer, masks: &KeepMasks) -> Option<Vec<bool>> {
    if !layer.is_stored() {
        return None;
    }
    let parameter = &network.parameters()[layer.weight()];
    let (&first, &second) = (parameter.shape.first()?, parameter.shape.get(1)?);
    let keep = match masks.get(&parameter.path) {
        Some(mask) => mask.keep.clone(),
        None => {
            let weight = network.parameter_data(&parameter.path)?.clone().convert::<f32>();
            let weight = weight.as_slice::<f32>().ok()?;
            let kernel = (weight.len() / (first * second).max(1)).max(1);
            weight.chunks(kernel).map(|kernel| kernel.iter().any(|value| *value != 0.0)).collect()
        }
    };
    if keep.len() != first * second || keep.is_empty() {
        return None;
    }
    let transposed = layer.kind.output_axis() == 1;
    let at = |k: usize| if transposed { k % first * second + k / first } else { k };
    Some((0..keep.len()).map(|k| keep[at(k)]).collect())
}
