//! Weights in half precision.

use std::collections::HashSet;

use burn::module::{Module, Param};
use burn::store::bridge::{from_data, into_data};
use burn::store::burn_pack;
use burn::tensor::{DType, Tensor};
use burn_sfp_nn::walk::{ParamPath, ParamVisitor, visit_params};

use crate::PruneError;

/// The element type in which a model's weights are saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Precision {
    /// As they are.
    #[default]
    Full,
    /// 16 bits, 11 of them for the significand: half the bytes. Values above 65,504 do not fit and are an error.
    Half,
    /// 16 bits, 8 of them for the significand, with the range of single precision.
    BFloat16,
}

impl Precision {
    fn dtype(self) -> Option<DType> {
        match self {
            Self::Full => None,
            Self::Half => Some(DType::F16),
            Self::BFloat16 => Some(DType::BF16),
        }
    }

    /// Converts the float tensors of a model. Those of batch normalisations stay as they are: small running variances would become 0.
    pub(super) fn convert<M: Module>(
        self,
        model: &M,
        tensors: Vec<burn_pack::Tensor>,
    ) -> Result<Vec<burn_pack::Tensor>, PruneError> {
        let Some(dtype) = self.dtype() else { return Ok(tensors) };
        let norms = batch_norms(model);
        let convert = |tensor: burn_pack::Tensor| match tensor.dtype {
            DType::F64 | DType::F32 | DType::Flex32 if !norms.contains(&tensor.name) => cast(tensor, dtype),
            _ => Ok(tensor),
        };
        tensors.into_iter().map(convert).collect()
    }
}

fn cast(tensor: burn_pack::Tensor, dtype: DType) -> Result<burn_pack::Tensor, PruneError> {
    let (path, id) = (tensor.name.clone(), tensor.param_id);
    let data = into_data(tensor).map_err(|error| not_saved(&path, error))?;
    let cast = data.clone().convert_dtype(dtype);
    let lost = data.iter::<f64>().zip(cast.iter::<f64>()).find(|(value, cast)| value.is_finite() && !cast.is_finite());
    match lost {
        None => Ok(from_data(cast, path, id)),
        Some((value, _)) => Err(PruneError::NotSaved {
            what: format!("its value {value} is too large for half precision: save it in full or as `BFloat16`"),
            path,
        }),
    }
}

/// The error of a quantised tensor.
pub(super) fn quantised(path: String) -> PruneError {
    PruneError::NotSaved { path, what: "it is quantised: save the model before it is".into() }
}

/// The error of a tensor that its device does not give.
pub(super) fn not_saved(path: &str, error: impl std::fmt::Debug) -> PruneError {
    PruneError::NotSaved { path: path.to_string(), what: format!("its values cannot be read: {error:?}") }
}

/// The paths of the parameters and statistics of batch normalisations.
fn batch_norms<M: Module>(model: &M) -> HashSet<String> {
    struct Seek(HashSet<String>);
    impl ParamVisitor for Seek {
        fn float<const D: usize>(&mut self, path: ParamPath<'_>, _param: &Param<Tensor<D>>) {
            if path.holders().any(|name| name == "BatchNorm" || name == "FoldBatchNorm") {
                self.0.insert(path.join());
            }
        }
    }
    let mut seek = Seek(HashSet::new());
    visit_params(model, &mut seek);
    seek.0
}
