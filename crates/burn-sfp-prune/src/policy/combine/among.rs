//! [`Among`]: one policy chooses among the connections that another one keeps.

use super::super::choice::{ConnectionPolicy, choose_among};
use super::super::context::PolicyContext;
use super::super::ranking::{Ranking, RankingPolicy};
use super::part::Part;
use crate::PruneError;
use crate::evidence::Needs;

/// One policy chooses among the connections that another one keeps.
///
/// As many connections stay as `chooser` is asked for ([`ConnectionChoice`](crate::ConnectionChoice)), of the layers that it is told. Those that
/// `keeper` keeps come first, in the order of `chooser`'s scores: where `keeper` keeps more, the lowest of them go too; where it keeps fewer,
/// the highest of those that it removed come back. A layer for which `keeper` has no mask is `chooser`'s alone. Scores that `keeper` has for
/// filters are not used.
///
/// ```
/// use burn_sfp_prune::{Afcc, MagnitudeConnections, PolicyExt, RankingPolicy, ReconstructionConnections};
/// // AFCC says which filters may connect, the size of the kernels which of them matter.
/// let layers = ["convs.8", "convs.9"];
/// let policy = MagnitudeConnections::l2().layers(layers).removing(0.9).among(Afcc::new().layers(layers));
/// assert_eq!(policy.name(), "magnitude-connections-l2 among afcc");
/// // Or how much of what the layer returned they explain together.
/// let policy = ReconstructionConnections::new().layers(layers).removing(0.9).among(Afcc::new().layers(layers));
/// ```
pub struct Among<'a> {
    chooser: Box<dyn ConnectionPolicy + 'a>,
    keeper: Part<'a>,
}

impl std::fmt::Debug for Among<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Among").field("chooser", &self.chooser.name()).field("keeper", &self.keeper).finish()
    }
}

impl<'a> Among<'a> {
    /// Creates the policy `chooser`, among the connections that `keeper` keeps.
    pub fn new(chooser: impl ConnectionPolicy + 'a, keeper: impl RankingPolicy + 'a) -> Self {
        Self { chooser: Box::new(chooser), keeper: Part::new(keeper) }
    }
}

impl RankingPolicy for Among<'_> {
    fn name(&self) -> String {
        format!("{} among {}", self.chooser.name(), self.keeper.name())
    }

    fn needs(&self) -> Needs {
        self.chooser.needs().and(self.keeper.needs())
    }

    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        let kept = self.keeper.rank(context)?;
        choose_among(&*self.chooser, &kept.connections, context)
    }
}
