//! Every small network of the zoo, pruned by magnitude: the smaller model runs on another batch size, has the size that the
//! plan said, and its output is that of the original with the removed channels at zero.

use burn::tensor::Device;
use burn_sfp::graph::Network;
use burn_sfp::prelude::*;
use models::random::randomise;
use models::size::parameters;
use models::values::values;
use models::zoo::{Entry, SMALL_BATCH, Size, Visit, visit_all};

/// Largest difference of any output over its largest value.
fn difference<O: ModuleInput>(a: O, b: O) -> f64 {
    let (left, right) = (values(a), values(b));
    left.iter().zip(&right).fold(0.0, |worst, (a, b)| {
        assert_eq!(a.len(), b.len());
        let largest = b.iter().fold(1e-6, |largest: f64, value| largest.max(value.abs()));
        let off = a.iter().zip(b).fold(0.0, |off: f64, (a, b)| off.max((a - b).abs()));
        assert!(off.is_finite());
        worst.max(off / largest)
    })
}

/// Layers that no plan can touch, and why: everything else must be prunable.
fn expected_reasons(network: &str) -> &'static [&'static str] {
    const OUTPUT: &str = "it is an output of the network";
    match network {
        // Layer normalisation over the width of the residual stream, which something else than linear layers writes to.
        "ConvNeXt-T" | "CCT-14/7x2" | "CCT-7/3x1" | "Mixer-S/16" => {
            &[OUTPUT, "mixes its channels, and ", "it meets an input of the network or a constant"]
        }
        // Halves that pass through shuffle after shuffle end up tied to each other.
        "ShuffleNetV2 x1.0" => &[OUTPUT, "all filters of its layer leave together"],
        _ => &[OUTPUT],
    }
}

struct Prune {
    pruned: usize,
}

impl Visit for Prune {
    fn visit<M: GraphModule>(&mut self, entry: &Entry, model: M, input: M::Inputs) {
        let model = randomise(&model, 7);
        let name = entry.name;
        let network = Network::capture(&model, &input).unwrap_or_else(|error| panic!("{name}: {error}"));
        for layer in network.layers() {
            if let Some(reason) = &layer.not_prunable {
                let expected = expected_reasons(name).iter().any(|expected| reason.contains(expected));
                assert!(expected, "{name}: {}: {reason}", layer.path);
            }
        }
        let before = model.valid().run(input.clone());
        let other = input.clone().slice_samples(0, SMALL_BATCH - 1);
        for blocks in [GroupCut::WithinGroups, GroupCut::WholeGroups] {
            for ratio in [0.25, 0.5, 0.75] {
                for budget in [Budget::PerLayer(ratio), Budget::Global(ratio)] {
                    let case = format!("{name}, {budget:?}, {blocks:?}");
                    let planner = Planner::new().budget(budget).group_cut(blocks);
                    let smaller = planner
                        .prune(&model, &input, &Magnitude::l2())
                        .unwrap_or_else(|error| panic!("{case}: {error}"));
                    let (plan, smaller) = (smaller.plan, smaller.model);
                    assert!(!plan.cuts.is_empty(), "{case}: nothing was removed");
                    assert_eq!(parameters(&smaller), plan.parameters_after, "{case}");
                    let recount = Network::capture(&smaller, &input).unwrap();
                    assert_eq!(recount.macs(), plan.macs_after, "{case}");
                    assert!(plan.macs_after < plan.macs_before, "{case}");
                    let stream = plan.cuts.iter().find(|cut| cut.path == "positions").map(|cut| &cut.axes[0]);
                    if matches!(name, "ViT-S/16" | "GPT-2 small") && budget == Budget::PerLayer(0.5) {
                        assert!(stream.is_some_and(|axis| 2 * axis.keep.len() == axis.length), "{case}");
                        assert!(!plan.centered.is_empty(), "{case}");
                    }
                    let expected = plan.zeroed(&model).unwrap().run(other.clone());
                    let off = difference(smaller.run(other.clone()), expected);
                    assert!(off < 1e-4, "{case}: {off}");
                    self.pruned += 1;
                }
            }
        }
        assert_eq!(difference(model.valid().run(input), before), 0.0, "{name}: the original changed");
    }
}

#[test]
fn every_network_shrinks_exactly() {
    let mut prune = Prune { pruned: 0 };
    visit_all(Size::Small, &Device::flex(), &mut prune);
    assert!(prune.pruned >= 16 * 12);
}

/// Constants that silenced filters leave behind are folded exactly.
struct Fold {
    folded: Vec<&'static str>,
}

impl Visit for Fold {
    fn visit<M: GraphModule>(&mut self, entry: &Entry, model: M, input: M::Inputs) {
        let model = randomise(&model, 3);
        let planner = Planner::new().budget(Budget::PerLayer(0.5)).bias_correction(BiasCorrection::Constants);
        let smaller = planner.prune(&model, &input, &Magnitude::l2()).unwrap();
        let other = input.slice_samples(0, SMALL_BATCH - 1);
        let expected = smaller.plan.zeroed(&model).unwrap().run(other.clone());
        let off = difference(smaller.model.run(other), expected);
        assert!(off < 1e-4, "{}: {off}", entry.name);
        if smaller.plan.bias_corrections.iter().any(|fold| fold.constants && !fold.inputs.is_empty()) {
            self.folded.push(entry.name);
        }
    }
}

#[test]
fn constants_are_folded_exactly() {
    let mut fold = Fold { folded: Vec::new() };
    visit_all(Size::Small, &Device::flex(), &mut fold);
    assert!(fold.folded.len() > 10, "{:?}", fold.folded);
}

/// Batch normalisations in the layers before them.
struct Norms {
    folded: usize,
}

impl Visit for Norms {
    fn visit<M: GraphModule>(&mut self, entry: &Entry, model: M, input: M::Inputs) {
        let model = randomise(&model, 5);
        let folded = fold_batch_norms(&model, &input).unwrap_or_else(|error| panic!("{}: {error}", entry.name));
        let other = input.slice_samples(0, SMALL_BATCH - 1);
        let off = difference(folded.model.run(other.clone()), model.run(other));
        assert!(off < 1e-5, "{}: {off}", entry.name);
        // Dense networks normalise before their convolutions, what others have read already.
        if matches!(entry.name, "ResNet-18" | "ResNet-50" | "MobileNetV2") {
            assert!(folded.kept.is_empty(), "{}: {:?}", entry.name, folded.kept);
        }
        self.folded += folded.folded.len();
    }
}

#[test]
fn batch_normalisations_are_folded_exactly() {
    let mut norms = Norms { folded: 0 };
    visit_all(Size::Small, &Device::flex(), &mut norms);
    assert!(norms.folded > 200, "{}", norms.folded);
}
