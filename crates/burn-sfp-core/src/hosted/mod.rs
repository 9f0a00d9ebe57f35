//! The analysis' kernels on the server of a remote device (feature `remote`).
//!
//! A remote device runs Burn's operations, and so does the analysis on it: its sums are in the device's `f32`. A server that was made by
//! `server` (feature `remote-server`) hosts class sums and Gram matrices as custom operations besides, in double precision on its CPU; a client
//! that has called [`enable`] has them run there. What leaves the server is the same.
//!
//! | what | where |
//! | --- | --- |
//! | the server's side | `server` |
//! | the client's side | [`enable`] |

mod client;
#[cfg(all(feature = "remote-server", any(feature = "flex", feature = "ndarray", feature = "wgpu")))]
mod server;

pub(crate) use client::Hosted;
pub use client::enable;
#[cfg(all(feature = "remote-server", any(feature = "flex", feature = "ndarray", feature = "wgpu")))]
pub use server::server;

/// What the custom operations are called, for the server and for the client.
mod ops {
    /// Without inputs; returns [`VERSION`] and whether sums are in double precision.
    pub(super) const KERNELS: &str = "burn_sfp.kernels";
    /// Activations `[N, F, S]`, labels `[N]` and, but for the first batch, the sums so far, `[C, F, S]`.
    pub(super) const CLASS_SUMS: &str = "burn_sfp.class_sums";
    /// Activations `[N, F]` and, but for the first batch, the lower triangle of the matrix so far, `[F, F]`.
    pub(super) const GRAM: &str = "burn_sfp.gram";
    /// Changes with what an operation takes or returns.
    pub(super) const VERSION: f32 = 1.0;
}
