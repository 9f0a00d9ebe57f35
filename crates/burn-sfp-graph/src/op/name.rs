//! Names of operations, for error messages.

use std::fmt::Write;

use burn::backend::ir::OperationIr;

/// The operation's name without its operands, for example `Conv2d`.
pub(crate) fn name(op: &OperationIr) -> String {
    let mut text = Head::default();
    // An error means that nothing more is needed.
    let _ = write!(text, "{op:?}");
    let Head(text) = text;
    let inner = text.split('(').nth(1).unwrap_or(&text);
    inner.rsplit(", ").next().unwrap_or(inner).split([' ', '{']).next().unwrap_or(inner).to_string()
}

/// Text up to its second parenthesis.
#[derive(Default)]
struct Head(String);

impl Write for Head {
    fn write_str(&mut self, more: &str) -> std::fmt::Result {
        self.0.push_str(more);
        if self.0.matches('(').nth(1).is_some() { Err(std::fmt::Error) } else { Ok(()) }
    }
}
