//! Tells which layers of a module are of this project's types.
//!
//! Burn's visitors see the name of a struct, and a user's struct may have the name of one of ours. So each of our layers has a
//! [`Marker`] among its fields, and [`recognize`] goes by that.

use std::cell::Cell;
use std::collections::BTreeMap;

use burn::module::{Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};

/// A layer type of burn-sfp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum NnLayer {
    /// [`SparseConv2d`](crate::SparseConv2d)
    SparseConv2d,
    /// [`SparseLinear`](crate::SparseLinear)
    SparseLinear,
    /// [`FoldBatchNorm`](crate::FoldBatchNorm)
    FoldBatchNorm,
    /// [`HeadAttention`](crate::HeadAttention)
    HeadAttention,
    /// [`CenteredLayerNorm`](crate::CenteredLayerNorm)
    CenteredLayerNorm,
    /// The mask over removed connections that `burn-sfp-prune` attaches to a weight.
    ConnectionMask,
}

/// The layers of a module that are of burn-sfp's types, by module path.
///
/// A user's struct is not among them, whatever its name. The mask of a pruned weight has the path `layer.weight.connection_mask`.
///
/// ```
/// use burn::module::Module;
/// use burn::nn::Linear;
/// use burn::nn::LinearConfig;
/// use burn::tensor::Device;
/// use burn_sfp_nn::{NnLayer, SparseLinear, SparseLinearConfig, recognize};
///
/// #[derive(Module, Debug)]
/// struct Mlp { hidden: SparseLinear, classifier: Linear }
///
/// let device = Device::flex();
/// let mlp = Mlp {
///     hidden: SparseLinearConfig::new(4, 8).init(&device),
///     classifier: LinearConfig::new(8, 2).init(&device),
/// };
/// let layers = recognize(&mlp);
/// assert_eq!(layers.get("hidden"), Some(&NnLayer::SparseLinear));
/// assert_eq!(layers.get("classifier"), None);
/// ```
pub fn recognize<M: Module>(module: &M) -> BTreeMap<String, NnLayer> {
    let mut found = Recognize::default();
    module.visit(&mut found);
    found.layers
}

thread_local! {
    /// What the marker visited last says, until a visitor takes it.
    static MARKED: Cell<Option<NnLayer>> = const { Cell::new(None) };
}

/// A field without parameters by which [`recognize`] knows the struct that holds it.
///
/// It leaves no trace in records, on devices or in the list of parameters.
///
/// ```
/// use burn::module::{Module, Param};
/// use burn::tensor::{Device, Tensor};
/// use burn_sfp_nn::{Marker, NnLayer, recognize};
///
/// #[derive(Module, Debug)]
/// struct Mask { bits: Param<Tensor<2>>, marker: Marker }
///
/// let bits = Param::from_tensor(Tensor::ones([2, 2], &Device::flex()));
/// let mask = Mask { bits, marker: Marker::new(NnLayer::ConnectionMask) };
/// assert_eq!(recognize(&mask)[""], NnLayer::ConnectionMask);
/// assert_eq!(mask.num_params(), 4);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker(NnLayer);

impl Marker {
    /// The marker of a layer type.
    pub const fn new(layer: NnLayer) -> Self {
        Self(layer)
    }
}

impl Module for Marker {
    fn collect_devices(&self, devices: Devices) -> Devices {
        devices
    }

    fn fork(self, _device: &Device) -> Self {
        self
    }

    fn to_device(self, _device: &Device) -> Self {
        self
    }

    fn train(self) -> Self {
        self
    }

    fn valid(&self) -> Self {
        *self
    }

    fn materialize(self) -> Self {
        self
    }

    fn visit<V: ModuleVisitor>(&self, _visitor: &mut V) {
        MARKED.set(Some(self.0));
    }

    fn map<M: ModuleMapper>(self, _mapper: &mut M) -> Self {
        self
    }
}

impl ModuleDisplayDefault for Marker {
    fn content(&self, content: Content) -> Option<Content> {
        content.add_formatted(&format!("{:?}", self.0)).optional()
    }
}

impl ModuleDisplay for Marker {}

#[derive(Default)]
struct Recognize {
    names: Vec<String>,
    layers: BTreeMap<String, NnLayer>,
}

impl ModuleVisitor for Recognize {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.names.push(name.to_string());
        // Other visitors pass markers by and leave what they say.
        MARKED.set(None);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.names.pop();
        if let Some(layer) = MARKED.take() {
            self.layers.insert(self.names.join("."), layer);
        }
    }

    // Nothing is read: parameters may be lazy, or on a device that is slow to read.
    fn visit_float<const D: usize>(&mut self, _param: &Param<Tensor<D>>) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        CenteredLayerNorm, CenteredLayerNormConfig, FoldBatchNorm, HeadAttention, HeadAttentionConfig, SparseConv2d,
    };
    use burn::module::ParamId;
    use burn::nn::conv::Conv2dConfig;
    use burn::nn::{BatchNorm, BatchNormConfig};

    mod user {
        use super::*;

        /// A user's struct with the name of one of ours, and its fields.
        #[derive(Module, Debug)]
        pub struct SparseConv2d {
            pub weight: Param<Tensor<4>>,
            pub sparsity: Param<Tensor<1, burn::tensor::Int>>,
        }

        /// And another.
        #[derive(Module, Debug)]
        pub struct FoldBatchNorm {
            pub gamma: Param<Tensor<1>>,
            pub norm: BatchNorm,
        }
    }

    #[derive(Module, Debug)]
    struct Model {
        convs: Vec<SparseConv2d>,
        theirs: user::SparseConv2d,
        norm: Option<FoldBatchNorm>,
        their_norm: user::FoldBatchNorm,
        layer_norm: CenteredLayerNorm,
        attention: HeadAttention,
    }

    fn model(device: &Device) -> Model {
        let conv = || Conv2dConfig::new([2, 2], [1, 1]).init(device);
        let norm = || BatchNormConfig::new(2).init(device);
        let code = Tensor::from_ints([0], device);
        Model {
            convs: vec![conv().into(), conv().into()],
            theirs: user::SparseConv2d { weight: conv().weight, sparsity: Param::initialized(ParamId::new(), code) },
            norm: Some(norm().into()),
            their_norm: user::FoldBatchNorm { gamma: norm().gamma, norm: norm() },
            layer_norm: CenteredLayerNormConfig::new(2).init(device),
            attention: HeadAttentionConfig::new(4, 2).init(device),
        }
    }

    #[test]
    fn layers_of_the_same_name_are_not_taken_for_ours() {
        let device = Device::flex();
        let model = model(&device);
        let expected = [
            ("attention", NnLayer::HeadAttention),
            ("convs.0", NnLayer::SparseConv2d),
            ("convs.1", NnLayer::SparseConv2d),
            ("layer_norm", NnLayer::CenteredLayerNorm),
            ("norm", NnLayer::FoldBatchNorm),
        ];
        let expected: BTreeMap<String, NnLayer> =
            expected.into_iter().map(|(path, layer)| (path.to_string(), layer)).collect();
        assert_eq!(recognize(&model), expected);
        assert_eq!(recognize(&model.clone().train().valid().fork(&device)), expected);
        // What another visitor left behind does not count.
        let _ = Module::num_params(&model.attention);
        assert!(recognize(&model.theirs).is_empty());
    }
}
