//! Policies made of other policies, a file each, and [`PolicyExt`], which makes them by method.

mod among;
mod blocks;
mod ext;
mod fallback;
mod part;
mod product;
mod rank_average;
mod restrict;
mod weighted_sum;

pub use among::Among;
pub use blocks::{BlockScore, WithBlocks};
pub use ext::PolicyExt;
pub use fallback::Fallback;
pub use product::Product;
pub use rank_average::RankAverage;
pub use restrict::Restrict;
pub use weighted_sum::WeightedSum;
