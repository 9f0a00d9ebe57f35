//! From plans to a smaller module that runs: what the module does not follow stays, and the plan says why.
//!
//! A module may store a width, write it into a reshape, keep a count of groups in a field that nobody can reach. Fields are known from the
//! capture; channels that they count stay from the start ([`Kept::of`]). Everything else shows when the smaller module runs. It is tried with
//! parameters of the planned shapes and no values ([`trial`]), which costs no more than recording a forward pass, and the groups of layers
//! that it does not follow are found by leaving some out ([`search`]).

mod search;
mod trial;

use burn_sfp_graph::GraphModule;

use crate::kept::Kept;
use crate::rewrite::{PrunedModule, carry_out};
use crate::target::Target;
use crate::{PruneError, PrunePlan};
use search::Search;
use trial::Failure;

/// Plans and rewrites, and leaves alone what the module does not follow. `plan` makes the plan without the channels that have to stay.
pub(crate) fn fit<M: GraphModule>(
    target: &Target<'_, M>,
    plan: impl Fn(&Kept) -> Result<PrunePlan, PruneError>,
) -> Result<PrunedModule<M>, PruneError> {
    let mut kept = Kept::of(target.network);
    loop {
        let made = plan(&kept)?;
        let channels = made.channels.clone();
        let failure = match carry_out(target, made) {
            Ok(pruned) => return Ok(pruned),
            Err(error) => Failure::of(error)?,
        };
        let found = Search::new(target, &kept, &channels).run(failure)?;
        kept.extend(found);
    }
}
