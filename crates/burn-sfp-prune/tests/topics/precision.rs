//! Models in half and in double precision go the whole way: analysis by every readout, planning, rewriting, sparse formats, training,
//! files. Whatever the library makes has the type of the tensor that it meets.

use burn::module::{Module, ModuleMapper, Param};
use burn::nn::conv::Conv2d;
use burn::nn::{BatchNorm, BatchNormConfig, Linear};
use burn::optim::AdamConfig;
use burn::tensor::activation::relu;
use burn::tensor::{DType, Tensor};
use burn_sfp_core::{
    Analysis, AnalyzeConfig, Batch, GradientConfig, NoProgress, Readout, TensorCalibration, analyze, analyze_network,
};
use burn_sfp_graph::{Fingerprint, GraphModule, Network};
use burn_sfp_nn::{SparseConv2d, SparseLinear};
use burn_sfp_prune::{
    Afcc, BiasCorrection, Budget, FineTuneConfig, Magnitude, MagnitudeConnections, OptimizerConfig, Planner, PrunePlan,
    Pruner, RankingPolicy, SfpRanking, SparseConfig, SparseFormat, StoreConfig, densify, fine_tune, fine_tune_stored,
    fold_batch_norms, sparsify,
};

use crate::support::*;

const TYPES: [DType; 4] = [DType::F32, DType::F16, DType::BF16, DType::F64];

/// Largest relative difference between two ways to compute the same.
fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 1e-2,
        DType::BF16 => 6e-2,
        DType::F64 => 1e-12,
        _ => TOLERANCE,
    }
}

#[derive(Module, Debug)]
struct Net {
    stem: Conv2d,
    norm: BatchNorm,
    deep: SparseConv2d,
    hidden: SparseLinear,
    fc: Linear,
}

impl Net {
    fn new(dtype: DType) -> Self {
        let net = random(Self {
            stem: conv(2, 6),
            norm: BatchNormConfig::new(6).init(&device()),
            deep: conv(6, 6).into(),
            hidden: linear(6, 8).into(),
            fc: linear(8, 3),
        });
        net.map(&mut To(dtype))
    }
}

impl GraphModule for Net {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<4>) -> Tensor<2> {
        let x = relu(self.norm.forward(self.stem.forward(x)));
        self.fc.forward(relu(self.hidden.forward(mean(relu(self.deep.forward(x))))))
    }
}

/// Casts every parameter.
pub struct To(pub DType);

impl ModuleMapper for To {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| tensor.cast(self.0))
    }
}

/// The types of all parameters and statistics.
fn types<M: Module>(model: &M) -> Vec<DType> {
    struct Read(Vec<DType>);
    impl burn::module::ModuleVisitor for Read {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(param.base().dtype());
        }
    }
    let mut read = Read(Vec::new());
    model.visit(&mut read);
    read.0.dedup();
    read.0
}

fn labels() -> Vec<usize> {
    (0..12).map(|k| k % 3).collect()
}

fn data(dtype: DType) -> TensorCalibration<Tensor<4>> {
    TensorCalibration::new(images(dtype), labels(), 5)
}

fn images(dtype: DType) -> Tensor<4> {
    input([12, 2, 4, 4]).cast(dtype)
}

/// Largest elements of all performance matrices, and all means of inputs.
fn numbers(analysis: &Analysis) -> Vec<f64> {
    let layers = analysis.layers.iter().flat_map(|layer| layer.performance.iter().map(|filter| filter.max));
    layers.chain(analysis.input_means.values().flatten().map(|mean| f64::from(*mean))).collect()
}

#[test]
fn every_readout() {
    let gradient = Readout::Gradient(GradientConfig::new().with_epochs(3));
    for readout in [Readout::default(), gradient] {
        let mut expected: Option<Vec<f64>> = None;
        for dtype in TYPES {
            let config = AnalyzeConfig::new().with_readout(readout.clone()).with_accuracy(true).with_state(true);
            let found = analyze(&Net::new(dtype), &data(dtype), &config).unwrap();
            let given = AnalyzeConfig::new().with_readout(Readout::Given(Box::new(found.clone()))).with_accuracy(true);
            assert_eq!(numbers(&analyze(&Net::new(dtype), &data(dtype), &given).unwrap()), numbers(&found));
            let found = numbers(&found);
            // The kernels compute in single precision, whatever the model does.
            let most = tolerance(dtype).max(1e-4);
            let expected = expected.get_or_insert_with(|| found.clone());
            let largest = expected.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
            let off = found.iter().zip(&*expected).fold(0.0_f64, |off, (a, b)| off.max((a - b).abs()));
            assert!(off < 3.0 * most * largest, "{dtype:?}, {readout:?}: {off} of {largest}");
        }
    }
}

/// The smaller model is the original with zeros, in every type.
#[test]
fn smaller_models() {
    for dtype in TYPES {
        let (net, x) = (Net::new(dtype), images(dtype));
        let half = Planner::new().budget(Budget::PerLayer(0.5));
        for planner in [half.clone(), half.clone().bias_correction(BiasCorrection::Constants)] {
            let made = planner.prune(&net, &x, &Magnitude::l2()).unwrap();
            assert_eq!(made.model.stem.weight.dims()[0], 3);
            let off = difference(made.model.run(x.clone()), made.plan.zeroed(&net).unwrap().run(x.clone()));
            assert!(off < tolerance(dtype), "{dtype:?}: off by {off}");
            assert_eq!((types(&made.model), types(&made.plan.zeroed(&net).unwrap())), (vec![dtype], vec![dtype]));
        }
    }
}

/// Means of removed channels and connections go into the biases, and the result is that in single precision.
#[test]
fn mean_corrections() {
    let single = Net::new(DType::F32);
    for dtype in TYPES {
        let (net, x) = (Net::new(dtype), images(dtype));
        let (network, analysis) = analyze_network(&net, &data(dtype), &AnalyzeConfig::new(), &NoProgress).unwrap();
        let policies: [&dyn RankingPolicy; 3] = [&SfpRanking::new(), &MagnitudeConnections::l1(), &Afcc::new()];
        for (k, policy) in policies.into_iter().enumerate() {
            for correction in [BiasCorrection::Channels, BiasCorrection::Connections] {
                let planner = Planner::new().bias_correction(correction).keep_empty(k == 2);
                let plan = planner.plan(&network, &analysis, policy).unwrap();
                assert!(k > 0 || !plan.bias_corrections.is_empty());
                let smaller = plan.apply(&net).unwrap();
                plan.verify(&capture(&net, &x), &capture(&smaller, &x)).unwrap();
                // Means count for the weights that they were measured on, and these are the same but for their precision.
                let mut there = plan.clone();
                there.measured_on = Fingerprint::of(&single).unwrap();
                let expected = there.sealed().unwrap().apply(&single).unwrap().run(images(DType::F32));
                let off = difference(smaller.run(x.clone()).cast(DType::F32), expected);
                assert!(off < tolerance(dtype).max(1e-4), "{dtype:?}, {}: off by {off}", policy.name());
            }
        }
        let pruned = Pruner::new(&data(dtype)).policy(SfpRanking::new()).analyze_and_prune(&net).unwrap();
        assert!(pruned.plan.parameters_after < pruned.plan.parameters_before);
    }
}

fn masked(net: &Net, x: &Tensor<4>) -> (PrunePlan, Net) {
    let made = Planner::new().keep_empty(true).prune(net, x, &MagnitudeConnections::l1().removing(0.6)).unwrap();
    assert!(!made.plan.masks.is_empty());
    (made.plan, made.model)
}

/// Masks, sparse formats and back, folded normalisations.
#[test]
fn masks_and_formats() {
    for dtype in TYPES {
        let (net, x) = (Net::new(dtype), images(dtype));
        let (plan, smaller) = masked(&net, &x);
        let expected = smaller.run(x.clone());
        let close = |found: Net, what: &str| {
            let off = difference(found.run(x.clone()), expected.clone());
            assert!(off < tolerance(dtype), "{dtype:?}, {what}: off by {off}");
        };
        close(plan.zeroed(&net).unwrap(), "zeroed");
        close(smaller.clone().materialize(), "materialised");
        for format in [SparseFormat::Kernels, SparseFormat::Blocks] {
            let sparse = sparsify(&smaller, &x, &SparseConfig::new().with_format(format)).unwrap();
            assert!(!sparse.layers.is_empty());
            assert_eq!(types(&densify(&sparse.model).unwrap()), types(&smaller));
            close(sparse.model.clone(), "sparse");
            close(densify(&sparse.model).unwrap(), "dense again");
        }
        let folded = fold_batch_norms(&smaller.clone().materialize(), &x).unwrap();
        assert_eq!(folded.folded.len(), 1);
        close(folded.model, "folded");
    }
}

fn batches(
    dtype: DType,
) -> impl Fn(usize) -> std::array::IntoIter<Result<Batch<Tensor<4>>, burn_sfp_core::DataError>, 2> {
    move |_| {
        let half = |start: usize| {
            Ok(Batch {
                input: images(dtype).slice_dim(0, start..start + 6),
                labels: labels()[start..start + 6].to_vec(),
            })
        };
        [half(0), half(6)].into_iter()
    }
}

#[test]
fn training() {
    let adam = OptimizerConfig::Adam(AdamConfig::new().with_epsilon(1e-3));
    for dtype in TYPES {
        let (net, x) = (Net::new(dtype), images(dtype));
        let (plan, smaller) = masked(&net, &x);
        let sparse = sparsify(&smaller, &x, &SparseConfig::new()).unwrap().model;
        for optimizer in [OptimizerConfig::Sgd, adam.clone()] {
            let config = FineTuneConfig::new().with_epochs(2.0).with_learning_rate(0.05).with_optimizer(optimizer);
            for config in [config.clone(), config.with_label_smoothing(0.1).with_all_layers(true)] {
                for model in [smaller.clone(), smaller.clone().materialize(), sparse.clone()] {
                    let tuned = fine_tune(model.clone(), &plan, batches(dtype), 12, &config, &NoProgress).unwrap();
                    assert!(difference(tuned.run(x.clone()), model.run(x.clone())) > 1e-3);
                    assert_eq!(types(&tuned), types(&model));
                    let dense = densify(&tuned).unwrap().materialize();
                    let (found, before) = (values(dense.fc.weight.val()), values(smaller.fc.weight.val()));
                    assert!(before.contains(&0.0));
                    assert!(found.iter().zip(&before).all(|(found, before)| *before != 0.0 || *found == 0.0));
                }
            }
        }
        let only = Planner::new().keep_empty(true);
        let only = only.prune(&net, &x, &MagnitudeConnections::l1().layers(["fc", "hidden"])).unwrap();
        let (made, store) = (only.model.clone(), StoreConfig::new());
        let tuned = fine_tune_stored(made, &only.plan, batches(dtype), 12, &store, &FineTuneConfig::new(), &NoProgress)
            .unwrap();
        assert!(difference(tuned.run(x.clone()), only.model.run(x)) > 0.0);
    }
}

#[test]
fn files() {
    let folder = tempfile::tempdir().unwrap();
    for dtype in TYPES {
        let (net, x) = (Net::new(dtype), images(dtype));
        let made = Planner::new().budget(Budget::PerLayer(0.5)).prune(&net, &x, &Magnitude::l2()).unwrap();
        let (plan, record) = (folder.path().join("plan.json"), folder.path().join("model.bpk"));
        made.plan.save(&plan).unwrap();
        made.model.clone().save_file(&record).unwrap();
        let fresh = PrunePlan::load(&plan).unwrap().apply(&Net::new(dtype).map(&mut To(dtype))).unwrap();
        let zeros = fresh.map(&mut Zeros);
        assert_eq!(bytes(&zeros.load_file(&record)), bytes(&made.model));
        let state = AnalyzeConfig::new().with_state(true);
        let analysis = analyze(&net, &data(dtype), &state).unwrap();
        let path = folder.path().join(format!("{dtype:?}.json"));
        analysis.save_with_state(&path).unwrap();
        let loaded = Analysis::load(&path).unwrap();
        assert_eq!(numbers(&loaded), numbers(&analysis));
        loaded.merge(&analysis).unwrap();
    }
}

/// Forgets every value.
struct Zeros;

impl ModuleMapper for Zeros {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| tensor.zeros_like())
    }
}

/// The parameters of one model on two devices.
#[test]
#[allow(deprecated)]
fn two_devices() {
    let x = images(DType::F32);
    let mut net = Net::new(DType::F32);
    net.hidden = net.hidden.to_device(&burn::tensor::Device::ndarray());
    let expected = Net::new(DType::F32);
    let network = Network::capture(&net, &x).unwrap();
    assert_eq!(network.macs(), capture(&expected, &x).macs());
    let found = analyze(&net, &data(DType::F32), &AnalyzeConfig::new()).unwrap();
    let wanted = analyze(&expected, &data(DType::F32), &AnalyzeConfig::new()).unwrap();
    assert_eq!(numbers(&found), numbers(&wanted));
    let plan = Planner::new().prune(&net, &x, &Magnitude::l2()).unwrap().plan;
    let smaller = plan.apply(&net).unwrap();
    assert_eq!(smaller.devices().len(), 2);
    // Its forward pass moves nothing, so that Burn refuses to train it.
    let error = fine_tune(smaller, &plan, batches(DType::F32), 12, &FineTuneConfig::new(), &NoProgress).unwrap_err();
    holds(error, &["forward pass failed"]);
}
