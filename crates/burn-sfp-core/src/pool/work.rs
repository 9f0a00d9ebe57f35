//! [`ChunkWork`]: what devices do with chunks of batches.

use std::fmt::Display;

use burn::tensor::Device;
use burn_sfp_graph::GraphError;

use crate::parts::MayLackMemory;
use crate::{Batch, SfpError, SfpModule};

/// An error of a chunk.
pub trait ChunkError: From<SfpError> + MayLackMemory + Display + Send + 'static {
    /// Whether the chunk would fail on another device, too.
    fn is_of_data(&self) -> bool;
}

impl ChunkError for SfpError {
    fn is_of_data(&self) -> bool {
        match self {
            Self::Batch { .. } | Self::Device { .. } | Self::Layer(_) => false,
            Self::Graph(error) => matches!(error, GraphError::GraphChanges { .. }),
            _ => true,
        }
    }
}

/// What a device does with chunks. It belongs to the devices' threads, of which one may be left behind.
pub trait ChunkWork<M: SfpModule>: Send + Sync + 'static {
    /// What a device keeps between chunks.
    type State<'m>
    where
        M: 'm;
    /// What comes out of a chunk, whatever chunks the device had before it.
    type Part: Send + 'static;
    /// What can go wrong.
    type Error: ChunkError;

    /// Gets a device ready.
    ///
    /// # Errors
    /// Those of the work.
    fn start<'m>(&'m self, model: &'m M, device: &Device) -> Result<Self::State<'m>, Self::Error>;

    /// Works on a batch of a chunk, which is `index` batches into its pass; what comes out of it stays on the device.
    ///
    /// # Errors
    /// Those of the work.
    fn run(&self, state: &mut Self::State<'_>, index: usize, batch: &Batch<M::Inputs>) -> Result<(), Self::Error>;

    /// Takes what came out of the chunk.
    ///
    /// # Errors
    /// Those of the work.
    fn take(&self, state: &mut Self::State<'_>) -> Result<Self::Part, Self::Error>;
}
