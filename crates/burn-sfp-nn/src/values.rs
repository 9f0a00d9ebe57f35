//! [`set_values`]: stored values put into a module.

use std::collections::BTreeMap;

use burn::module::{Module, Param, Parameter};
use burn::tensor::kind::Basic;
use burn::tensor::{Bool, DType, Device, Int, Shape, Tensor, TensorData};

use crate::NnError;
use crate::recognize::{NnLayer, recognize};
use crate::sparse::{formats_of_codes, with_formats};
use crate::walk::{ParamMapper, ParamPath, map_params};

/// Replaces the values of all parameters of a module by stored ones, by module path. Each value is converted to the element type and
/// moved to the device of the parameter that it replaces.
///
/// Shapes have to agree, with two exceptions, which the stored values decide. A [`SparseConv2d`](crate::SparseConv2d) or
/// [`SparseLinear`](crate::SparseLinear) takes on the format that is stored with it (`layer.sparsity`), and is dense where none is. The
/// parameters of a [`FoldBatchNorm`](crate::FoldBatchNorm) may be empty, which means that it is folded.
///
/// ```
/// use std::collections::BTreeMap;
/// use burn::nn::LinearConfig;
/// use burn::tensor::{Device, TensorData};
/// use burn_sfp_nn::{NnError, set_values};
///
/// let layer = || LinearConfig::new(2, 1).init(&Device::flex());
/// let weight = ("weight".to_string(), TensorData::from([[1.0_f32], [2.0]]));
/// let bias = ("bias".to_string(), TensorData::from([3.0_f32]));
///
/// let set = set_values(layer(), BTreeMap::from([weight.clone(), bias]))?;
/// assert_eq!(set.weight.val().into_data(), weight.1);
/// assert_eq!(set_values(layer(), BTreeMap::from([weight])).unwrap_err(), NnError::MissingValue { path: "bias".into() });
/// # Ok::<(), NnError>(())
/// ```
///
/// # Errors
/// [`NnError::MissingValue`] where a parameter has no value, [`NnError::UnusedValue`] where a value has no parameter,
/// [`NnError::ValueMismatch`] where shapes or kinds of elements differ, [`NnError::Layer`] where a stored format does not fit its layer.
pub fn set_values<M: Module>(module: M, mut values: BTreeMap<String, TensorData>) -> Result<M, NnError> {
    let layers = recognize(&module);
    let is_sparse = |layer: &NnLayer| matches!(layer, NnLayer::SparseConv2d | NnLayer::SparseLinear);
    let codes = layers.iter().filter(|(_, layer)| is_sparse(layer)).filter_map(|(path, _)| {
        let code = values.get(&join(path, "sparsity"))?;
        Some((path.clone(), code.clone().convert::<i64>().iter::<i64>().collect()))
    });
    let formats = formats_of_codes(codes.collect())?;
    let module = with_formats(module, &formats)?;
    let mut set = Set { layers, values: &mut values, problem: None };
    let module = map_params(module, &mut set);
    if let Some(problem) = set.problem {
        return Err(problem);
    }
    match values.into_keys().next() {
        None => Ok(module),
        Some(path) => Err(NnError::UnusedValue { path }),
    }
}

fn join(layer: &str, name: &str) -> String {
    if layer.is_empty() { name.to_string() } else { format!("{layer}.{name}") }
}

/// Puts values in; after the first problem parameters stay as they are.
struct Set<'a> {
    layers: BTreeMap<String, NnLayer>,
    values: &'a mut BTreeMap<String, TensorData>,
    problem: Option<NnError>,
}

/// What a parameter is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Float,
    Int,
    Bool,
}

impl Kind {
    fn of(dtype: DType) -> Option<Self> {
        match dtype {
            DType::QFloat(_) => None,
            DType::Bool(_) => Some(Self::Bool),
            dtype if dtype.is_float() => Some(Self::Float),
            _ => Some(Self::Int),
        }
    }
}

impl Set<'_> {
    /// The new tensor of a parameter, or `None` after a problem.
    fn tensor<const D: usize, K: Basic>(
        &mut self,
        path: ParamPath<'_>,
        kind: Kind,
        shape: Shape,
        like: (&Device, DType),
    ) -> Option<Tensor<D, K>> {
        if self.problem.is_some() {
            return None;
        }
        let joined = path.join();
        let Some(data) = self.values.remove(&joined) else {
            self.problem = Some(NnError::MissingValue { path: joined });
            return None;
        };
        let found = data.shape().to_vec();
        let folded = found == [0] && D == 1 && self.layers.get(&path.split().0) == Some(&NnLayer::FoldBatchNorm);
        // A boolean may be stored as a byte.
        let same_kind =
            Kind::of(data.dtype()).is_some_and(|found| found == kind || kind == Kind::Bool && found == Kind::Int);
        if (found != shape.to_vec() && !folded) || !same_kind || Kind::of(like.1) != Some(kind) {
            let describe = |shape: &[usize], dtype: DType| format!("{dtype:?} of shape {shape:?}");
            self.problem = Some(NnError::ValueMismatch {
                path: joined,
                expected: describe(&shape.to_vec(), like.1),
                found: describe(&found, data.dtype()),
            });
            return None;
        }
        Some(Tensor::from_data(data.convert_dtype(like.1), like))
    }
}

impl Set<'_> {
    /// The parameter with its stored value, or as it is after a problem.
    fn replace<const D: usize, K: Basic>(
        &mut self,
        path: ParamPath<'_>,
        kind: Kind,
        param: Param<Tensor<D, K>>,
    ) -> Param<Tensor<D, K>>
    where
        Tensor<D, K>: Parameter,
    {
        // In the form in which it is stored: some layers keep a weight transposed.
        let stored = param.transform_for_save().val();
        match self.tensor(path, kind, stored.shape(), (&param.lazy_device(), stored.dtype())) {
            Some(tensor) => {
                let id = param.id;
                param.transform_for_load(tensor, id)
            }
            None => param,
        }
    }
}

impl ParamMapper for Set<'_> {
    fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.replace(path, Kind::Float, param)
    }

    fn int<const D: usize>(&mut self, path: ParamPath<'_>, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        self.replace(path, Kind::Int, param)
    }

    fn bool<const D: usize>(&mut self, path: ParamPath<'_>, param: Param<Tensor<D, Bool>>) -> Param<Tensor<D, Bool>> {
        self.replace(path, Kind::Bool, param)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use burn::nn::{Linear, LinearConfig};

    use super::*;
    use crate::sparse::{KernelPattern, WeightFormat};
    use crate::walk::{ParamVisitor, visit_params};
    use crate::{FoldBatchNorm, FoldBatchNormConfig, SparseLinear, SparseLinearConfig};

    #[derive(Module, Debug)]
    struct Net {
        sparse: SparseLinear,
        norm: FoldBatchNorm,
        last: Linear,
        mask: Param<Tensor<1, Bool>>,
        steps: Param<Tensor<2, Int>>,
    }

    fn net() -> Net {
        let device = Device::flex();
        Net {
            sparse: SparseLinearConfig::new(4, 6).init(&device),
            norm: FoldBatchNormConfig::new(6).init(&device),
            last: LinearConfig::new(6, 2).init(&device),
            mask: Param::initialized(burn::module::ParamId::new(), Tensor::from_data([true, false], &device)),
            steps: Param::initialized(burn::module::ParamId::new(), Tensor::from_data([[7, 8]], &device)),
        }
    }

    struct Values(BTreeMap<String, TensorData>);
    impl ParamVisitor for Values {
        fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D>>) {
            self.0.insert(path.join(), param.val().into_data());
        }
        fn int<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D, Int>>) {
            self.0.insert(path.join(), param.val().into_data());
        }
        fn bool<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D, Bool>>) {
            self.0.insert(path.join(), param.val().into_data());
        }
    }

    fn values<M: Module>(net: &M) -> BTreeMap<String, TensorData> {
        let mut values = Values(BTreeMap::new());
        visit_params(net, &mut values);
        values.0
    }

    #[test]
    fn formats_and_folded_norms_come_back() {
        let pattern = KernelPattern::from_fn(6, 4, |output, input| (output + input) % 3 == 0);
        let formats = BTreeMap::from([("sparse".to_string(), WeightFormat::Kernels(Arc::new(pattern)))]);
        let mut saved = with_formats(net(), &formats).unwrap();
        for running in [&mut saved.norm.gamma, &mut saved.norm.beta] {
            *running = Param::from_tensor(Tensor::zeros([0], &Device::flex()));
        }
        let stored = values(&saved);
        assert!(stored.contains_key("sparse.sparsity"));
        let loaded = set_values(net(), stored.clone()).unwrap();
        assert_eq!(values(&loaded), stored);
        let dense = set_values(loaded.sparse, values(&net().sparse)).unwrap();
        assert_eq!(dense.weight.dims(), [4, 6], "a sparse layer becomes dense where no format is stored");
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let stored = values(&net());
        let without = |path: &str| stored.clone().into_iter().filter(|(at, _)| at != path).collect::<BTreeMap<_, _>>();
        let with = |path: &str, data: TensorData| {
            let mut values = stored.clone();
            values.insert(path.into(), data);
            set_values(net(), values).unwrap_err()
        };
        let missing = set_values(net(), without("steps")).unwrap_err();
        assert_eq!(missing, NnError::MissingValue { path: "steps".into() });
        let unused = with("other", TensorData::from([1.0_f32]));
        assert_eq!(unused, NnError::UnusedValue { path: "other".into() });
        let shape = with("last.bias", TensorData::from([1.0_f32])).to_string();
        assert!(shape.contains("`last.bias`") && shape.contains("[1]") && shape.contains("[2]"), "{shape}");
        let kind = with("last.bias", TensorData::from([1_i64, 2])).to_string();
        assert!(kind.contains("`last.bias`") && kind.contains("I64"), "{kind}");
        let empty = with("last.bias", TensorData::from([0.0_f32; 0])).to_string();
        assert!(empty.contains("`last.bias`"), "only folded normalisations may be empty: {empty}");
        let format = with("sparse.sparsity", TensorData::from([9_i64, 9, 9])).to_string();
        assert!(format.contains("layer `sparse`"), "{format}");
    }

    #[test]
    fn values_take_the_type_of_the_parameter() {
        let mut stored = values(&net());
        let halves = stored["last.weight"].clone().convert_dtype(DType::F16);
        stored.insert("last.weight".into(), halves.clone());
        let loaded = values(&set_values(net(), stored).unwrap());
        assert_eq!(loaded["last.weight"], halves.convert_dtype(DType::F32));
    }
}
