//! From plans to a smaller module that runs: what the module does not follow stays, and the plan says why.
//!
//! A module may store a width, write it into a reshape, keep a count of groups in a field that nobody can reach. Fields are known from the
//! capture; channels that they count stay from the start ([`Kept::of`]). Everything else shows when the smaller module runs. It is tried with
//! parameters of the planned shapes and no values ([`trial`]), which costs no more than recording a forward pass, and the groups of layers
//! that it does not follow are found by leaving some out ([`search`]).
//!
//! Splits into unequal parts are tried first with parts that shrink each by itself, which is right where their sizes are the widths of the
//! layers behind them. Where the module does not follow that, the parts shrink alike.

mod advice;
mod blocks;
mod search;
mod trial;

use std::collections::BTreeSet;

use burn_sfp_graph::Network;

use crate::kept::Kept;
use crate::rewrite::carry_out;
use crate::target::Rewritten;
use crate::{PruneError, PrunePlan};
use advice::advised;
use blocks::blocks_that_stay;
use search::Search;
use trial::Failure;

/// Makes the plan for a network without the channels that have to stay.
type MakePlan<'a> = &'a dyn Fn(&Network, &Kept) -> Result<PrunePlan, PruneError>;

/// Plans and rewrites, and leaves alone what the module does not follow, unless `strict`. The smaller module is that of the plan that is
/// returned.
pub(crate) fn fit(
    network: &Network,
    module: &mut dyn Rewritten,
    strict: bool,
    plan: MakePlan<'_>,
) -> Result<PrunePlan, PruneError> {
    let mut free = network.uneven_splits();
    let mut tied: BTreeSet<usize> = BTreeSet::new();
    loop {
        let own = (!free.is_empty()).then(|| network.with_free_splits(&free));
        match with_free_splits(own.as_ref().unwrap_or(network), module, strict, &free, plan)? {
            Fitted::Done(plan) => return Ok(*plan),
            Fitted::Tied(splits) => {
                // Where a second split into the same parts is not followed, none of other blocks will be.
                let alike = network.slices_like(&splits);
                let again = !alike.is_disjoint(&tied);
                tied.extend(if again { &alike } else { &splits });
                free = &free - &tied;
            }
        }
    }
}

/// What came of a plan with splits whose parts shrink each by itself.
enum Fitted {
    Done(Box<PrunePlan>),
    /// The module does not follow the plan there: the parts of these splits have to shrink alike.
    Tied(BTreeSet<usize>),
}

fn with_free_splits(
    network: &Network,
    module: &mut dyn Rewritten,
    strict: bool,
    free: &BTreeSet<usize>,
    plan: MakePlan<'_>,
) -> Result<Fitted, PruneError> {
    let mut kept = if strict { Kept::default() } else { Kept::of(network) };
    loop {
        let mut made = match plan(network, &kept) {
            Err(_) if !free.is_empty() => return Ok(Fitted::Tied(free.clone())),
            made => made?,
        };
        if !free.is_empty() {
            made.free_splits = free.iter().copied().collect();
            made.seal();
        }
        let channels = made.channels.clone();
        let parts = made.blocks.clone();
        let failure = match carry_out(network, module, made) {
            Ok(plan) => return Ok(Fitted::Done(Box::new(plan))),
            Err(error) => Failure::of(error)?,
        };
        if !parts.is_empty() && !strict {
            let stay = blocks_that_stay(network, module, &parts)?;
            if !stay.is_empty() {
                kept.add_blocks(stay);
                continue;
            }
        }
        let tied = network.free_splits_at(failure.operation);
        if !tied.is_empty() {
            return Ok(Fitted::Tied(tied));
        }
        if strict {
            return Err(advised(network, &channels, failure));
        }
        let omitted = network.omit(parts.iter().map(|part| part.path.as_str()))?;
        let found = Search::new(network, (&*module, &omitted), &kept, &channels).run(failure)?;
        // What would stay may leave where the parts shrink alike.
        let tied = network.free_splits_of(&found.channels());
        if !tied.is_empty() {
            return Ok(Fitted::Tied(tied));
        }
        kept.extend(found);
    }
}
