//! Policies that rank filters, how they are combined, and how their scores are compared, against plain double precision.

#[path = "../common/draw.rs"]
mod draw;
#[path = "../common/inspect.rs"]
mod inspect;
#[path = "../common/small.rs"]
mod small;

mod combine;
mod cover;
mod scoring;
mod support;
mod weights;
