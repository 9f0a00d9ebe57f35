//! A pruned model in a safetensors file.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use burn::store::burn_pack;
use burn::tensor::{BoolStore, Bytes, DType, TensorData};
use burn_sfp_graph::FileError;
use burn_sfp_graph::file::{TensorEntry, open, save_tensors};
use safetensors::{Dtype, SafeTensors};

use super::precision::quantised;
use super::{FORMAT, PLAN};
use crate::PruneError;

/// The name of an element type in the format and its bytes; `None` where the format has none.
fn name_of(dtype: DType) -> Option<(&'static str, usize)> {
    Some(match dtype {
        DType::F64 => ("F64", 8),
        DType::F32 | DType::Flex32 => ("F32", 4),
        DType::F16 => ("F16", 2),
        DType::BF16 => ("BF16", 2),
        DType::I64 => ("I64", 8),
        DType::I32 => ("I32", 4),
        DType::I16 => ("I16", 2),
        DType::I8 => ("I8", 1),
        DType::U64 => ("U64", 8),
        DType::U32 | DType::Bool(BoolStore::U32) => ("U32", 4),
        DType::U16 => ("U16", 2),
        DType::U8 | DType::Bool(BoolStore::U8) => ("U8", 1),
        DType::Bool(BoolStore::Native) => ("BOOL", 1),
        DType::QFloat(_) => return None,
    })
}

fn dtype_of(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::F64 => DType::F64,
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::I64 => DType::I64,
        Dtype::I32 => DType::I32,
        Dtype::I16 => DType::I16,
        Dtype::I8 => DType::I8,
        Dtype::U64 => DType::U64,
        Dtype::U32 => DType::U32,
        Dtype::U16 => DType::U16,
        Dtype::U8 => DType::U8,
        Dtype::BOOL => DType::Bool(BoolStore::Native),
        _ => return None,
    })
}

/// Writes tensors and a plan. Each tensor is read from its device when it is written.
pub(super) fn write(path: &Path, tensors: Vec<burn_pack::Tensor>, plan: &[u8]) -> Result<(), PruneError> {
    let mut entries = Vec::with_capacity(tensors.len() + 1);
    for tensor in tensors {
        let Some((dtype, element_bytes)) = name_of(tensor.dtype) else {
            return Err(quantised(tensor.name));
        };
        let (name, shape) = (tensor.name.clone(), tensor.shape.to_vec());
        let write = Box::new(move |body: &mut dyn io::Write| {
            let bytes = tensor.into_bytes().map_err(|error| io::Error::other(format!("{error:?}")))?;
            body.write_all(&bytes)
        });
        entries.push(TensorEntry { name, dtype, element_bytes, shape, write });
    }
    let (name, shape) = (PLAN.to_string(), vec![plan.len()]);
    let write = Box::new(|body: &mut dyn io::Write| body.write_all(plan));
    entries.push(TensorEntry { name, dtype: "U8", element_bytes: 1, shape, write });
    Ok(save_tensors(path, &FORMAT, entries).map_err(burn_sfp_core::SfpError::from)?)
}

/// Reads what [`write`] wrote: the values by path, the plan among them.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, TensorData>, FileError> {
    let file = open(path, &[&FORMAT])?;
    let tensors = SafeTensors::deserialize(file.bytes()).map_err(|error| file.invalid(error))?;
    let mut values = BTreeMap::new();
    for (name, view) in tensors.iter() {
        let Some(dtype) = dtype_of(view.dtype()) else {
            return Err(file.invalid(format!("`{name}` is of type {:?}", view.dtype())));
        };
        let bytes = Bytes::from_bytes_vec(view.data().to_vec());
        values.insert(name.to_string(), TensorData::from_bytes(bytes, view.shape().to_vec(), dtype));
    }
    Ok(values)
}
