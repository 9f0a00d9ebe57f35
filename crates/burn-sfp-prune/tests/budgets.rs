//! Budgets in units of cost, rules for layers and orders of removal, on random chains and residual networks.

mod common;
#[path = "common/inspect.rs"]
mod inspect;

use std::collections::BTreeSet;
use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use burn_sfp_graph::latency::{LatencyConfig, LayerLatencies, RunningLatency};
use burn_sfp_graph::{GraphModule, Network, RunningActivations, RunningCost};
use burn_sfp_prune::group::Groups;
use burn_sfp_prune::{
    Amount, Budget, CostUnit, Curve, CutSearch, Iterative, Keep, KeepLatency, LatencySearch, LayerRule, Planner,
    PruneError, PrunePlan, Random, RemovalOrder,
};
use common::{BlockSpec, Net, Pool, Spec, difference, plain_block, specs};
use proptest::prelude::*;

/// The cost of a network without some channels, counted from nothing.
fn cost(network: &Network, unit: CostUnit, removed: impl IntoIterator<Item = u32>) -> u64 {
    let (mut cost, mut activations) = (RunningCost::of(network), RunningActivations::of(network));
    for channel in removed {
        cost.remove(channel);
        activations.remove(channel);
    }
    match unit {
        CostUnit::Macs => cost.macs(),
        CostUnit::Parameters => cost.parameters(),
        CostUnit::Bytes => cost.bytes(),
        CostUnit::Activations { samples } => activations.peak(samples),
        _ => unreachable!("no other unit"),
    }
}

fn keep(unit: CostUnit, share: f64) -> Keep {
    match unit {
        CostUnit::Macs => Keep::macs(share),
        CostUnit::Parameters => Keep::parameters(share),
        CostUnit::Bytes => Keep::bytes(share),
        _ => Keep::activations(share),
    }
}

fn units() -> impl Strategy<Value = CostUnit> {
    prop::sample::select(vec![
        CostUnit::Macs,
        CostUnit::Parameters,
        CostUnit::Bytes,
        CostUnit::Activations { samples: 1 },
    ])
}

fn orders() -> impl Strategy<Value = RemovalOrder> {
    prop::sample::select(vec![RemovalOrder::Global, RemovalOrder::EvenPerGroup, RemovalOrder::EvenPerClass])
}

/// The smaller network computes what the original computes with the removed channels at zero, and has the planned size.
fn exact(net: &Net, planner: &Planner, seed: u64) -> Result<Result<PrunePlan, PruneError>, TestCaseError> {
    let device = Device::flex();
    let x = net.input(2, &device);
    let smaller = match planner.prune(net, &x, &Random::new(seed)) {
        Ok(smaller) => smaller,
        Err(error) => return Ok(Err(error)),
    };
    let zeroed = smaller.plan.zeroed(net).map_err(|error| TestCaseError::fail(error.to_string()))?;
    let off = difference(smaller.model.run(x.clone()), zeroed.run(x.clone()));
    prop_assert!(off < 1e-4, "off by {}", off);
    let recount = Network::capture(&smaller.model, &x).map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert_eq!(recount.macs(), smaller.plan.macs_after);
    Ok(Ok(smaller.plan))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// What is kept is at most what was asked for, and no channel more could be: or the error says what the least is.
    #[test]
    fn a_share_of_the_cost_is_met(
        spec in specs(), unit in units(), order in orders(), share in 0.05..1.0_f64, by_cost in any::<bool>(), seed in any::<u64>(),
    ) {
        let device = Device::flex();
        let net = Net::new(spec, &device);
        let network = Network::capture(&net, &net.input(2, &device)).unwrap();
        let whole = cost(&network, unit, []);
        let planner = Planner::new().budget(keep(unit, share).order(order).by_cost(by_cost));
        match exact(&net, &planner, seed)? {
            Ok(plan) => {
                let limit = share * whole as f64;
                let got = cost(&network, unit, plan.channels.iter().copied());
                prop_assert!(got as f64 <= limit, "{} of {} kept", got, limit);
                if (got as f64) < 0.98 * limit {
                    for back in &plan.channels {
                        let with = cost(&network, unit, plan.channels.iter().copied().filter(|channel| channel != back));
                        prop_assert!(with as f64 > limit || whole == with, "{} could stay: {} of {}", back, with, limit);
                    }
                }
            }
            Err(PruneError::BudgetNotMet { least, whole: of, held, .. }) => {
                prop_assert_eq!(of, whole as f64);
                prop_assert!(least > share * whole as f64 && !held.is_empty());
                // Every group is down to one channel, or nothing of it counts.
                let all: BTreeSet<u32> = Groups::of(&network).groups.iter()
                    .flat_map(|group| group.channels.iter().copied().filter(|&id| network.flow().pinned(id).is_none()).skip(1))
                    .collect();
                prop_assert!(cost(&network, unit, all) as f64 >= 0.9 * least, "more could go");
            }
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        }
    }

    /// Layers keep a multiple, at least the least and at most the most, under every budget.
    #[test]
    fn rules_for_layers_hold(
        spec in specs(), global in any::<bool>(), ratio in 0.1..0.9_f64, multiple in 1..4_usize, least in 1..4_usize,
        most in prop::option::of(0.3..1.0_f64), seed in any::<u64>(),
    ) {
        let device = Device::flex();
        let net = Net::new(spec, &device);
        let mut rule = LayerRule::all().multiple_of(multiple).keep_at_least(Amount::Count(least));
        if let Some(most) = most {
            rule = rule.keep_at_most(Amount::Share(most));
        }
        let budget = if global { Budget::Global(ratio) } else { Budget::PerLayer(ratio) };
        let plan = exact(&net, &Planner::new().budget(budget).layers(rule), seed)?;
        let plan = plan.map_err(|error| TestCaseError::fail(error.to_string()))?;
        for layer in plan.layers.iter().filter(|layer| !plan.unpruned.iter().any(|other| other.path == layer.path)) {
            let (before, after) = (layer.filters_before, layer.filters_after);
            prop_assert!(after == before || after % multiple == 0, "{} of {} filters are no multiple of {}", after, before, multiple);
            prop_assert!(after >= least.min(before));
            if let Some(most) = most {
                let most = (most * before as f64).ceil() as usize;
                // Multiples round down, and the least goes first.
                prop_assert!(after <= most.max(least) || before % multiple + multiple > before || after < least + multiple);
            }
        }
    }

    /// A share of a layer's own is met as nearly as its channels allow, whatever the budget.
    #[test]
    fn a_layer_may_have_a_share_of_its_own(spec in specs(), own in 0.0..0.9_f64, ratio in 0.1..0.9_f64, seed in any::<u64>()) {
        let device = Device::flex();
        let net = Net::new(spec, &device);
        let planner = Planner::new().budget(Budget::Global(ratio)).layers(LayerRule::at("blocks.0").ratio(own));
        let plan = exact(&net, &planner, seed)?.map_err(|error| TestCaseError::fail(error.to_string()))?;
        let network = Network::capture(&net, &net.input(2, &device)).unwrap();
        let first = network.layers().iter().find(|layer| layer.path.starts_with("blocks.0.conv")).unwrap();
        if first.not_prunable.is_none() {
            let layer = plan.layers.iter().find(|layer| layer.path == first.path).unwrap();
            let wanted = (own * layer.filters_before as f64 * (1.0 + 1e-12)).floor() as usize;
            prop_assert_eq!(layer.filters_before - layer.filters_after, wanted.min(layer.filters_before - 1));
        }
    }
}

#[test]
fn groups_lose_the_same_share_in_an_even_order() {
    let device = Device::flex();
    let net = wide(&device);
    let budget = Keep::parameters(0.4).order(RemovalOrder::EvenPerGroup);
    let plan = exact(&net, &Planner::new().budget(budget), 3).unwrap().unwrap();
    let shares: Vec<f64> = plan
        .layers
        .iter()
        .filter(|layer| layer.path != "fc")
        .map(|layer| layer.filters_after as f64 / layer.filters_before as f64)
        .collect();
    let (low, high) = shares.iter().fold((1.0f64, 0.0f64), |(low, high), &share| (low.min(share), high.max(share)));
    assert!(shares.len() == 4 && high - low < 0.1, "{shares:?}");
}

#[test]
fn classes_are_compared_within_themselves() {
    let device = Device::flex();
    let net = wide(&device);
    let plan = exact(&net, &Planner::new().budget(Budget::PerClass(0.5)), 5).unwrap().unwrap();
    // `conv` layers between convolutions are of one class, the last one, which a linear layer reads, of another.
    let removed = |paths: &[&str]| -> usize {
        let layers = plan.layers.iter().filter(|layer| paths.iter().any(|path| layer.path.starts_with(path)));
        layers.map(|layer| layer.filters_before - layer.filters_after).sum()
    };
    assert_eq!(removed(&["blocks.0.conv", "blocks.1.conv"]), 24);
    assert_eq!(removed(&["blocks.2.conv"]), 12);
    assert_eq!(removed(&["hidden"]), 12);
}

#[test]
fn settings_out_of_range_are_refused() {
    let device = Device::flex();
    let net = wide(&device);
    let x = net.input(2, &device);
    let refused = |planner: Planner| planner.prune(&net, &x, &Random::new(1)).unwrap_err().to_string();
    assert_eq!(refused(Planner::new().budget(Keep::macs(0.0))), "share is 0, but must be above 0 and at most 1");
    assert_eq!(
        refused(Planner::new().budget(Keep::bytes(f64::NAN))),
        "share is NaN, but must be above 0 and at most 1"
    );
    let none = Keep::at_most(CostUnit::Activations { samples: 0 }, 10);
    assert_eq!(refused(Planner::new().budget(none)), "samples is 0, but must be at least 1");
    let multiple = LayerRule::all().multiple_of(0);
    assert_eq!(refused(Planner::new().layers(multiple)), "multiple is 0, but must be at least 1");
    let share = LayerRule::all().keep_at_least(Amount::Share(1.5));
    assert_eq!(refused(Planner::new().layers(share)), "share of the filters is 1.5, but must be from 0 to 1");
    let ratio = LayerRule::at("fc").ratio(1.0);
    assert_eq!(refused(Planner::new().layers(ratio)), "ratio is 1, but must be at least 0 and below 1");
    let unknown = LayerRule::at("blocks.9");
    assert!(refused(Planner::new().layers(unknown)).contains("`blocks.9`"));
    let none = LayerRule::matching(|path| path.ends_with("nothing"));
    assert!(refused(Planner::new().layers(none)).contains("met by none of the model's layers: blocks.0.conv"));
}

#[test]
fn a_budget_that_cannot_be_met_says_how_far_it_goes_and_what_holds_it() {
    let device = Device::flex();
    let net = wide(&device);
    let x = net.input(2, &device);
    let planner = Planner::new().exclude(["hidden"]).budget(Keep::parameters(0.005));
    let error = planner.prune(&net, &x, &Random::new(1)).unwrap_err();
    let PruneError::BudgetNotMet { least, whole, held, .. } = &error else { panic!("{error}") };
    assert!(least / whole > 0.005 && least / whole < 0.05, "{error}");
    let hidden = held.iter().find(|layer| layer.contains("`hidden`")).unwrap();
    assert!(
        held[0].contains("it is an output of the network") && hidden.contains("it keeps its 24 filters"),
        "{error}"
    );
    assert!(error.to_string().starts_with("a budget of 0.005 of the parameters cannot be met: "), "{error}");
}

#[test]
fn what_is_removed_by_cost_spares_what_costs_little() {
    let device = Device::flex();
    let net = wide(&device);
    let x = net.input(2, &device);
    let network = Network::capture(&net, &x).unwrap();
    let planner = |by_cost| Planner::new().budget(Keep::macs(0.5).by_cost(by_cost));
    let (alone, by_cost) = (
        planner(false).prune(&net, &x, &Random::new(1)).unwrap().plan,
        planner(true).prune(&net, &x, &Random::new(1)).unwrap().plan,
    );
    for plan in [&alone, &by_cost] {
        assert!(
            plan.macs_after as f64 <= 0.5 * network.macs() as f64
                && plan.macs_after as f64 > 0.48 * network.macs() as f64
        );
    }
    assert!(by_cost.channels.len() < alone.channels.len(), "{} and {}", by_cost.channels.len(), alone.channels.len());
}

/// Three convolutions of 24 filters and a hidden layer of 24 nodes.
fn wide(device: &Device) -> Net {
    let pooled = BlockSpec { pool: Pool::Max, ..plain_block(24) };
    let blocks = vec![plain_block(24), pooled.clone(), pooled];
    let spec = Spec { blocks, one_dimensional: false, global_pool: true, hidden: Some(24), fc_bias: true, seed: 7 };
    Net::new(spec, device)
}

#[test]
fn a_search_finds_the_share_goes_on_from_its_file_and_refuses_another_ones() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("search.json");
    let accuracy = |share: f64| if share >= 0.4 { 0.8 } else { 0.8 - (0.4 - share) };
    let whole = CutSearch::new(0.8, 0.0).probes(9);
    let found = whole.run(|share| Ok((accuracy(share), share))).unwrap();
    assert!((found.share - 0.4).abs() < 0.01 && found.value == Some(found.share), "{found:?}");
    assert_eq!((found.probes.len(), found.accuracy), (9, 0.8));

    // Killed after three probes.
    let saved = whole.clone().save_to(&path, "net");
    let mut calls = 0;
    let killed = saved.run(|share| {
        calls += 1;
        if calls > 3 { Err(PruneError::policy("probe", "killed")) } else { Ok((accuracy(share), share)) }
    });
    assert_eq!(killed.unwrap_err().to_string(), "probe: killed");
    let mut calls = 0;
    let again = saved
        .run(|share| {
            calls += 1;
            Ok((accuracy(share), share))
        })
        .unwrap();
    assert_eq!((again.share, again.probes, calls), (found.share, found.probes, 6));
    // All probes are known: the best one is run for what it returns.
    let once = saved.run(|share| Ok((accuracy(share), share))).unwrap();
    assert_eq!(once.value, Some(found.share));

    let other = whole.clone().save_to(&path, "another net").run(|share| Ok((accuracy(share), share)));
    assert!(matches!(other, Err(PruneError::OtherSearch { .. })));
    std::fs::write(&path, "{}").unwrap();
    assert!(saved.run(|share| Ok((accuracy(share), share))).is_err());

    let none = CutSearch::new(0.8, 0.01).probes(4).run(|_| Ok((0.1, ()))).unwrap();
    assert_eq!((none.share, none.value), (1.0, None));
    let all = CutSearch::new(0.8, 0.01).least(0.2).run(|share| Ok((0.8, share))).unwrap();
    assert_eq!((all.share, all.probes.len()), (0.2, 1));
    assert!(CutSearch::new(f64::NAN, 0.01).run(|_| Ok((0.1, ()))).is_err());
    assert!(CutSearch::new(0.8, 0.01).run(|_| Ok((f64::NAN, ()))).is_err());
}

#[test]
fn rounds_lead_to_the_target_and_remember_each_other() {
    let device = Device::flex();
    let net = wide(&device);
    let x = net.input(2, &device);
    let network = Network::capture(&net, &x).unwrap();
    let mut seen = Vec::new();
    let smaller = Iterative::new(3, 0.3)
        .curve(Curve::Linear)
        .run(
            &net,
            |round| {
                assert_eq!(round.plan.is_some(), round.index > 0);
                let planner = Planner::new().budget(round.keep(CostUnit::Macs, &x)?);
                round.planner(planner).prune(round.model, &x, &Random::new(round.index as u64))
            },
            |model, plan| {
                seen.push(plan.macs_after as f64 / network.macs() as f64);
                Ok(model)
            },
        )
        .unwrap();
    for (share, wanted) in seen.iter().zip([1.0 - 0.7 / 3.0, 1.0 - 1.4 / 3.0, 0.3]) {
        assert!(*share <= wanted && *share > 0.97 * wanted, "{seen:?}");
    }
    assert_eq!(smaller.plan.earlier.len(), 2);
    // A ratio of channels in each round.
    let ratios = Iterative::new(2, 0.25).curve(Curve::Geometric).run(
        &net,
        |round| {
            let planner = round.planner(Planner::new().budget(Budget::PerLayer(round.ratio)));
            planner.prune(round.model, &x, &Random::new(1))
        },
        |model, _| Ok(model),
    );
    assert_eq!(ratios.unwrap().plan.layers[0].filters_after, 6);
    assert!(Iterative::new(0, 0.5).shares().is_err() && Iterative::new(2, 0.0).shares().is_err());
}

/// A table in which a layer takes a microsecond for every 100 pairs of channels and the rest a tenth of all.
fn table_of(net: &Net, x: &Tensor<4>) -> LayerLatencies {
    let mut table = LayerLatencies::measure(net, x, &LatencyConfig::new().with_runs(1).with_warm_up(0)).unwrap();
    for layer in &mut table.layers {
        let pairs = layer.inputs.iter().flat_map(|from| layer.outputs.iter().map(move |to| from * to));
        layer.seconds = pairs.map(|pairs| 1e-8 * pairs as f64).collect();
    }
    let network = Network::capture(net, x).unwrap();
    let layers: f64 = network.layers().iter().map(|layer| table.seconds(layer, layer.inputs, layer.filters)).sum();
    (table.rest, table.whole) = (layers / 9.0, layers * 10.0 / 9.0);
    table
}

#[test]
fn a_share_of_the_latency_is_met_by_the_table() {
    let device = Device::flex();
    let net = wide(&device);
    let x = net.input(2, &device);
    let table = Arc::new(table_of(&net, &x));
    let network = Network::capture(&net, &x).unwrap();
    let seconds = |channels: &[u32]| {
        let mut running = RunningLatency::of(&network, table.clone());
        channels.iter().for_each(|&channel| running.remove(channel));
        running.seconds()
    };
    assert!((seconds(&[]) / table.whole - 1.0).abs() < 1e-9);
    for share in [0.8, 0.5, 0.3] {
        let plan = exact(&net, &Planner::new().budget(KeepLatency::share(share, table.clone())), 3).unwrap().unwrap();
        let got = seconds(&plan.channels) / table.whole;
        assert!(got <= share && got > 0.94 * share, "{got} of {share}");
        // Put back one by one, the channels bring the latency back.
        let mut running = RunningLatency::of(&network, table.clone());
        plan.channels.iter().for_each(|&channel| running.remove(channel));
        plan.channels.iter().for_each(|&channel| running.restore(channel));
        assert!((running.seconds() / table.whole - 1.0).abs() < 1e-9);
    }
    let planner = Planner::new().budget(KeepLatency::seconds(1e-9, table.clone()));
    let error = planner.prune(&net, &x, &Random::new(1)).unwrap_err();
    assert!(matches!(&error, PruneError::BudgetNotMet { unit, .. } if unit == "seconds"), "{error}");
    let none = Planner::new().budget(KeepLatency::seconds(f64::NAN, table.clone())).prune(&net, &x, &Random::new(1));
    assert!(matches!(none, Err(PruneError::Config(_))));
    let mut wrong = LayerLatencies::clone(&table);
    wrong.layers[0].seconds.pop();
    assert!(Planner::new().budget(KeepLatency::share(0.5, Arc::new(wrong))).prune(&net, &x, &Random::new(1)).is_err());
}

#[test]
fn a_latency_is_measured_on_the_whole_model() {
    let device = Device::flex();
    let net = wide(&device);
    let x = net.input(2, &device);
    let config = LatencyConfig::new().with_runs(3);
    let table = Arc::new(LayerLatencies::measure(&net, &x, &config).unwrap());
    let search = LatencySearch::share(0.6, table).config(config);
    let found = search.run(&net, &x, |budget| Planner::new().budget(budget).prune(&net, &x, &Random::new(1))).unwrap();
    assert!(found.before.min > 0.0 && found.share() > 0.0);
    assert!(found.pruned.plan.macs_after < found.pruned.plan.macs_before);
}
