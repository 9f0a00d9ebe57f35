//! One description for each operation, in the file of its family. [`describe`] finds it.
//!
//! An operation that no family describes is not followed: its inputs' channels stay, with a reason that names it, and its multiply-adds
//! are reported as unknown ([`Network::uncounted`](crate::Network::uncounted)).

pub(crate) mod convolution;
mod creation;
pub(crate) mod description;
mod elementwise;
pub(crate) mod indexing;
pub(crate) mod matmul;
pub(crate) mod name;
pub(crate) mod normalization;
pub(crate) mod plain;
mod pooling;
mod reduction;
pub(crate) mod reshape;
mod shape;

use burn::backend::ir::OperationIr;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use crate::channels::context::Context;
use crate::layers::kind::LayerKind;
use description::{Described, Family};

/// All families. The order does not matter: no operation belongs to two of them.
const FAMILIES: [&Family; 9] = [
    &convolution::FAMILY,
    &matmul::FAMILY,
    &normalization::FAMILY,
    &pooling::FAMILY,
    &shape::FAMILY,
    &indexing::FAMILY,
    &reduction::FAMILY,
    &elementwise::FAMILY,
    &creation::FAMILY,
];

/// The description of an operation, `None` where no family knows it.
pub(crate) fn describe(op: &OperationIr) -> Option<Described<'_>> {
    FAMILIES.iter().find_map(|family| (family.read)(op))
}

/// Passes the channels of the network's operation number `index` on to its outputs.
pub(crate) fn flow(op: &OperationIr, index: usize, context: &mut Context) {
    match describe(op) {
        Some(described) => {
            described.flow(context);
            let non_negative = described.non_negative(context);
            for output in op.outputs() {
                let rank = output.shape.num_dims();
                let zero = (0..rank).filter(|&axis| described.zero_along(axis, context)).collect::<Vec<_>>();
                context.zero.extend(zero.into_iter().map(|axis| (output.id, axis)));
                if non_negative {
                    context.non_negative.insert(output.id);
                }
            }
        }
        None => {
            let reason = format!("operation {index} ({}) is not followed", name::name(op));
            for input in op.inputs() {
                context.pin(input, &reason);
            }
        }
    }
    for output in op.outputs() {
        // What an operation sets no ids for carries no channel.
        context.tensors.entry(output.id).or_insert_with(|| vec![None; output.shape.num_dims()]);
    }
}

impl<'de> Deserialize<'de> for LayerKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let mut kinds = FAMILIES.iter().flat_map(|family| family.kinds);
        kinds
            .find(|kind| kind.name() == name)
            .copied()
            .ok_or_else(|| D::Error::custom(format!("no layer kind `{name}`")))
    }
}

#[cfg(test)]
mod tests {
    use super::description::Role;
    use super::*;
    use burn::backend::ir::{ActivationOperationIr, TensorId, TensorIr, UnaryOpIr};
    use burn::backend::{DType, Shape};

    #[test]
    fn names_are_short() {
        let tensor = |id| TensorIr::uninit(TensorId::new(id), Shape::new([1]), DType::F32);
        let op = OperationIr::Activation(ActivationOperationIr::Relu(UnaryOpIr { input: tensor(0), out: tensor(1) }));
        assert_eq!(name::name(&op), "Relu");
        assert_eq!(describe(&op).unwrap().role(), Role::Activation);
    }

    #[test]
    fn kinds_of_layers_are_read_back_by_name() {
        let kinds: Vec<LayerKind> = FAMILIES.iter().flat_map(|family| family.kinds).copied().collect();
        assert_eq!(kinds.len(), 8);
        for kind in kinds {
            let text = serde_json::to_string(&kind).unwrap();
            assert_eq!(text, format!("\"{kind}\""));
            assert_eq!(serde_json::from_str::<LayerKind>(&text).unwrap(), kind);
        }
        assert!(serde_json::from_str::<LayerKind>("\"conv9d\"").is_err());
    }
}
