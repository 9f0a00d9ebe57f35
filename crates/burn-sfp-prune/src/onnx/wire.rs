//! Lists of numbers as ONNX's schema encodes them.
//!
//! The schema is of protobuf's second version, whose lists have a key before every number; burn-onnx packs them under one key, as the third
//! version does. Official readers take both, smaller ones (rten) only the former.

/// Messages on the way to lists of numbers.
#[derive(Clone, Copy)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
}

/// What a field of a message holds.
enum Field {
    Message(Message),
    Integers,
    Other,
}

impl Message {
    /// By the numbers of onnx.proto.
    fn field(self, number: u64) -> Field {
        match (self, number) {
            (Self::Model, 7) => Field::Message(Self::Graph),
            (Self::Graph, 1) => Field::Message(Self::Node),
            (Self::Graph, 5) | (Self::Attribute, 5) => Field::Message(Self::Tensor),
            (Self::Node, 5) => Field::Message(Self::Attribute),
            // `ints` and `dims`.
            (Self::Attribute, 8) | (Self::Tensor, 1) => Field::Integers,
            _ => Field::Other,
        }
    }
}

/// How a value is encoded: as a number of variable length, as 8 bytes, with its length before it, as 4 bytes.
const NUMBER: u64 = 0;
const EIGHT: u64 = 1;
const BYTES: u64 = 2;
const FOUR: u64 = 5;

/// Returns an encoded `ModelProto` with a key before every number of a list; `None` where it is no such message.
pub(super) fn unpacked(model: &[u8]) -> Option<Vec<u8>> {
    rewritten(model, Message::Model)
}

fn rewritten(mut bytes: &[u8], message: Message) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 8);
    while !bytes.is_empty() {
        let before = bytes;
        let key = number(&mut bytes)?;
        let length = match key & 7 {
            NUMBER => number(&mut bytes).map(|_| 0),
            EIGHT => Some(8),
            FOUR => Some(4),
            BYTES => number(&mut bytes).and_then(|length| usize::try_from(length).ok()),
            _ => None,
        }?;
        let mut value = bytes.split_off(..length)?;
        let field = if key & 7 == BYTES { message.field(key >> 3) } else { Field::Other };
        match field {
            Field::Message(inner) => {
                let inner = rewritten(value, inner)?;
                put(&mut out, key);
                put(&mut out, inner.len() as u64);
                out.extend(inner);
            }
            Field::Integers => {
                while !value.is_empty() {
                    put(&mut out, key & !7 | NUMBER);
                    put(&mut out, number(&mut value)?);
                }
            }
            Field::Other => out.extend(&before[..before.len() - bytes.len()]),
        }
    }
    Some(out)
}

/// Takes a number from the front: seven bits a byte, the lowest first.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use onnx_ir::{AttributeProto, Message as _, ModelProto, NodeProto, TensorProto};

    fn model() -> ModelProto {
        let tensor = TensorProto { dims: vec![3, 0, 300, -1], raw_data: vec![7; 1000].into(), ..Default::default() };
        let attribute = AttributeProto { ints: vec![1, -2, i64::MAX], f: 1.5, i: -4, ..Default::default() };
        let node = NodeProto { name: "node".into(), attribute: vec![attribute], ..Default::default() };
        let mut model = ModelProto { ir_version: 8, ..Default::default() };
        let graph = model.graph.mut_or_insert_default();
        (graph.node, graph.initializer) = (vec![node], vec![tensor]);
        model
    }

    #[test]
    fn the_same_model_in_another_encoding() {
        let packed = model().write_to_bytes().unwrap();
        let unpacked = unpacked(&packed).unwrap();
        assert_ne!(unpacked, packed);
        assert_eq!(ModelProto::parse_from_bytes(&unpacked).unwrap(), model());
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let packed = model().write_to_bytes().unwrap();
        for length in 1..packed.len() {
            // Cut at the end of a field, a message is a shorter one.
            if let Some(shorter) = unpacked(&packed[..length]) {
                assert!(ModelProto::parse_from_bytes(&shorter).is_ok(), "{length}");
            }
        }
        assert_eq!(unpacked(&[0xff; 12]), None);
    }
}
