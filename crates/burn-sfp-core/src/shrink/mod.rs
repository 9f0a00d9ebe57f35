//! Plain fields that follow when parameters shrink: `groups` of a convolution, channel counts of a normalisation.
//!
//! A [`ModuleMapper`](burn::module::ModuleMapper) reaches parameters only. Networks whose layers keep such counts in plain
//! fields derive [`Shrink`], which walks to every layer by the same names as Burn's `Module`.

#[doc(hidden)]
pub mod derive;
mod layers;
mod scope;

pub use scope::{AxisChange, FieldEdit, Scope};

/// A module, or a part of one, whose plain fields can follow when its parameters have shrunk.
///
/// `#[derive(Shrink)]` passes the call on to every field that can shrink. Burn's layers, `Vec`, arrays, tuples and
/// `Option` are done here. A layer of one's own that keeps counts in plain fields implements it by hand: when it is
/// called the parameters have their new shapes already.
///
/// ```
/// use burn::prelude::*;
/// use burn::nn::Linear;
/// use burn_sfp_core::{Scope, Shrink};
///
/// /// Attention that keeps the number of its heads, each `width` wide.
/// #[derive(Module, Debug)]
/// struct Heads { qkv: Linear, heads: usize, width: usize }
///
/// impl Shrink for Heads {
///     fn shrink(&mut self, _scope: &mut Scope<'_>) {
///         self.heads = self.qkv.weight.dims()[1] / (3 * self.width);
///     }
/// }
/// ```
pub trait Shrink {
    /// Lets the plain fields follow. `scope` knows where in the module this is and which fields change there.
    fn shrink(&mut self, scope: &mut Scope<'_>);
}
