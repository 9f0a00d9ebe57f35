//! [`Candidate`]: what can be removed in one step.

use burn_sfp_graph::ChannelId;

use super::depth::BlockCandidate;

/// What is removed in one step: channels, or a whole block.
#[derive(Clone, Debug)]
pub(super) enum Candidate<'a> {
    Channels(Vec<ChannelId>),
    Block(&'a BlockCandidate),
}

impl Candidate<'_> {
    /// How many channels go with it.
    pub fn channels(&self) -> usize {
        match self {
            Self::Channels(channels) => channels.len(),
            Self::Block(block) => block.inside.len(),
        }
    }
}
