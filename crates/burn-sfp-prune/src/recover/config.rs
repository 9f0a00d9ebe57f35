//! [`Recover`]: the settings.

use std::collections::BTreeSet;
use std::fmt;

use burn_sfp_core::Ridge;
use burn_sfp_nn::ConfigError;

/// A way to correct what is left of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RecoveryStep {
    /// Re-solves the remaining weights of each convolution and linear layer by least squares, with its bias.
    LeastSquares,
    /// Matches the mean output of each filter to the original's, by the bias or the running mean of the batch normalisation behind the
    /// layer.
    Means,
    /// Measures the running statistics of batch normalisations anew.
    Statistics,
}

impl fmt::Display for RecoveryStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LeastSquares => "least squares",
            Self::Means => "means",
            Self::Statistics => "batch-norm statistics",
        })
    }
}

/// Settings of the recovery without training ([`recover`](crate::recover)).
///
/// By default all steps are made. At each layer its weights are re-solved, then its mean is matched, then the statistics of
/// the normalisation behind it are measured; the layers after it see the result.
///
/// ```
/// use burn_sfp_prune::{Recover, RecoveryStep};
///
/// let statistics = Recover::only([RecoveryStep::Statistics]);
/// let gently = Recover::new().ridge(1e-2).patches(4096).without(RecoveryStep::Means);
/// assert!(gently.has(RecoveryStep::LeastSquares) && !statistics.has(RecoveryStep::LeastSquares));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Recover {
    steps: BTreeSet<RecoveryStep>,
    pub(super) ridge: Ridge,
    patches: Option<usize>,
    pub(super) columns: usize,
    pub(super) memory: u64,
    pub(super) keeps_zeros: bool,
}

impl Default for Recover {
    fn default() -> Self {
        Self::new()
    }
}

impl Recover {
    /// All steps.
    pub fn new() -> Self {
        Self::only([RecoveryStep::LeastSquares, RecoveryStep::Means, RecoveryStep::Statistics])
    }

    /// These steps alone. Their order is that of the layers.
    pub fn only(steps: impl IntoIterator<Item = RecoveryStep>) -> Self {
        Self {
            steps: steps.into_iter().collect(),
            ridge: Ridge::OfChange(1e-3),
            patches: None,
            columns: 4608,
            memory: 2 << 30,
            keeps_zeros: false,
        }
    }

    /// Leaves a step out.
    pub fn without(mut self, step: RecoveryStep) -> Self {
        self.steps.remove(&step);
        self
    }

    /// Whether a step is made.
    pub fn has(&self, step: RecoveryStep) -> bool {
        self.steps.contains(&step)
    }

    /// Sets the strength of the penalty on the change of weights, over the mean diagonal of the Gram matrix; 1e-3 by default. What the samples
    /// do not determine stays as it was trained.
    pub fn ridge(mut self, ridge: f64) -> Self {
        self.ridge = Ridge::OfChange(ridge);
        self
    }

    /// Sets the strength of a penalty on the weights themselves, instead of their change, in the same units.
    pub fn ridge_of_weights(mut self, ridge: f64) -> Self {
        self.ridge = Ridge::OfWeights(ridge);
        self
    }

    /// Sets how many patches (rows of X) of each batch the Gram matrix of a layer takes at the most. They are spread over the samples and
    /// positions of the batch, and follow from its number. By default all batches together give 16 for each column, and at least 16,384.
    /// Means are over all positions.
    pub fn patches(mut self, patches: usize) -> Self {
        self.patches = Some(patches);
        self
    }

    /// Patches that each of so many batches gives to a layer of so many columns.
    pub(super) fn patches_of(&self, columns: usize, batches: usize) -> usize {
        self.patches.unwrap_or_else(|| (16 * columns).max(16_384).div_ceil(batches.max(1)))
    }

    /// Sets the largest number of columns (inputs of a group times elements of the kernel) of a layer that is re-solved; 4,608 by default,
    /// 512 inputs of a 3x3 kernel. A layer of n columns and f filters takes `24 (n + f)^2` bytes while it is solved. Layers with more are
    /// left out of least squares, and the report names them.
    pub fn columns(mut self, columns: usize) -> Self {
        self.columns = columns;
        self
    }

    /// Sets how many bytes the activations of all samples may take between two layers, of the original and of the pruned network
    /// together; 2 GiB by default. Where the data need more, the first samples that fit are used; the report says how many.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = bytes;
        self
    }

    /// Sets whether weights that are exactly zero stay so, one by one, and not only removed connections and what the model's masks hold at
    /// zero: for weights that were removed singly, whatever removed them.
    ///
    /// ```
    /// use burn_sfp_prune::Recover;
    /// let unstructured = Recover::new().keep_zeros(true);
    /// ```
    pub fn keep_zeros(mut self, keep: bool) -> Self {
        self.keeps_zeros = keep;
        self
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let (Ridge::OfChange(ridge) | Ridge::OfWeights(ridge)) = self.ridge else { return Ok(()) };
        if !(ridge >= 0.0 && ridge.is_finite()) {
            return Err(ConfigError {
                name: "ridge of the recovery",
                found: ridge.to_string(),
                expected: "finite and at least 0",
            });
        }
        if self.patches == Some(0) {
            let expected = "at least 1";
            return Err(ConfigError { name: "patches of the recovery", found: "0".into(), expected });
        }
        Ok(())
    }
}
