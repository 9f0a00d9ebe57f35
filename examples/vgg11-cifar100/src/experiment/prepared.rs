//! What all rows share: the network, its analyses, what its late part reads.

use std::cell::OnceCell;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use burn_sfp::core::{SfpError, analyze_network};
use burn_sfp::prelude::{
    Afcc, Analysis, AnalyzeConfig, Bars, Calibration, Evidence, Grid, MagnitudeConnections, Needs, Network, Planner,
    PrunePlan, RankingPolicy, ReconstructionConnections, TensorCalibration,
};

use super::late::Chosen;
use super::{Args, BATCH, LAYERS, Late};
use crate::cifar::{self, Cifar, CifarCalibration};
use crate::error::ExampleError;
use crate::model::{FRONT, Vgg11};
use crate::weights;

/// Thresholds of the analyses.
const THRESHOLDS: [f64; 3] = [0.2, 0.3, 0.45];

/// What all rows share.
pub(super) struct Prepared {
    pub device: Device,
    pub model: Vgg11,
    pub late: Late,
    pub network: Network,
    /// By threshold.
    analyses: Vec<(f64, Analysis)>,
    /// The images that weights are solved with.
    solving: CifarCalibration,
    evidence: OnceCell<Evidence>,
    /// What the late part reads of these images, and of the test images.
    pub features: TensorCalibration<Tensor<4>>,
    test: TensorCalibration<Tensor<4>>,
    test_images: Cifar,
    /// Top-1 of the network on the test images.
    pub top1: f64,
}

impl Prepared {
    pub fn new(args: &Args) -> Result<Self, ExampleError> {
        let device = args.device.device()?;
        let model = weights::load(&args.weights, &device)?;
        let images = |file: &str, count| Cifar::load_exactly(&args.data, &[file], count);
        let (samples, solving) = (images(&args.train, args.samples)?, images(&args.train, args.solving)?);
        let test_images = Cifar::load(&args.data, &["test.bin"], None)?;
        let (network, analyses) = analyses(args, &model, &samples.calibration(BATCH, &device))?;
        let late = Late { net: model.clone() };
        let (features, test) = (features(&model, &solving, &device), features(&model, &test_images, &device));
        let solving = solving.calibration(BATCH, &device);
        let evidence = OnceCell::new();
        let top1 = top1(&late, &test);
        Ok(Self { device, model, late, network, analyses, solving, evidence, features, test, test_images, top1 })
    }

    /// The analysis at a threshold; the lowest one where that is none of those made.
    pub fn analysis(&self, threshold: Option<f64>) -> &Analysis {
        let found = self.analyses.iter().find(|(known, _)| Some(*known) == threshold);
        &found.unwrap_or(&self.analyses[0]).1
    }

    /// Top-1 on the test images.
    pub fn top1(&self, late: &Late) -> f64 {
        top1(late, &self.test)
    }

    /// Top-1 of a network whose early layers are not those of the original.
    pub fn whole_top1(&self, model: &Vgg11) -> f64 {
        cifar::top1(model, &self.test_images, BATCH, &self.device)
    }

    /// Sums over the images that weights are solved with, made when they are first asked for.
    pub fn evidence(&self) -> Result<&Evidence, ExampleError> {
        if let Some(evidence) = self.evidence.get() {
            return Ok(evidence);
        }
        let needs = ReconstructionConnections::new().layers(LAYERS).in_label_fields().needs();
        let evidence = Evidence::gather(&self.model, &self.solving, needs, &Bars::default())?;
        Ok(self.evidence.get_or_init(|| evidence))
    }

    /// The plan of a policy, from the analysis at a threshold. Filters without connections keep their places.
    pub fn plan(&self, policy: &dyn RankingPolicy, threshold: Option<f64>) -> Result<PrunePlan, ExampleError> {
        let planner = Planner::new().keep_empty(true);
        let analysis = self.analysis(threshold);
        if policy.needs() == Needs::none() {
            return Ok(planner.plan(&self.network, analysis, policy)?);
        }
        Ok(planner.plan(&self.network, analysis, &self.evidence()?.policy(policy))?)
    }

    /// The plan that removes nothing.
    pub fn untouched(&self) -> Result<PrunePlan, ExampleError> {
        self.plan(&Chosen(&[]), None)
    }

    /// The plan of AFCC at a threshold, whose shares others take.
    pub fn afcc(&self, threshold: f64) -> Result<PrunePlan, ExampleError> {
        self.plan(&Afcc::new().layers(LAYERS), Some(threshold))
    }

    /// A plan that takes the same share of each layer.
    pub fn even(&self, share: f64) -> Result<PrunePlan, ExampleError> {
        self.plan(&MagnitudeConnections::l2().layers(LAYERS).removing(share), None)
    }
}

/// The analyses at all thresholds: those of the cache, or one pass for all of them.
fn analyses(
    args: &Args,
    model: &Vgg11,
    calibration: &CifarCalibration,
) -> Result<(Network, Vec<(f64, Analysis)>), ExampleError> {
    let file = |threshold: f64| args.cache.join(format!("analysis-{}-{threshold}.json", args.samples));
    if THRESHOLDS.iter().all(|&threshold| file(threshold).exists()) {
        let load = |&threshold: &f64| Ok((threshold, Analysis::load(file(threshold))?));
        let loaded = THRESHOLDS.iter().map(load).collect::<Result<Vec<(f64, Analysis)>, ExampleError>>()?;
        let first = calibration.batches().next().ok_or(SfpError::NoSamples)?;
        let first = first.map_err(|source| SfpError::Data { batch: 0, source })?;
        return Ok((Network::capture(model, &first.input)?, loaded));
    }
    std::fs::create_dir_all(&args.cache)
        .map_err(|error| ExampleError::Output { path: args.cache.clone(), message: error.to_string() })?;
    // The layers that lose connections, and the one before them.
    let layers = (FRONT - 1..model.convs.len()).map(|k| format!("convs.{k}"));
    let config = AnalyzeConfig::new().with_grid(Grid::Full).with_state(true).with_layers(layers);
    let (network, analysis) = analyze_network(model, calibration, &config, &Bars::default())?;
    let mut all = Vec::new();
    for threshold in THRESHOLDS {
        let analysis = analysis.at_threshold(threshold)?;
        analysis.save(file(threshold))?;
        all.push((threshold, analysis));
    }
    Ok((network, all))
}

/// What the late part reads of images.
fn features(model: &Vgg11, images: &Cifar, device: &Device) -> TensorCalibration<Tensor<4>> {
    let model = model.valid();
    let (mut parts, mut labels) = (Vec::new(), Vec::new());
    for batch in images.calibration(BATCH, device).batches().flatten() {
        parts.push(model.front(batch.input));
        labels.extend(batch.labels);
    }
    TensorCalibration::new(Tensor::cat(parts, 0), labels, BATCH)
}

fn top1(late: &Late, data: &TensorCalibration<Tensor<4>>) -> f64 {
    cifar::top1_of(late, data.batches())
}
