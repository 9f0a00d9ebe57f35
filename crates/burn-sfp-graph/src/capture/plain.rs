//! Names of the tensors that a module holds besides its parameters.
//!
//! Burn visits parameters only. The field that holds another tensor shows when the module is printed for debugging, where fields come in
//! the order in which Burn moves them to a device.

use std::collections::BTreeMap;

use burn::backend::ir::TensorId;

use crate::graph::Graph;

/// What to call each of these tensors of a module, which are in the order in which it holds them: its path, or its shape where the module
/// does not print as many tensors. `printed` is the module as `{:?}` prints it.
pub(super) fn described(graph: &Graph, plain: &[TensorId], printed: &str) -> BTreeMap<TensorId, String> {
    let paths = tensor_paths(printed);
    let shape = |id: &TensorId| graph.values.get(id).map(|data| data.shape().to_vec()).unwrap_or_default();
    let describe = |(index, id): (usize, &TensorId)| match paths.get(index).filter(|_| paths.len() == plain.len()) {
        Some(path) => (*id, format!("`{path}`, a tensor")),
        None => (*id, format!("a tensor of shape {:?}", shape(id))),
    };
    plain.iter().enumerate().map(describe).collect()
}

/// A struct, tuple or list that is open in a text.
struct Open {
    /// The field that holds it.
    name: Option<String>,
    /// The index of the next element of a list.
    element: Option<usize>,
}

/// The paths of the values `Tensor { .. }` in a text as `#[derive(Debug)]` writes it. Parameters are written as `Param: ..`.
fn tensor_paths(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    let (mut word, mut field) = (String::new(), None);
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            _ if c.is_alphanumeric() || c == '_' => {
                word.push(c);
                continue;
            }
            ':' if characters.peek() == Some(&' ') => field = Some(std::mem::take(&mut word)),
            '{' | '(' | '[' => {
                let element = open.last().and_then(|list| list.element).map(|index| index.to_string());
                let name = field.take().or(element);
                if c == '{' && word == "Tensor" {
                    let path = open.iter().filter_map(|open| open.name.as_deref()).chain(name.as_deref());
                    found.push(path.collect::<Vec<_>>().join("."));
                    skip(&mut characters);
                } else {
                    open.push(Open { name, element: (c == '[').then_some(0) });
                }
            }
            '}' | ')' | ']' => drop(open.pop()),
            ',' => {
                field = None;
                if let Some(Open { element: Some(element), .. }) = open.last_mut() {
                    *element += 1;
                }
            }
            '"' => quoted(&mut characters),
            // The name of a type stands before its brace with a space.
            ' ' if characters.peek() == Some(&'{') => continue,
            _ => {}
        }
        word.clear();
    }
    found
}

/// Passes over everything up to the brace that closes.
fn skip(characters: &mut impl Iterator<Item = char>) {
    let mut depth = 1;
    while depth > 0 {
        match characters.next() {
            Some('{' | '(' | '[') => depth += 1,
            Some('}' | ')' | ']') => depth -= 1,
            Some('"') => quoted(characters),
            Some(_) => {}
            None => return,
        }
    }
}

/// Passes over a text in quotes.
fn quoted(characters: &mut impl Iterator<Item = char>) {
    while let Some(c) = characters.next() {
        match c {
            '\\' => drop(characters.next()),
            '"' => return,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::{Module, Param};
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::{Device, Tensor};

    #[derive(Module, Debug)]
    struct Frozen {
        scale: Tensor<1>,
        shift: Option<Tensor<1>>,
        text: String,
    }

    #[derive(Module, Debug)]
    struct Net {
        first: Linear,
        norms: Vec<Frozen>,
        pair: (Tensor<2>, usize),
        gamma: Param<Tensor<1>>,
        list: Vec<Tensor<1>>,
        last: Linear,
    }

    #[test]
    fn fields_are_found_in_what_a_module_prints() {
        let device = Device::flex();
        let ones = || Tensor::ones([2], &device);
        let frozen = |text: &str| Frozen { scale: ones(), shift: Some(ones()), text: text.into() };
        let bare = Frozen { shift: None, ..frozen("") };
        let net = Net {
            first: LinearConfig::new(2, 2).init(&device),
            norms: vec![frozen("a {quoted: Tensor { \"text\", ["), bare],
            pair: (Tensor::ones([2, 2], &device), 3),
            gamma: Param::from_tensor(ones()),
            list: vec![ones(), ones()],
            last: LinearConfig::new(2, 2).init(&device),
        };
        let paths = ["norms.0.scale", "norms.0.shift", "norms.1.scale", "pair", "list.0", "list.1"];
        assert_eq!(tensor_paths(&format!("{net:?}")), paths);
        assert!(tensor_paths("Net { a: ").is_empty());
    }
}
