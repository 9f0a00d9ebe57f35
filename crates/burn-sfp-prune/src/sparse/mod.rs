//! Removed connections that are not computed any more.
//!
//! A pruned layer of type [`SparseConv2d`](burn_sfp_core::nn::SparseConv2d) or
//! [`SparseLinear`](burn_sfp_core::nn::SparseLinear) gets the form that the cost model finds fastest: kernels that stay, one
//! by one; a few dense blocks of gathered filters; or it stays dense. Layers of Burn's own types keep computing the zeros.

mod cost;
mod regroup;

use std::collections::HashMap;

use burn::module::{ModuleMapper, ModuleVisitor, Param, Reparameterization};
use burn::tensor::{Int, Tensor, TensorData};
use burn_sfp_core::network::{Layer, Network};
use burn_sfp_core::sparse::{DenseShape, Form, KernelPattern, Sparsity, expose, gather, replace, scatter};
use burn_sfp_core::{GraphModule, SfpError};
use serde::{Deserialize, Serialize};

pub use cost::{CostModel, SparseConfig, SparseForm};

use crate::rewrite::{Attach, Masks, in_training};
use crate::{ConnectionMask, PruneError};

/// Types of layers that can take a sparse form.
const CONVOLUTION: &str = "SparseConv2d";
const LINEAR: &str = "SparseLinear";

/// A model whose removed connections are not computed, and what became of its layers.
#[derive(Clone, Debug)]
pub struct Sparse<M> {
    /// The model.
    pub model: M,
    /// Every layer that lacks connections, in the order in which they run.
    pub layers: Vec<SparseLayer>,
}

/// What became of one layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SparseLayer {
    /// Module path.
    pub path: String,
    /// The form it has now.
    pub form: ChosenForm,
    /// Pairs of output and input.
    pub connections: u64,
    /// Pairs that stay.
    pub kept: u64,
    /// Multiply-adds of a sample, dense.
    pub macs_dense: u64,
    /// Multiply-adds of a sample that are executed now.
    pub macs: u64,
}

/// The form of a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChosenForm {
    /// Dense, because that is what the cost model finds fastest, or for the reason given.
    Dense {
        /// Why, where it was not a matter of cost.
        reason: Option<String>,
    },
    /// Kernels one by one.
    Kernels,
    /// So many dense blocks.
    Blocks(usize),
}

/// Leaves removed connections out: of masked layers those that the mask removes, of others the kernels that are zero
/// throughout.
///
/// `inputs` is an example at the batch size to be fast at; its values are not used. The result computes the same, to rounding,
/// trains (what is removed stays removed), saves and loads; [`densify`] is the way back. Layers that stay dense keep their masks;
/// other reparameterisations are folded in. To load a saved sparse model, do the same to a freshly built one (plan, `apply`, `sparsify` with the same
/// settings) and load the record into it.
///
/// ```
/// use burn::prelude::*;
/// use burn::nn::LinearConfig;
/// use burn_sfp_core::nn::SparseLinear;
/// use burn_sfp_core::{AnalyzeConfig, SfpModule, Silent, TensorCalibration, analyze_network};
/// use burn_sfp_prune::{MagnitudeConnections, Planner, SparseConfig, SparseForm, densify, sparsify};
///
/// #[derive(Module, Debug)]
/// struct Mlp { a: SparseLinear, b: SparseLinear }
///
/// impl SfpModule for Mlp {
///     type Input = Tensor<2>;
///     fn logits(&self, x: Tensor<2>) -> Tensor<2> {
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
/// let (network, analysis) = analyze_network(&mlp, &data, &AnalyzeConfig::new(), &Silent)?;
/// let plan = Planner::new().keep_empty(true).plan(&network, &analysis, &MagnitudeConnections::l1().removing(0.5))?;
///
/// let masked = plan.apply(&mlp)?;
/// let sparse = sparsify(&masked, &x, &SparseConfig::new().with_form(SparseForm::Kernels))?;
/// assert_eq!(sparse.model.a.weight.dims(), [16, 1]);
/// assert_eq!(densify(&sparse.model)?.a.weight.dims(), [4, 8]);
/// # Ok::<(), burn_sfp_prune::PruneError>(())
/// ```
///
/// # Errors
/// [`burn_sfp_core::SfpError`] where the forward pass cannot be captured, or a layer was loaded from a record that does not
/// hold together; [`PruneError::Config`] where the cost model holds a number that is no cost.
pub fn sparsify<M: GraphModule>(model: &M, inputs: &M::Inputs, config: &SparseConfig) -> Result<Sparse<M>, PruneError> {
    config.cost.check()?;
    let mut seek = Seek::default();
    model.visit(&mut seek);
    let dense = densify(model)?.valid().materialize();
    let network = Network::capture(&dense, inputs)?;
    let samples = network.batch();
    let mut forms: HashMap<String, Form> = HashMap::new();
    let mut layers = Vec::new();
    for layer in network.layers() {
        let Some(keep) = connections(&network, layer, &seek.masks) else { continue };
        let kept = keep.iter().filter(|keep| **keep).count();
        if kept == keep.len() {
            continue;
        }
        let holder = network.parameters()[layer.weight()].container.as_str();
        let (form, chosen) = match holder {
            CONVOLUTION | LINEAR => choose(layer, &keep, samples, config),
            other => (None, ChosenForm::Dense { reason: Some(own_type(other)) }),
        };
        let executed = form.as_ref().map_or(keep.len(), Form::executed) as u64;
        layers.push(SparseLayer {
            path: layer.path.clone(),
            form: chosen,
            connections: keep.len() as u64,
            kept: kept as u64,
            macs_dense: layer.macs,
            macs: layer.macs / keep.len() as u64 * executed,
        });
        if let Some(form) = form {
            forms.insert(layer.path.clone(), form);
        }
    }
    let sparse = expose(|| dense.map(&mut Rewrite { path: Vec::new(), forms: &forms, to: To::Sparse }));
    // What stays dense stays masked, so that training does not bring back what was removed.
    let device = sparse.devices().into_iter().next().unwrap_or_default();
    let masks = seek.masks.iter().filter_map(|(path, bits)| {
        let layer = path.rsplit_once('.').map_or("", |(layer, _)| layer);
        let shape = seek.shapes.get(path).filter(|_| !forms.contains_key(layer))?;
        Some((path.as_str(), (*shape.first()?, *shape.get(1)?, bits.clone())))
    });
    let masks: Masks<'_> = masks.collect();
    let sparse = sparse.apply_reparameterization(Attach { masks: &masks, device: &device });
    Ok(Sparse { model: if in_training(model) { sparse.train() } else { sparse }, layers })
}

/// The same model with all its layers dense: zeros where nothing is connected.
///
/// # Errors
/// [`burn_sfp_core::SfpError::Sparsity`] where a layer was loaded from a record that does not hold together.
pub fn densify<M: GraphModule>(model: &M) -> Result<M, PruneError> {
    let mut seek = Seek::default();
    expose(|| model.visit(&mut seek));
    let forms = seek.forms()?;
    let dense = expose(|| model.valid().map(&mut Rewrite { path: Vec::new(), forms: &forms, to: To::Dense }));
    Ok(if in_training(model) { dense.train() } else { dense })
}

/// For each pair of output and input of a layer's weight, output by output, whether it is connected; `None` of a layer that has
/// no such pairs.
fn connections(network: &Network, layer: &Layer, masks: &HashMap<String, Vec<bool>>) -> Option<Vec<bool>> {
    let parameter = &network.parameters()[layer.weight()];
    let (&first, &second) = (parameter.shape.first()?, parameter.shape.get(1)?);
    let across = layer.kind.output_axis() == 1;
    let keep = match masks.get(&parameter.path) {
        Some(mask) => mask.clone(),
        None => {
            let numbers = network.parameter_data(&parameter.path)?.clone().convert::<f32>();
            let numbers = numbers.as_slice::<f32>().ok()?;
            let kernel = (numbers.len() / (first * second).max(1)).max(1);
            numbers.chunks(kernel).map(|kernel| kernel.iter().any(|weight| *weight != 0.0)).collect()
        }
    };
    if keep.len() != first * second || keep.is_empty() {
        return None;
    }
    Some(if across { (0..first * second).map(|k| keep[k % first * second + k / first]).collect() } else { keep })
}

fn choose(layer: &Layer, keep: &[bool], samples: usize, config: &SparseConfig) -> (Option<Form>, ChosenForm) {
    let inputs = layer.inputs / layer.groups.max(1);
    let outputs = keep.len() / inputs.max(1);
    let kernel = layer.kernel_elements();
    let positions = samples as f64 * layer.macs as f64 / (keep.len() * kernel).max(1) as f64;
    let size = cost::Size { outputs, inputs, kernel, positions };
    let kept = keep.iter().filter(|keep| **keep).count();
    let groups = (layer.groups == 1 && config.form != SparseForm::Kernels)
        .then(|| regroup::Groups::of(keep, &size, &config.cost));
    let kernels = || {
        let pattern = KernelPattern::from_fn(outputs, inputs, |output, input| keep[output * inputs + input]);
        (Some(Form::Kernels(pattern.into())), ChosenForm::Kernels)
    };
    let blocks = |groups: regroup::Groups| {
        let blocks = groups.into_blocks(keep);
        let count = blocks.blocks.len();
        (Some(Form::Blocks(blocks.into())), ChosenForm::Blocks(count))
    };
    match (config.form, groups) {
        (SparseForm::Kernels, _) => kernels(),
        (SparseForm::Blocks, Some(groups)) => blocks(groups),
        (SparseForm::Blocks, None) => {
            (None, ChosenForm::Dense { reason: Some("a grouped convolution cannot be regrouped".into()) })
        }
        (SparseForm::Auto, groups) => {
            let dense = config.cost.dense(&size);
            let one_by_one = config.cost.kernels(&size, kept);
            let gathered = groups.as_ref().map_or(f64::INFINITY, |groups| config.cost.blocks(&size, groups.iter()));
            match groups {
                Some(groups) if gathered < one_by_one && gathered < dense => blocks(groups),
                _ if one_by_one < dense => kernels(),
                _ => (None, ChosenForm::Dense { reason: None }),
            }
        }
    }
}

fn own_type(holder: &str) -> String {
    match holder {
        "Conv2d" => "it is Burn's `Conv2d`: make it a `SparseConv2d`".into(),
        "Linear" => "it is Burn's `Linear`: make it a `SparseLinear`".into(),
        other => format!("there is no sparse form of `{other}`"),
    }
}

/// What a model's layers hold now.
#[derive(Default)]
struct Seek {
    path: Vec<String>,
    /// The masks of reparameterised weights, by the weight's path, over its first two axes.
    masks: HashMap<String, Vec<bool>>,
    /// The integers of layers that can be sparse, by the layer's path.
    codes: Vec<(String, Vec<i64>)>,
    shapes: HashMap<String, Vec<usize>>,
}

impl Seek {
    fn forms(&self) -> Result<HashMap<String, Form>, PruneError> {
        let mut forms = HashMap::new();
        for (layer, code) in &self.codes {
            let broken = |what: String| SfpError::Sparsity(format!("`{layer}`: {what}"));
            let form = Sparsity::decode(code).map_err(|error| broken(error.to_string()))?;
            let Some(form) = form else { continue };
            let shape = self.shapes.get(&format!("{layer}.weight")).map(Vec::as_slice).unwrap_or_default();
            if shape.first() != Some(&form.rows()) || shape.get(1) != Some(&1) {
                let rows = form.rows();
                return Err(broken(format!("a weight of shape {shape:?} under a form of {rows} kernels")).into());
            }
            forms.insert(layer.clone(), form);
        }
        Ok(forms)
    }
}

impl ModuleVisitor for Seek {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.path.join(".");
        if let Some(weight) = path.strip_suffix(".mask").and_then(|path| path.strip_suffix(ConnectionMask::NAME)) {
            let bits = param.val().into_data().convert::<f32>().iter::<f32>().map(|bit| bit != 0.0).collect();
            self.masks.insert(weight.trim_end_matches('.').to_string(), bits);
        }
        self.shapes.insert(path, param.lazy_shape().to_vec());
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        if let Some((field, layer)) = self.path.split_last()
            && field == "sparsity"
        {
            self.codes.push((layer.join("."), param.val().into_data().iter::<i64>().collect()));
        }
    }
}

/// Gives layers another form.
struct Rewrite<'a> {
    path: Vec<String>,
    /// By the layer's path.
    forms: &'a HashMap<String, Form>,
    to: To,
}

#[derive(Clone, Copy, PartialEq)]
enum To {
    /// From dense to the form.
    Sparse,
    /// From the form to dense.
    Dense,
}

impl Rewrite<'_> {
    /// The form of the layer whose field this is.
    fn form(&self, wanted: &str) -> Option<&Form> {
        let (field, layer) = self.path.split_last()?;
        (field == wanted).then(|| self.forms.get(&layer.join(".")))?
    }
}

impl ModuleMapper for Rewrite<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(form) = self.form("weight") else { return param };
        let output_axis = usize::from(D == 2);
        match self.to {
            To::Sparse => replace(param, |weight| {
                let of = DenseShape { shape: weight.dims(), output_axis };
                gather(weight, form, &of)
            }),
            To::Dense => replace(param, |weight| {
                let mut shape = weight.dims();
                (shape[output_axis], shape[1 - output_axis]) = (form.outputs(), form.inputs());
                scatter(weight, form, &DenseShape { shape, output_axis })
            }),
        }
    }

    fn map_int<const D: usize>(&mut self, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        let Some(form) = self.form("sparsity") else { return param };
        let code = Sparsity::encode((self.to == To::Sparse).then_some(form));
        param.map(|old| {
            let mut shape = [1; D];
            shape[0] = code.len();
            Tensor::from_data(TensorData::new(code, shape), &old.device())
        })
    }
}
