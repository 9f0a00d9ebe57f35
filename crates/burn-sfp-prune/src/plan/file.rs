//! Saving and loading plans.

use std::path::Path;

use burn_sfp_core::SfpError;
use burn_sfp_graph::file::{Format, load_json, save_json};

use super::{PLAN_VERSION, PrunePlan};
use crate::PruneError;

const FORMAT: Format =
    Format { name: "burn-sfp pruning plan", what: "a pruning plan", version: PLAN_VERSION, advice: "plan again" };

impl PrunePlan {
    /// Writes the plan as JSON with a checksum.
    ///
    /// The file appears whole or not at all, also if the process is killed or another one saves to the same path meanwhile. Symbolic links
    /// are followed, and a file that is replaced keeps its mode.
    ///
    /// # Errors
    /// [`PruneError::InvalidPlan`] if [`check`](PrunePlan::check) fails, [`SfpError::File`] if the file cannot be written, or
    /// something else than a regular file is at the path.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), PruneError> {
        self.check()?;
        Ok(save_json(path.as_ref(), &FORMAT, self).map_err(SfpError::from)?)
    }

    /// Reads a plan from a file.
    ///
    /// # Errors
    /// [`SfpError::File`] if the file is missing, truncated, damaged, foreign or of another version, and
    /// [`PruneError::InvalidPlan`] if [`check`](PrunePlan::check) fails.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, PruneError> {
        let plan: Self = load_json(path.as_ref(), &FORMAT).map_err(SfpError::from)?;
        plan.check()?;
        Ok(plan)
    }
}
