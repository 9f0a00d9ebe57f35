//! [`select`]: offers channels for removal in the order of their scores, until a stop rule says stop.
//!
//! | what | where |
//! | --- | --- |
//! | how few and how many filters a group keeps, and in which steps | `bounds` |
//! | groups of the same role in repeated blocks | `classes` |
//! | the channels of a group in steps, the lowest scores first | `lane` |
//! | what can be removed in one step: channels or a block | `candidate` |
//! | whole residual blocks as candidates | `depth` |
//! | lanes that are compared with each other, and the next step of all | `queue` |
//! | what is removed so far, and taking a step back | `removal` |

mod bounds;
mod candidate;
mod classes;
mod depth;
mod lane;
mod queue;
mod removal;

pub(crate) use bounds::Bounds;
pub(crate) use depth::{BlockCandidate, candidates};

use std::collections::{BTreeMap, BTreeSet};

use burn_sfp_graph::{ChannelId, Network};

use crate::PruneError;
use crate::budget::{RemovalOrder, StopRule};
use crate::group::{Group, GroupCut, Groups};
use crate::kept::Kept;
use lane::Lane;
use queue::Queue;
use removal::Removal;

/// Which channels may be removed.
pub(crate) struct Eligible<'a> {
    /// The score of each ranked channel; others stay.
    pub scores: &'a BTreeMap<ChannelId, f64>,
    /// The coordinate that is cut where filters have two.
    pub cut: GroupCut,
    /// Channels of excluded layers, which stay.
    pub excluded: &'a BTreeSet<ChannelId>,
    /// Channels that stay because the module does not follow. A share of the candidates counts them, so that the others make up for them.
    pub kept: &'a Kept,
    /// For each group how much of it stays.
    pub bounds: &'a [Bounds],
    /// Blocks that may be left out whole.
    pub blocks: &'a [BlockCandidate],
    /// The policy that scored them, for messages.
    pub policy: &'a str,
}

/// Returns the channels (atoms) to remove, and the blocks to leave out by their indices: the lowest scores first, as long as the rule does not stop. Every axis of every
/// parameter and every group keeps at least one channel.
pub(crate) fn select(
    network: &Network,
    groups: &Groups,
    eligible: &Eligible<'_>,
    rule: &dyn StopRule,
) -> Result<(BTreeSet<ChannelId>, BTreeSet<usize>), PruneError> {
    let mut removal = Removal::of(network);
    if !eligible.blocks.is_empty() && rule.cost(&Queue::default().state(&removal, 0)).is_none() {
        return Err(PruneError::BlocksNeedCost { policy: eligible.policy.to_string(), budget: rule.name() });
    }
    let mut queues = queues(network, groups, eligible, rule.order());
    // What has to go whatever the rule says.
    for queue in &mut queues {
        queue.lanes_mut().for_each(|lane| lane.shrink_to_bounds(&mut removal));
    }
    // A budget for the whole network is asked even if nothing can be removed.
    if !matches!(rule.order(), RemovalOrder::PerGroup | RemovalOrder::PerClass) && queues.iter().all(Queue::is_settled)
    {
        Queue::default().run(&mut removal, rule)?;
    }
    for queue in queues.iter_mut().filter(|queue| !queue.is_settled()) {
        queue.run(&mut removal, rule)?;
    }
    Ok(removal.finish())
}

/// Returns the groups that are cut, those together that are compared with each other.
fn queues<'a>(network: &Network, groups: &'a Groups, eligible: &Eligible<'a>, order: RemovalOrder) -> Vec<Queue<'a>> {
    let cut = |group: &&(usize, &Group)| group.1.cut.is_none_or(|cut| cut == eligible.cut);
    let all: Vec<(usize, &Group)> = groups.groups.iter().enumerate().collect();
    let lanes = all.iter().filter(cut).filter_map(|&(index, group)| {
        let lane = Lane::of(network, groups, group, eligible, eligible.bounds.get(index).copied().unwrap_or_default());
        (lane.asked() > 0).then_some((group, lane))
    });
    let mut queues: Vec<Queue<'a>> = Vec::new();
    // The queue of each class.
    let mut places = BTreeMap::new();
    for (group, lane) in lanes {
        let class = match order {
            RemovalOrder::PerGroup => None,
            RemovalOrder::PerClass | RemovalOrder::EvenPerClass => Some(classes::role(network, groups, group)),
            RemovalOrder::Global | RemovalOrder::EvenPerGroup => Some(classes::Role::default()),
        };
        // Groups with a share of their own are no concern of the rule.
        let at = match class.filter(|_| !lane.is_settled()) {
            Some(class) => *places.entry(class).or_insert(queues.len()),
            None => queues.len(),
        };
        if at == queues.len() {
            queues.push(Queue::default());
        }
        queues[at].push(lane);
    }
    match order {
        RemovalOrder::EvenPerGroup => queues.iter_mut().for_each(Queue::compare_by_share_of_lane),
        RemovalOrder::EvenPerClass => {
            queues.iter_mut().for_each(Queue::compare_by_share);
            let settled: Vec<Queue<'a>> = queues.extract_if(.., |queue| queue.is_settled()).collect();
            let mut joined = Queue::default();
            queues.into_iter().for_each(|queue| joined.join(queue));
            queues = settled;
            queues.push(joined);
        }
        _ => {}
    }
    add_blocks(&mut queues, eligible.blocks, order);
    queues
}

/// Adds blocks to the queue that the rule is asked for.
fn add_blocks<'a>(queues: &mut Vec<Queue<'a>>, blocks: &'a [BlockCandidate], order: RemovalOrder) {
    if blocks.is_empty() {
        return;
    }
    let at = queues.iter().position(|queue| !queue.is_settled()).unwrap_or(queues.len());
    if at == queues.len() {
        queues.push(Queue::default());
    }
    blocks.iter().for_each(|block| queues[at].push_block(block));
    if order.is_even() {
        queues[at].compare_blocks_by_share();
    }
}
