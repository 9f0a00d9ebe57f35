//! What plain `serde` deserialisation or an edit can make is not trusted: everything that takes it refuses it with a typed error.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::module::{Module, Param};
use burn::nn::LinearConfig;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_sfp_core::{Analysis, ReadoutInfo, SfpError};
use burn_sfp_graph::{GraphModule, Network};
use burn_sfp_nn::sparse::{KernelPattern, Sparsity, WeightFormat};
use burn_sfp_nn::walk::{ParamMapper, ParamPath, map_params};
use burn_sfp_nn::{NnError, SparseLinear};
use burn_sfp_prune::{
    Afcc, MagnitudeConnections, Planner, PolicyContext, PruneError, PrunePlan, RandomAfcc, RankingPolicy, SfpRanking,
    SparseConfig, SparseFormat, densify, sparsify,
};
use serde_json::Value;

use crate::kinds::{Mlp, analysed, analysis, inputs, masks, plan};

/// Makes the tree that has another value at one place.
type Put<'a> = dyn Fn(Value) -> Value + 'a;

/// Calls `edit` with every value of a tree, one after another, and the place of the value.
fn each_value(root: &Value, edit: &mut dyn FnMut(&Put<'_>, &Value, &str)) {
    fn walk(at: &Value, place: &str, put: &Put<'_>, edit: &mut dyn FnMut(&Put<'_>, &Value, &str)) {
        edit(put, at, place);
        match at {
            Value::Array(list) => {
                for (k, value) in list.iter().enumerate() {
                    let inner = |new: Value| {
                        let mut list = list.clone();
                        list[k] = new;
                        put(Value::Array(list))
                    };
                    walk(value, &format!("{place}[{k}]"), &inner, edit);
                }
            }
            Value::Object(map) => {
                for (key, value) in map {
                    let inner = |new: Value| {
                        let mut map = map.clone();
                        map.insert(key.clone(), new);
                        put(Value::Object(map))
                    };
                    walk(value, &format!("{place}.{key}"), &inner, edit);
                }
            }
            _ => {}
        }
    }
    walk(root, "", &|value| value, edit);
}

/// Other values in the place of one.
fn others(value: &Value) -> Vec<Value> {
    match value {
        Value::Null => vec![Value::from(0), Value::from("a")],
        Value::Bool(value) => vec![Value::from(!value)],
        Value::Number(number) => {
            let mut all = vec![Value::from(-1), Value::from(1e300), Value::from(u64::MAX), Value::Null];
            if let Some(number) = number.as_u64() {
                all.extend([number + 1, number.saturating_sub(1), number + 10, 0].map(Value::from));
            } else if let Some(number) = number.as_f64() {
                all.extend([number + 1.0, -number, number * (1.0 + 1e-6), 0.0].map(Value::from));
            }
            all
        }
        Value::String(text) => vec![Value::from(format!("{text}x")), Value::from("")],
        Value::Array(list) => {
            let mut all = vec![Value::Array(vec![])];
            if let Some((last, rest)) = list.split_last() {
                all.push(Value::from(rest.to_vec()));
                all.push(Value::from([list.as_slice(), std::slice::from_ref(last)].concat()));
                all.push(Value::from(list.iter().rev().cloned().collect::<Vec<_>>()));
            }
            all
        }
        Value::Object(_) => vec![Value::Null],
    }
}

#[test]
fn no_value_of_a_plan_can_be_changed() {
    let model = Mlp::new(1);
    let network = Network::capture(&model, &inputs(2)).unwrap();
    let (mut tried, mut read) = (0, 0);
    for right in [plan(1), masks(1)] {
        let smaller = Network::capture(&right.apply(&model).unwrap(), &inputs(2)).unwrap();
        let tree = serde_json::to_value(&right).unwrap();
        each_value(&tree, &mut |put, value, place| {
            for other in others(value).into_iter().filter(|other| other != value) {
                tried += 1;
                let Ok(plan) = serde_json::from_value::<PrunePlan>(put(other.clone())) else { continue };
                if plan == right {
                    continue;
                }
                read += 1;
                let error = plan.apply(&model).unwrap_err();
                let is_typed = matches!(error, PruneError::InvalidPlan(_) | PruneError::ModelMismatch { .. });
                assert!(is_typed, "{place} = {other}: {error}");
                assert!(plan.zeroed(&model).is_err(), "{place} = {other}");
                assert!(plan.verify(&network, &smaller).is_err(), "{place} = {other}");
                assert!(plan.check().is_err(), "{place} = {other}");
                let _ = (plan.summary().to_string(), plan.totals());
            }
        });
    }
    println!("{tried} changes of plans, {read} of them read by serde, none applied");
}

#[test]
fn a_plan_that_is_sealed_again_still_has_to_follow_from_its_channels() {
    let model = Mlp::new(1);
    let capture = |model: &Mlp| Network::capture(model, &inputs(2)).unwrap();
    let network = capture(&model);
    type Edit = fn(&mut PrunePlan);
    let consistent: [Edit; 4] = [
        // One index of one of several parameters that are cut alike.
        |plan| {
            let axis = &mut plan.cuts[0].axes[0];
            axis.keep = (0..axis.length).filter(|k| k % axis.length != axis.keep[0]).take(axis.keep.len()).collect();
        },
        |plan| drop(plan.cuts.pop()),
        |plan| plan.channels.truncate(plan.channels.len() - 1),
        |plan| plan.scales.push(serde_json::from_str("{\"path\":\"a.bias\",\"factor\":1.5}").unwrap()),
    ];
    for edit in consistent {
        let mut edited = plan(1);
        let smaller = capture(&edited.apply(&model).unwrap());
        edit(&mut edited);
        assert_ne!(edited, plan(1));
        assert!(matches!(edited.apply(&model), Err(PruneError::InvalidPlan(what)) if what.contains("sealed()")));
        let edited = edited.sealed().unwrap();
        let error = edited.verify(&network, &smaller).unwrap_err();
        let is_typed = matches!(error, PruneError::InvalidPlan(_) | PruneError::Graph(_));
        assert!(is_typed, "{error}");
    }
    let scale = |factor: f64| {
        let mut edited = plan(1);
        let scale = serde_json::json!({ "path": "a.bias", "factor": 1.0 });
        edited.scales.push(serde_json::from_value(scale).unwrap());
        edited.scales[0].factor = factor;
        edited.sealed()
    };
    for factor in [1e300, f64::INFINITY, f64::NAN, 0.0, 1e-300] {
        assert!(matches!(scale(factor), Err(PruneError::InvalidPlan(_))), "{factor}");
    }
    let contradictory: [Edit; 6] = [
        |plan| plan.cuts[0].axes[0].keep.push(999),
        |plan| plan.bias_corrections[0].inputs[0].1 = f32::INFINITY,
        |plan| plan.bias_corrections[0].coverage[0] = 1e30,
        |plan| plan.layers[0].filters_after = 1000,
        |plan| plan.model[0].shape[0] = usize::MAX,
        |plan| plan.masks.push(plan.masks[0].clone()),
    ];
    for edit in contradictory {
        let mut edited = plan(1);
        edit(&mut edited);
        assert!(matches!(edited.sealed(), Err(PruneError::InvalidPlan(_))));
    }
}

/// Edits that make an analysis contradict itself.
fn broken_analyses() -> Vec<(&'static str, Analysis)> {
    type Edit = fn(&mut Analysis);
    let edits: Vec<(&'static str, Edit)> = vec![
        ("label 2 of 2", |a| a.layers[0].performance[0].clusters = vec![vec![0, 2]]),
        ("label 18446744073709551615 of 2", |a| a.layers[1].performance[1].clusters = vec![vec![usize::MAX]]),
        ("do not ascend", |a| a.layers[0].performance[0].clusters = vec![vec![1, 0]]),
        ("in two clusters", |a| a.layers[0].performance[0].clusters = vec![vec![0], vec![0]]),
        ("no label", |a| a.layers[0].performance[0].clusters = vec![vec![]]),
        ("the results of 0", |a| a.layers[0].performance.clear()),
        ("the results of 3", |a| drop(a.layers[0].performance.pop())),
        ("counts", |a| a.counts.push(3)),
        ("counts", |a| a.counts.clear()),
        ("counts", |a| a.classes = 1_000_000_000_000),
        ("classes", |a| a.layers[0].classes = 1_000_000_000_000),
        ("counts", |a| a.samples = u64::MAX),
        ("counts", |a| a.counts[0] = u64::MAX),
        ("label 1", |a| (a.counts, a.samples) = (vec![12, 0], 12)),
        ("top-1 is inf", |a| a.top1 = f64::INFINITY),
        ("top-1 is NaN", |a| a.top1 = f64::NAN),
        ("top-1 is 1.5", |a| a.top1 = 1.5),
        ("accuracy of its readout is inf", |a| {
            a.layers[1].readout = serde_json::from_str("{\"method\":\"classifier\",\"accuracy\":0.5}").unwrap();
            let ReadoutInfo::Classifier { accuracy } = &mut a.layers[1].readout else { panic!("another readout") };
            *accuracy = f64::INFINITY;
        }),
        ("is NaN", |a| a.layers[0].performance[0].max = f64::NAN),
        ("is inf", |a| a.layers[0].performance[0].max = f64::INFINITY),
        ("more elements", |a| a.layers[0].performance[0].noise = usize::MAX),
        ("more elements", |a| a.layers[0].performance[0].near = 5),
        ("summary", |a| a.layers[0].summary.noise += 1.0),
        ("summary", |a| a.layers[0].summary.filters_per_label.clear()),
        ("summary", |a| a.layers[0].summary.filters_per_label = vec![0; 1]),
        ("filters", |a| a.layers[0].filters = 99),
        ("threshold is NaN", |a| a.threshold = f64::NAN),
        ("threshold is 1", |a| a.threshold = 1.0),
        ("input mean", |a| a.input_means.get_mut("b").unwrap()[0] = f32::NAN),
        ("there twice", |a| a.layers.push(a.layers[0].clone())),
        ("parameter twice", |a| a.model.push(a.model[0].clone())),
        ("fingerprint", |a| a.model.clear()),
        ("seconds", |a| a.seconds.sweep = f64::NAN),
        ("version 2", |a| a.version = 2),
        ("grid", |a| a.layers[0].grid = Some(vec![usize::MAX, 2])),
        ("strength", |a| {
            a.layers[0].readout = serde_json::from_str("{\"method\":\"ridge\",\"strength\":-1.0}").unwrap();
        }),
    ];
    let broken = |(what, edit): (&'static str, Edit)| {
        let mut broken = analysis(1);
        edit(&mut broken);
        (what, broken)
    };
    edits.into_iter().map(broken).collect()
}

#[test]
fn an_analysis_that_contradicts_itself_is_refused_everywhere() {
    let (network, right) = analysed(&Mlp::new(1));
    right.check().unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (what, broken) in broken_analyses() {
        let is = |error: PruneError| {
            let PruneError::Analysis(SfpError::InvalidAnalysis(found)) = &error else { panic!("{what}: {error}") };
            assert!(found.contains(what), "{what}: {found}");
        };
        is(broken.check().unwrap_err().into());
        is(broken.merge(&right).unwrap_err().into());
        is(right.merge(&broken).unwrap_err().into());
        is(broken.save(folder.path().join("broken")).unwrap_err().into());
        let context = PolicyContext::new(&network, &broken);
        is(Afcc::new().rank(&context).unwrap_err());
        is(SfpRanking::new().rank(&context).unwrap_err());
        is(RandomAfcc::new(1).rank(&context).unwrap_err());
        is(Planner::new().plan(&network, &broken, &SfpRanking::new()).unwrap_err());
        is(Planner::new().plan(&network, &broken, &MagnitudeConnections::l1()).unwrap_err());
        let _ = broken.to_string();
    }
}

#[test]
fn no_value_of_an_analysis_ends_in_a_panic() {
    let (network, right) = analysed(&Mlp::new(1));
    let tree = serde_json::to_value(&right).unwrap();
    let (mut tried, mut read, mut passed) = (0, 0, BTreeMap::new());
    each_value(&tree, &mut |put, value, place| {
        for other in others(value).into_iter().filter(|other| other != value) {
            tried += 1;
            let Ok(analysis) = serde_json::from_value::<Analysis>(put(other.clone())) else { continue };
            read += 1;
            if analysis.check().is_ok() {
                let field = place.split(['.', '[']).nth(1).unwrap_or_default().to_string();
                *passed.entry(field).or_insert(0) += 1;
            }
            let context = PolicyContext::new(&network, &analysis);
            let _ = (Afcc::new().rank(&context), SfpRanking::new().rank(&context), right.merge(&analysis));
            let planned = Planner::new().plan(&network, &analysis, &SfpRanking::new());
            if let Ok(plan) = planned {
                plan.apply(&Mlp::new(1)).unwrap();
            }
            let _ = analysis.to_string();
        }
    });
    println!("{tried} changes of an analysis, {read} of them read by serde; in agreement with the rest: {passed:?}");
}

#[derive(Module, Debug)]
struct Sparse {
    a: SparseLinear,
    b: SparseLinear,
}

impl GraphModule for Sparse {
    type Inputs = Tensor<2>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<2>) -> Tensor<2> {
        self.b.forward(relu(self.a.forward(x)))
    }
}

/// Writes integers in the place of those of the layer `a`, as loading a record does.
struct Recode<'a>(&'a dyn Fn(Vec<i64>) -> Vec<i64>);

impl ParamMapper for Recode<'_> {
    fn int<const D: usize>(&mut self, path: ParamPath<'_>, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        if path.join() != "a.sparsity" {
            return param;
        }
        param.map(|code| {
            let code = (self.0)(code.into_data().iter::<i64>().collect());
            let mut shape = [1; D];
            shape[0] = code.len();
            Tensor::from_data(TensorData::new(code, shape), &Device::flex())
        })
    }
}

#[test]
fn sparse_codes_are_checked_before_anything_is_allocated() {
    let device = Device::flex();
    let model =
        Sparse { a: LinearConfig::new(4, 6).init(&device).into(), b: LinearConfig::new(6, 2).init(&device).into() };
    let x = Tensor::<2>::ones([2, 4], &device);
    let policy = MagnitudeConnections::l1().removing(0.5);
    let masked = Planner::new().keep_empty(true).prune(&model, &x, &policy).unwrap().model;
    let mut refused = 0;
    for format in [SparseFormat::Kernels, SparseFormat::Blocks] {
        let sparse = sparsify(&masked, &x, &SparseConfig::new().with_format(format)).unwrap().model;
        densify(&sparse).unwrap();
        let mut length = 0;
        let code = std::cell::RefCell::new(Vec::new());
        let _ = map_params(
            sparse.clone(),
            &mut Recode(&|found| {
                *code.borrow_mut() = found.clone();
                found
            }),
        );
        let code = code.into_inner();
        length += code.len();
        // Every bit of every integer, which have 32 on this device.
        for bit in 0..32 * length {
            let changed = map_params(
                sparse.clone(),
                &mut Recode(&|mut code| {
                    code[bit / 32] = i64::from(code[bit / 32] as i32 ^ (1 << (bit % 32)));
                    code
                }),
            );
            let error = densify(&changed).unwrap_err();
            assert!(matches!(&error, PruneError::Layer(NnError::Layer { path, .. }) if path == "a"), "{error}");
            assert!(matches!(changed.a.check(), Err(NnError::InvalidFormat { .. })));
            refused += 1;
        }
        // A code without a checksum, as older records hold, that says 2^31 - 1 inputs, and half as many.
        for inputs in [(1_i64 << 31) - 1, 1 << 30] {
            let changed = map_params(
                sparse.clone(),
                &mut Recode(&|code| {
                    let mut code = code[..code.len() - 2].to_vec();
                    code[0] -= 2;
                    code[2] = inputs;
                    code
                }),
            );
            let huge = changed.a.check();
            if matches!(huge, Err(NnError::TooLarge { .. })) {
                let error = densify(&changed).unwrap_err();
                assert!(error.to_string().contains("does not fit into memory"), "{error}");
            } else {
                println!("{inputs} inputs would fit into the memory of this machine");
            }
        }
    }
    println!("{refused} changed bits of sparse codes refused");

    // A pattern made by hand that no record can hold.
    let pattern = KernelPattern::new(1 << 40, vec![0, 1], vec![5]).unwrap();
    let sparsity = Sparsity::of(WeightFormat::Kernels(Arc::new(pattern)), &device);
    assert!(matches!(sparsity.format(), Err(NnError::InvalidFormat { .. })));
}
