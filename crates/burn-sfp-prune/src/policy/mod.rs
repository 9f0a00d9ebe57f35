//! What to keep: the [`RankingPolicy`] trait and the policies that come with the library, a file each.

mod afcc;
mod connections;
mod context;
mod kernels;
mod magnitude;
mod magnitude_connections;
mod norm;
mod random_afcc;
mod ranking;
mod sfp_ranking;

pub use afcc::Afcc;
pub use connections::Connections;
pub use context::PolicyContext;
pub use kernels::Kernels;
pub use magnitude::Magnitude;
pub use magnitude_connections::MagnitudeConnections;
pub use norm::Norm;
pub use random_afcc::RandomAfcc;
pub use ranking::{Ranking, RankingPolicy};
pub use sfp_ranking::SfpRanking;
