//! What has to hold of every graph under every plan.

use burn::tensor::Device;
use burn_sfp_graph::GraphModule;
use burn_sfp_graph::Network;
use burn_sfp_prune::{Budget, GroupCut, Planner, PolicyContext, PruneError, Ranking, RankingPolicy, fold_batch_norms};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::build::{build, inputs};
use super::inspect::{bytes, trained};
use super::net::{Net, Outputs};
use super::spec::Spec;
use super::tally::Tally;
use super::zeroing::zeroed;

/// How a graph is pruned.
#[derive(Clone, Debug)]
pub struct Cut {
    pub ratio: f64,
    pub global: bool,
    pub whole: bool,
    pub seed: u64,
}

impl Cut {
    fn planner(&self) -> Planner {
        let budget = if self.global { Budget::Global(self.ratio) } else { Budget::PerLayer(self.ratio) };
        Planner::new().budget(budget).group_cut(if self.whole { GroupCut::WholeGroups } else { GroupCut::WithinGroups })
    }
}

pub fn cuts() -> impl Strategy<Value = Cut> {
    (0.2..0.9f64, any::<bool>(), any::<bool>(), any::<u64>()).prop_map(|(ratio, global, whole, seed)| Cut {
        ratio,
        global,
        whole,
        seed,
    })
}

/// Random scores.
struct Random(u64);

impl RankingPolicy for Random {
    fn name(&self) -> String {
        "random".into()
    }
    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.0);
        let mut ranking = Ranking::default();
        for layer in context.network.layers().iter().filter(|layer| layer.not_prunable.is_none()) {
            ranking.filters.insert(layer.path.clone(), (0..layer.filters).map(|_| rng.random()).collect());
        }
        Ok(ranking)
    }
}

/// Builds the graph, prunes it, prunes the result once more.
pub fn check(spec: &Spec, cut: &Cut, tally: &mut Tally) -> Result<(), TestCaseError> {
    let device = Device::flex();
    let net = build(spec, &device);
    let Some(smaller) = shrink(&net, spec, cut, Some(tally))? else { return Ok(()) };
    let again = Cut { ratio: cut.ratio / 2.0, seed: !cut.seed, whole: !cut.whole, ..cut.clone() };
    shrink(&smaller, spec, &again, None)?;
    Ok(())
}

/// Folds batch normalisations; how many.
pub fn check_folded(spec: &Spec) -> Result<usize, TestCaseError> {
    let device = Device::flex();
    let net = build(spec, &device);
    let before = bytes(&net);
    let folded = fold_batch_norms(&net, &inputs(spec, 2, spec.seed, &device));
    let folded = folded.map_err(|error| TestCaseError::fail(format!("fold: {error}")))?;
    prop_assert!(before == bytes(&net), "the original changed");
    let other = inputs(spec, 3, !spec.seed, &device);
    let off = difference(folded.model.run(other.clone()), net.run(other));
    prop_assert!(off < 1e-4, "off by {}", off);
    Ok(folded.folded.len())
}

fn shrink(net: &Net, spec: &Spec, cut: &Cut, tally: Option<&mut Tally>) -> Result<Option<Net>, TestCaseError> {
    let device = Device::flex();
    let sample = inputs(spec, 2, spec.seed, &device);
    let before = bytes(net);
    let fail = |what: &str, error: &dyn std::fmt::Display| TestCaseError::fail(format!("{what}: {error}"));
    let network = Network::capture(net, &sample).map_err(|error| fail("capture", &error))?;
    let smaller = cut.planner().prune(net, &sample, &Random(cut.seed)).map_err(|error| fail("prune", &error))?;
    let (plan, smaller) = (smaller.plan, smaller.model);
    prop_assert!(before == bytes(net), "the original changed");

    // The smaller module has the size that the plan said, and no more to lose at a ratio of nought.
    prop_assert_eq!(trained(net), plan.parameters_before);
    prop_assert_eq!(trained(&smaller), plan.parameters_after);
    let recount = Network::capture(&smaller, &sample).map_err(|error| fail("capture of the smaller", &error))?;
    prop_assert_eq!(recount.macs(), plan.macs_after);
    prop_assert_eq!(network.macs(), plan.macs_before);
    plan.verify(&network, &recount).map_err(|error| fail("verify", &error))?;
    let still = Planner::new()
        .budget(Budget::PerLayer(0.0))
        .plan(&recount, None, &Random(cut.seed))
        .map_err(|error| fail("plan of nothing", &error))?;
    prop_assert!(still.cuts.is_empty() && still.channels.is_empty() && still.fields.is_empty());

    // The same parameters are zero, by the library's reckoning and by the test's own.
    let expected = zeroed(net, &plan);
    let own = plan.zeroed(net).map_err(|error| fail("zeroed", &error))?;
    prop_assert!(same_up_to_sign(&bytes(&expected), &bytes(&own)), "zeroed differs from the plan's cuts");

    // Another batch, of another size.
    let other = inputs(spec, 3, !spec.seed, &device);
    let off = difference(smaller.run(other.clone()), expected.run(other.clone()));
    prop_assert!(off < 1e-4, "off by {}", off);
    if let Some(tally) = tally {
        tally.count(net, &net.values(other.clone()), &smaller.values(other));
    }
    Ok((!plan.cuts.is_empty()).then_some(smaller))
}

/// Zero times a negative number is -0.
fn same_up_to_sign(a: &[(String, Vec<u8>)], b: &[(String, Vec<u8>)]) -> bool {
    let values = |bytes: &[u8]| -> Vec<f32> {
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    };
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && values(&a.1) == values(&b.1))
}

/// Largest difference of any output over its largest value.
fn difference(a: Outputs, b: Outputs) -> f64 {
    super::inspect::difference(a, b, 0.05)
}
