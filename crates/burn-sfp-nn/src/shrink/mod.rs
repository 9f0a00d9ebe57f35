//! [`Shrink`]: plain fields that follow when parameters lose channels, such as `groups` of a convolution or channel counts of a
//! normalisation.
//!
//! A [`ModuleMapper`](burn::module::ModuleMapper) reaches parameters only. A network whose layers keep counts in plain fields derives
//! [`Shrink`], which visits every layer under the names that Burn's `Module` uses.

#[doc(hidden)]
pub mod derive;
mod layers;
mod scope;

pub use scope::{AxisChange, FieldEdit, Removable, Scope};

/// A module, or a part of one, whose plain fields follow when its parameters have lost channels.
///
/// `#[derive(Shrink)]` passes the call on to every field that implements it. Burn's layers, `Vec`, arrays, tuples and `Option` do.
/// A layer of your own that keeps counts in plain fields implements it by hand; the parameters have their new shapes when it is
/// called.
///
/// Elements of a `Vec` and what an `Option` holds can be left out as a whole ([`Removable`]): residual blocks, for example.
///
/// ```
/// use burn::prelude::*;
/// use burn::nn::Linear;
/// use burn_sfp_nn::{Scope, Shrink};
///
/// /// Attention with `heads` heads of `width` dimensions each.
/// #[derive(Module, Debug)]
/// struct Heads { qkv: Linear, heads: usize, width: usize }
///
/// impl Shrink for Heads {
///     fn shrink(&mut self, _scope: &mut Scope<'_>) {
///         self.heads = self.qkv.weight.dims()[1] / (3 * self.width);
///     }
/// }
///
/// #[derive(Module, Debug, Shrink)]
/// struct Block { attention: Heads, output: Linear }
/// ```
pub trait Shrink {
    /// Updates the plain fields. `scope` says where in the module the call is and what changes there.
    fn shrink(&mut self, scope: &mut Scope<'_>);
}
