//! Maps of samples and channels, in one piece of memory.

/// Maps of all samples, `[N, C, elements]`, row-major.
#[derive(Clone, Copy)]
pub(crate) struct Maps<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) channels: usize,
    /// Elements of a map.
    pub(crate) elements: usize,
}

impl<'a> Maps<'a> {
    /// Returns the map of a channel of a sample.
    pub(crate) fn map(self, sample: usize, channel: usize) -> &'a [f32] {
        &self.values[(sample * self.channels + channel) * self.elements..][..self.elements]
    }

    /// Returns the maps of a channel, sample after sample; none where they have no elements.
    pub(crate) fn of(self, channel: usize) -> impl Iterator<Item = &'a [f32]> {
        self.values.chunks_exact(self.elements.max(1)).skip(channel).step_by(self.channels.max(1))
    }
}

/// Returns the maps of each channel, sample after sample, to write to.
pub(crate) fn by_channel(values: &mut [f32], channels: usize, elements: usize) -> Vec<Vec<&mut [f32]>> {
    let mut all: Vec<Vec<&mut [f32]>> = (0..channels).map(|_| Vec::new()).collect();
    for (place, map) in values.chunks_exact_mut(elements.max(1)).enumerate() {
        all[place % channels].push(map);
    }
    all
}
