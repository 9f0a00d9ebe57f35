//! How scores of filters are compared: the settings of it.

use super::settings::Planner;
use crate::normalize::Normalizer;
use crate::reduce::Reduction;

impl Planner {
    /// Sets what is made of the scores of filters that are tied together; [`Reduction::Mean`] by default.
    ///
    /// ```
    /// use burn_sfp_prune::{Planner, Reduction};
    /// let planner = Planner::new().reduction(Reduction::Max);
    /// ```
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.scoring.reduction = reduction;
        self
    }

    /// Sets how the scores of a layer are scaled before they are compared with those of other layers. By default the policy's own
    /// way ([`Ranking::normalizer`](crate::Ranking::normalizer)), and [`Normalizer::Mean`] where it names none.
    ///
    /// ```
    /// use burn_sfp_prune::{Budget, Normalizer, Planner};
    /// let planner = Planner::new().budget(Budget::Global(0.4)).normalizer(Normalizer::Standard);
    /// ```
    pub fn normalizer(mut self, normalizer: Normalizer) -> Self {
        self.scoring.normalizer = Some(normalizer);
        self
    }
}
