//! The sums of a part of the data, on the host: taken from the sweep of one device and added to that of all.

use ndarray::{Array2, Array3};

use super::pass::Sweep;
use crate::sums::{ClassSums, Gram};
use crate::{SfpError, SfpModule};

/// What a sweep summed since it was last taken from.
#[derive(Default)]
pub(super) struct Partial {
    /// Those of each target.
    pub targets: Vec<TargetSums>,
    /// Sums of the inputs that have probes of their own.
    pub inputs: Vec<Option<Array3<f64>>>,
    /// Samples of each label.
    pub counts: Vec<u64>,
    pub hits: usize,
    pub undefined: Option<SfpError>,
}

/// Class sums and Gram matrix of a target.
pub(super) struct TargetSums {
    pub sums: Option<Array3<f64>>,
    pub gram: Option<Array2<f64>>,
}

impl<M: SfpModule> Sweep<'_, M> {
    /// Takes the sums, after which they begin at zero again.
    pub fn take(&mut self) -> Result<Partial, SfpError> {
        let mut targets = Vec::with_capacity(self.targets.len());
        for target in &mut self.targets {
            let sums = target.sums.take().map(|sums| sums.into_host(&target.path)).transpose()?;
            let gram = target.gram.take().map(Gram::into_host).transpose()?;
            targets.push(TargetSums { sums, gram });
        }
        let mut inputs = Vec::with_capacity(self.inputs.own.len());
        for input in &mut self.inputs.own {
            inputs.push(input.take()?);
        }
        let (counts, hits) = (self.counts.take_current(), std::mem::take(&mut self.hits));
        Ok(Partial { targets, inputs, counts, hits, undefined: self.undefined.take() })
    }

    /// Adds what was taken from a sweep of the same network with the same settings.
    pub fn add(&mut self, part: Partial) -> Result<(), SfpError> {
        for (target, TargetSums { sums, gram }) in self.targets.iter_mut().zip(part.targets) {
            ClassSums::merge(&mut target.sums, sums, &target.path)?;
            Gram::merge(&mut target.gram, gram)?;
        }
        for (input, sums) in self.inputs.own.iter_mut().zip(part.inputs) {
            input.merge(sums)?;
        }
        self.counts.add_counts(&part.counts);
        self.hits += part.hits;
        self.undefined = self.undefined.take().or(part.undefined);
        Ok(())
    }
}
