//! Carrying out a plan: from a module to a smaller module of the same type.
//!
//! The plan names parameters and axes, so that one mapper serves every kind of layer; how channels run through operations is
//! described once, in `burn-sfp-graph`.
//!
//! | what | where |
//! | --- | --- |
//! | [`PrunePlan::apply`](crate::PrunePlan::apply) | `apply` |
//! | [`PrunePlan::zeroed`](crate::PrunePlan::zeroed) | `zeroed` |
//! | [`PrunePlan::mask`](crate::PrunePlan::mask), [`unmask`] | `masked` |
//! | the check of a model and a plan before anything is changed | `check` |
//! | means taken out of what writes to a stream | `center` |
//! | parameters made smaller: indices selected, values added, factors multiplied | `resize` |
//! | parameters set to zero where they are removed | `zero` |
//! | whether a model is the one that a plan made | `made_by` |
//! | a plan's masks as keep masks | `keep` |
//! | bias corrections, as values to add | `bias` |
//! | bias corrections that were measured on other weights | `other_weights` |
//! | plain fields that change with the shapes | `fields` |
//! | the smaller module without values, to see whether it runs | `sketch` |
//! | copies that leave the original as it is | `copy` |
//! | a plan compared with what follows from the channels that it removes | `derived` |
//! | applying a plan and comparing the captured result with it | `carry_out` |

mod apply;
mod bias;
mod carry_out;
mod center;
mod check;
mod copy;
mod derived;
mod fields;
mod keep;
mod made_by;
mod masked;
mod other_weights;
mod resize;
mod sketch;
mod zero;
mod zeroed;

pub use carry_out::PrunedModule;
pub(crate) use carry_out::{carry_out, unsettled};
pub(crate) use check::{check_shapes, shapes_of};
pub(crate) use copy::{guarded, on_copy};
pub(crate) use keep::masks_of_smaller;
pub(crate) use made_by::{in_format, made_by};
pub use masked::unmask;
pub use other_weights::{Applied, ApplyConfig, OtherWeights};
pub(crate) use sketch::sketch;
pub(crate) use zero::zero;
