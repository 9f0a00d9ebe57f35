//! All values of a module as bytes, bit by bit, and ids that are the same in every process.

use std::collections::BTreeMap;

use burn::module::{Module, Param, ParamId};
use burn::tensor::kind::Basic;
use burn::tensor::{Bool, Bytes, DType, Int, Tensor, TensorData};
use burn_sfp_nn::walk::{ParamMapper, ParamPath, ParamVisitor, map_params, visit_params};
use serde::{Deserialize, Serialize};

/// Where a value lies among the bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Value {
    path: String,
    dtype: DType,
    shape: Vec<usize>,
    start: usize,
    end: usize,
}

/// Collects the values of all parameters and running statistics.
pub(super) fn values_of<M: Module>(model: &M) -> (Vec<Value>, Vec<u8>) {
    let mut collect = Collect { values: Vec::new(), bytes: Vec::new() };
    // Settles running statistics.
    visit_params(&model.valid(), &mut collect);
    (collect.values, collect.bytes)
}

struct Collect {
    values: Vec<Value>,
    bytes: Vec<u8>,
}

impl Collect {
    fn add(&mut self, path: ParamPath<'_>, data: &TensorData) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(data.as_bytes());
        let (dtype, shape) = (data.dtype(), data.shape().to_vec());
        self.values.push(Value { path: path.join(), dtype, shape, start, end: self.bytes.len() });
    }
}

impl ParamVisitor for Collect {
    fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D>>) {
        self.add(path, &param.base().into_data());
    }
    fn int<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D, Int>>) {
        self.add(path, &param.val().into_data());
    }
    fn bool<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D, Bool>>) {
        self.add(path, &param.val().into_data());
    }
}

/// Puts values into a module in evaluation mode. `None` where they are not those of such a module.
pub(super) fn with_values<M: Module>(model: M, values: &[Value], bytes: &[u8]) -> Option<M> {
    let by_path = values.iter().map(|value| (value.path.as_str(), value)).collect();
    let mut put = Put { values: by_path, bytes, fits: true };
    let model = map_params(model, &mut put);
    (put.fits && put.values.is_empty()).then_some(model)
}

struct Put<'a> {
    values: BTreeMap<&'a str, &'a Value>,
    bytes: &'a [u8],
    fits: bool,
}

impl Put<'_> {
    fn tensor<const D: usize, K: Basic>(&mut self, path: ParamPath<'_>, before: Tensor<D, K>) -> Tensor<D, K> {
        let found = self.values.remove(path.join().as_str());
        let found = found.filter(|value| value.shape == before.dims() && value.dtype == before.dtype());
        let Some((value, bytes)) = found.and_then(|value| Some((value, self.bytes.get(value.start..value.end)?)))
        else {
            self.fits = false;
            return before;
        };
        let elements: usize = value.shape.iter().product();
        if bytes.len() != elements * value.dtype.size() {
            self.fits = false;
            return before;
        }
        let data = TensorData::from_bytes(Bytes::from_bytes_vec(bytes.to_vec()), value.shape.clone(), value.dtype);
        Tensor::from_data(data, (&before.device(), value.dtype))
    }
}

impl ParamMapper for Put<'_> {
    fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|before| self.tensor(path, before))
    }
    fn int<const D: usize>(&mut self, path: ParamPath<'_>, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        param.map(|before| self.tensor(path, before))
    }
    fn bool<const D: usize>(&mut self, path: ParamPath<'_>, param: Param<Tensor<D, Bool>>) -> Param<Tensor<D, Bool>> {
        param.map(|before| self.tensor(path, before))
    }
}

/// The type of a parameter that learns and is not of single precision, if there is one.
pub(super) fn not_single<M: Module>(model: &M) -> Option<DType> {
    struct Seek(Option<DType>);
    impl ParamVisitor for Seek {
        fn float<const D: usize>(&mut self, _path: ParamPath<'_>, param: &Param<Tensor<D>>) {
            let value = param.base();
            if value.is_require_grad() && value.dtype() != DType::F32 {
                self.0 = Some(value.dtype());
            }
        }
    }
    let mut seek = Seek(None);
    visit_params(model, &mut seek);
    seek.0
}

/// The ids of all float parameters, in the module's order.
pub(super) fn ids_of<M: Module>(model: &M) -> Vec<ParamId> {
    struct Ids(Vec<ParamId>);
    impl ParamVisitor for Ids {
        fn float<const D: usize>(&mut self, _path: ParamPath<'_>, param: &Param<Tensor<D>>) {
            self.0.push(param.id);
        }
    }
    let mut ids = Ids(Vec::new());
    visit_params(model, &mut ids);
    ids.0
}

/// Ids that are the same for the same module in every process. Parameters that share an id share the new one.
pub(super) fn steady_ids(ids: &[ParamId]) -> Vec<ParamId> {
    let mut known: BTreeMap<u64, u64> = BTreeMap::new();
    let numbered = ids.iter().map(|id| {
        let next = known.len() as u64 + 1;
        ParamId::from(*known.entry(id.val()).or_insert(next))
    });
    numbered.collect()
}

/// Gives all float parameters these ids, in the module's order.
pub(super) fn with_ids<M: Module>(model: M, ids: &[ParamId]) -> M {
    struct Give<'a>(std::slice::Iter<'a, ParamId>);
    impl ParamMapper for Give<'_> {
        fn float<const D: usize>(&mut self, _path: ParamPath<'_>, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let Some(id) = self.0.next() else { return param };
            let (_, value, mapper) = param.consume();
            Param::from_mapped_value(*id, value, mapper)
        }
    }
    map_params(model, &mut Give(ids.iter()))
}
