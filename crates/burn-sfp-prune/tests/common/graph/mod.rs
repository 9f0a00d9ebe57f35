//! Random computation graphs: a drawn list of steps ([`spec`]) is compiled once against real tensors ([`build`]) into a
//! program of calls ([`call`]), which the module interprets ([`net`], [`run`]). Everything that a forward pass of a smaller copy
//! needs to know it reads off its tensors and layers.

pub mod build;
pub mod call;
pub mod check;
pub mod fill;
pub mod heads;
#[path = "../inspect.rs"]
pub mod inspect;
pub mod layers;
pub mod net;
pub mod reshaping;
pub mod run;
pub mod spec;
pub mod tally;
pub mod value;
pub mod zeroing;
