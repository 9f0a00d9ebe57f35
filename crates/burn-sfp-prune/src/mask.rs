//! Keep masks over parameters, and [`ConnectionMask`], which holds what is removed at zero whatever the optimiser does.

use std::collections::{BTreeMap, HashMap};

use burn::module::{Module, Param, Reparameterization, Reparameterizer};
use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_sfp_nn::walk::{ParamMapper, ParamPath, ParamVisitor, map_params, visit_params};
use burn_sfp_nn::{Marker, NnLayer};

/// Makes a parameter's effective value `base * mask`: of a weight with one element of the mask for each pair of indices of the weight's
/// first two axes.
///
/// Attached to a parameter as a Burn reparameterisation, it follows the module through training, records and devices;
/// `Module::materialize` folds it into the parameter. The mask itself is not trained, and the gradient of what it removes is
/// zero. Whatever an optimiser does to the base below it, the effective value stays exactly zero.
///
/// ```
/// use burn::module::Reparameterization;
/// use burn::tensor::{Device, Tensor};
/// use burn_sfp_prune::ConnectionMask;
///
/// let mask = ConnectionMask::new(2, 2, vec![true, false, true, true], &Device::flex());
/// let weight = Tensor::<3>::ones([2, 2, 1], &Device::flex());
/// assert_eq!(mask.apply(weight).into_data().iter::<f32>().collect::<Vec<_>>(), [1.0, 0.0, 1.0, 1.0]);
/// assert_eq!(mask.values().dims(), [2, 2]);
/// ```
#[derive(Module, Debug)]
pub struct ConnectionMask {
    mask: Param<Tensor<2>>,
    /// The shape under which the mask is multiplied with the parameter, 1 where it says the same for all indices of an axis. Empty for
    /// the first two axes.
    #[module(skip)]
    view: Vec<usize>,
    marker: Marker,
}

impl ConnectionMask {
    /// Returns a mask for a weight whose first two axes have the lengths `first` and `second`. `keep` says for each pair of their
    /// indices, row by row, whether it stays; pairs for which it has no element are removed.
    pub fn new(first: usize, second: usize, keep: Vec<bool>, device: &Device) -> Self {
        Self::of_type(first, second, keep, device, DType::F32)
    }

    fn of_type(first: usize, second: usize, mut keep: Vec<bool>, device: &Device, dtype: DType) -> Self {
        keep.resize(first * second, false);
        let values: Vec<f32> = keep.into_iter().map(|keep| f32::from(u8::from(keep))).collect();
        let mask = Tensor::from_data(TensorData::new(values, [first, second]), (device, dtype));
        let mask = Param::from_tensor(mask).set_require_grad(false);
        Self { mask, view: Vec::new(), marker: Marker::new(NnLayer::ConnectionMask) }
    }

    /// Returns a mask for a parameter that is multiplied with it under the shape `view`; `keep` says row by row what stays.
    pub(crate) fn spread<const D: usize>(view: Vec<usize>, keep: Vec<bool>, parameter: &Tensor<D>) -> Self {
        let first = view.first().copied().unwrap_or(1);
        let rest = view.iter().skip(1).product();
        let dtype = if parameter.dtype().is_float() { parameter.dtype() } else { DType::F32 };
        let mask = Self::of_type(first, rest, keep, &parameter.device(), dtype);
        let is_plain = view.iter().skip(2).all(|length| *length == 1);
        if is_plain { mask } else { Self { view, ..mask } }
    }

    /// Returns the mask, of shape `[first, second]`: 1 for what stays, 0 for what is removed. Where a mask is over other axes than the
    /// first two ([`PrunePlan::mask`](crate::PrunePlan::mask)), all but the first are one here.
    pub fn values(&self) -> Tensor<2> {
        self.mask.val()
    }
}

impl Reparameterization for ConnectionMask {
    const NAME: &'static str = "connection_mask";

    fn apply<const D: usize>(&self, base: Tensor<D>) -> Tensor<D> {
        let mask = self.mask.val().detach();
        let device = base.device();
        let mask = if mask.device() == device { mask } else { mask.to_device(&device) };
        // A mask has the type of its weight, unless one of them was cast.
        let mask = if mask.dtype() != base.dtype() && base.dtype().is_float() { mask.cast(base.dtype()) } else { mask };
        let two = mask.dims();
        let view = if self.view.is_empty() { &two[..] } else { &self.view[..] };
        let mut shape = [1; D];
        let axes = view.len().min(D);
        shape[..axes].copy_from_slice(&view[..axes]);
        base * mask.reshape(shape)
    }
}

/// Which pairs of indices of a weight's first two axes stay, as plain data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeepMask {
    /// Lengths of the two axes.
    pub shape: [usize; 2],
    /// Whether each pair stays, row by row.
    pub keep: Vec<bool>,
}

impl KeepMask {
    /// Reads a mask from its values: what is not zero stays.
    pub fn of_values(shape: [usize; 2], values: TensorData) -> Self {
        Self { shape, keep: values.convert::<f32>().iter::<f32>().map(|value| value != 0.0).collect() }
    }

    /// Returns the values of the mask, with the device and the type of what they replace.
    fn values<const D: usize>(&self, like: &Tensor<D>) -> Tensor<2> {
        ConnectionMask::of_type(self.shape[0], self.shape[1], self.keep.clone(), &like.device(), like.dtype()).values()
    }

    /// Returns the mask as a module, with the device and the float type of a weight.
    pub fn like<const D: usize>(&self, weight: &Tensor<D>) -> ConnectionMask {
        let dtype = if weight.dtype().is_float() { weight.dtype() } else { DType::F32 };
        ConnectionMask::of_type(self.shape[0], self.shape[1], self.keep.clone(), &weight.device(), dtype)
    }
}

/// Keep masks by the path of the weight.
pub(crate) type KeepMasks = HashMap<String, KeepMask>;

/// The path of the weight that the mask with this path belongs to; `None` of the path of anything else.
pub(crate) fn masked_weight(path: &str) -> Option<&str> {
    path.strip_suffix(".mask")?.strip_suffix(ConnectionMask::NAME)?.strip_suffix('.')
}

/// Returns the keep masks that a model carries.
pub(crate) fn masks_of<M: Module>(model: &M) -> KeepMasks {
    struct Read(KeepMasks);
    impl ParamVisitor for Read {
        fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D>>) {
            if let Some(weight) = masked_weight(&path.join())
                && let [first, second] = param.lazy_shape().to_vec()[..]
            {
                let mask = KeepMask::of_values([first, second], param.val().into_data());
                self.0.insert(weight.to_string(), mask);
            }
        }
    }
    let mut read = Read(KeepMasks::new());
    visit_params(model, &mut read);
    read.0
}

/// Sets the masks of a model whose connections changed, by the path of the weight.
pub(crate) fn replace<M: Module>(model: M, masks: &KeepMasks) -> M {
    struct Replace<'a>(&'a KeepMasks);
    impl ParamMapper for Replace<'_> {
        fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let path = path.join();
            let Some(mask) = masked_weight(&path).and_then(|weight| self.0.get(weight)) else { return param };
            param.map(|old| mask.values(&old).reshape(old.dims()))
        }
    }
    map_params(model, &mut Replace(masks))
}

/// What stays of a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spread {
    /// The parameter's shape, 1 for the axes along which nothing is removed; those at the end may be left out.
    pub view: Vec<usize>,
    /// Row by row whether it stays.
    pub keep: Vec<bool>,
}

/// Attaches masks to the weights of a model, as reparameterisations.
pub(crate) fn attach<M: Module>(model: M, masks: &KeepMasks) -> M {
    let spread = |mask: &KeepMask| Spread { view: mask.shape.to_vec(), keep: mask.keep.clone() };
    attach_spreads(model, &masks.iter().map(|(path, mask)| (path.clone(), spread(mask))).collect())
}

/// Attaches masks to parameters of a model, by their paths.
pub(crate) fn attach_spreads<M: Module>(model: M, spreads: &BTreeMap<String, Spread>) -> M {
    struct Attach<'a>(&'a BTreeMap<String, Spread>);
    impl Reparameterizer for Attach<'_> {
        type Reparam = ConnectionMask;

        fn reparameterize<const D: usize>(
            &mut self,
            path: &str,
            param: Param<Tensor<D>>,
        ) -> (Param<Tensor<D>>, Option<ConnectionMask>) {
            let spread = self.0.get(path);
            let mask =
                spread.map(|spread| ConnectionMask::spread(spread.view.clone(), spread.keep.clone(), &param.base()));
            (param, mask)
        }
    }
    model.apply_reparameterization(Attach(spreads))
}
