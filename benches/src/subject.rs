//! The VGG-11 and the images that it is measured on: trained weights and CIFAR-100 where they are, random otherwise.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use burn_sfp::graph::Network;
use burn_sfp::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use vgg11_cifar100::cifar::{Augmentation, CLASSES, Cifar, PIXELS, SIDE};
use vgg11_cifar100::model::{Vgg11, Vgg11Config};
use vgg11_cifar100::weights;

use crate::Result;
use crate::measure::{Kind, Pairs, Row, Unit};

/// Images of a pass.
pub const IMAGES: usize = 256;
/// Images of a batch.
pub const BATCH: usize = 64;

/// What the rows of a run share; made when the first row asks for it.
pub struct Session {
    /// Pairs that count.
    pub pairs: usize,
    subject: OnceCell<Subject>,
}

impl Session {
    /// A run of this many pairs a row.
    pub fn new(pairs: usize) -> Self {
        Self { pairs, subject: OnceCell::new() }
    }

    /// The VGG-11 and its images.
    ///
    /// # Errors
    /// Weights or images that are there but cannot be read.
    pub fn subject(&self) -> Result<&Subject> {
        if self.subject.get().is_none() {
            let _ = self.subject.set(Subject::load()?);
        }
        self.subject.get().ok_or_else(|| "the model was not loaded".into())
    }
}

/// A model in evaluation mode and labelled images on flex.
pub struct Subject {
    device: Device,
    model: Vgg11,
    calibration: TensorCalibration<Tensor<4>>,
    source: &'static str,
    given: OnceCell<AnalyzeConfig>,
}

impl Subject {
    fn load() -> Result<Self> {
        let device = Device::flex();
        let (model, pixels, labels, source) = match shared()? {
            Some(folder) => {
                let model = weights::load(&folder.join("models/vgg11_cifar100.safetensors"), &device)?;
                let (pixels, labels) = real_images(&folder.join("data/cifar100"))?;
                (model, pixels, labels, "trained weights, CIFAR-100")
            }
            None => {
                device.seed(0);
                let (pixels, labels) = random_images();
                (Vgg11Config::new().init(&device), pixels, labels, "random weights and images")
            }
        };
        let images = Tensor::from_data(TensorData::new(pixels, [labels.len(), 3, SIDE, SIDE]), &device);
        let calibration = TensorCalibration::new(images, labels, BATCH);
        Ok(Self { device, model: model.valid(), calibration, source, given: OnceCell::new() })
    }

    /// The model.
    pub fn model(&self) -> &Vgg11 {
        &self.model
    }

    /// The images, in batches.
    pub fn calibration(&self) -> &TensorCalibration<Tensor<4>> {
        &self.calibration
    }

    /// Seconds of a plain forward pass over all images, the logits read back.
    ///
    /// # Errors
    /// A device that fails.
    pub fn forward(&self) -> Result<f64> {
        self.device.sync()?;
        let started = Instant::now();
        for batch in self.calibration.batches() {
            std::hint::black_box(self.model.logits(batch?.input).into_data());
        }
        self.device.sync()?;
        Ok(started.elapsed().as_secs_f64())
    }

    /// An analysis of the model on the images; it takes the time of its own stages.
    ///
    /// # Errors
    /// As [`analyze`].
    pub fn analyze(&self, config: &AnalyzeConfig) -> Result<Analysis> {
        self.device.sync()?;
        Ok(analyze(&self.model, &self.calibration, config)?)
    }

    /// [`analyze`](Subject::analyze), and the network that a plan is made from.
    ///
    /// # Errors
    /// As [`analyze`].
    pub fn analyze_network(&self, config: &AnalyzeConfig) -> Result<(Network, Analysis)> {
        Ok(analyze_network(&self.model, &self.calibration, config, &NoProgress)?)
    }

    /// Seconds of a stage of an analysis against those of a plain forward pass, in turn.
    ///
    /// # Errors
    /// As [`analyze`].
    pub fn stage_vs_forward(
        &self,
        pairs: usize,
        config: &AnalyzeConfig,
        stage: impl Fn(&Analysis) -> f64,
    ) -> Result<Stage<'_>> {
        let mut last = None;
        let ours = || {
            let analysis = self.analyze(config)?;
            let seconds = stage(&analysis);
            last = Some(analysis);
            Ok(seconds)
        };
        let pairs = Pairs::in_turn(pairs, ours, || self.forward())?;
        Ok(Stage { subject: self, pairs, analysis: last.ok_or("nothing was analysed")? })
    }

    /// [`stage_vs_forward`](Subject::stage_vs_forward) with every position, no readout fitted.
    ///
    /// # Errors
    /// As [`analyze`].
    pub fn full_stage_vs_forward(&self, pairs: usize, stage: impl Fn(&Analysis) -> f64) -> Result<Stage<'_>> {
        self.stage_vs_forward(pairs, self.without_fitting()?, stage)
    }

    /// Settings with which an analysis fits no readout and counts every position: the readouts are handed over, fitted
    /// once by one epoch of gradient descent (the early layers have too many features for normal equations).
    ///
    /// # Errors
    /// As [`analyze`].
    pub fn without_fitting(&self) -> Result<&AnalyzeConfig> {
        if self.given.get().is_none() {
            let once = Readout::Gradient(GradientConfig { epochs: 1, ..GradientConfig::default() });
            let config = AnalyzeConfig::new().with_grid(Grid::Full);
            let fitted = self.analyze(&config.clone().with_readout(once).with_state(true))?;
            let _ = self.given.set(config.with_readout(Readout::Given(Box::new(fitted))));
        }
        self.given.get().ok_or_else(|| "the readouts were not fitted".into())
    }

    /// Multiply-adds of a forward pass over all images.
    ///
    /// # Errors
    /// As [`Network::capture`].
    pub fn macs(&self) -> Result<f64> {
        let network = Network::capture(&self.model, &Tensor::zeros([1, 3, SIDE, SIDE], &self.device))?;
        Ok(network.layers().iter().map(|layer| layer.macs as f64).sum::<f64>() * IMAGES as f64)
    }

    /// A line about model and images, for notes.
    pub fn about(&self) -> String {
        format!("VGG-11 ({}), {IMAGES} images, batch {BATCH}, flex", self.source)
    }
}

/// A stage of an analysis, measured.
pub struct Stage<'a> {
    /// What was analysed.
    pub subject: &'a Subject,
    /// The last analysis.
    pub analysis: Analysis,
    pairs: Pairs,
}

impl Stage<'_> {
    /// Filters times positions, over all layers.
    pub fn features(&self) -> f64 {
        self.analysis.layers.iter().map(|layer| (layer.filters * layer.positions) as f64).sum()
    }

    /// Number of classes.
    pub fn classes(&self) -> f64 {
        self.analysis.classes as f64
    }

    /// The row of the stage.
    pub fn row(&self, name: &'static str, note: String) -> Row {
        self.pairs.row(name, Kind::Cost, Unit::Seconds, note)
    }
}

/// The folder with weights and images: named by `BURN_SFP_SHARED`, else beside the workspace, else none.
fn shared() -> Result<Option<PathBuf>> {
    match std::env::var_os("BURN_SFP_SHARED") {
        Some(folder) if folder.is_empty() => Ok(None),
        Some(folder) => match PathBuf::from(folder) {
            folder if folder.is_dir() => Ok(Some(folder)),
            folder => Err(format!("BURN_SFP_SHARED names {}, which is no folder", folder.display()).into()),
        },
        None => {
            let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
            Ok(beside.is_dir().then_some(beside))
        }
    }
}

fn real_images(folder: &Path) -> Result<(Vec<f32>, Vec<usize>)> {
    let cifar = Cifar::load(folder, &["train-25k.bin"], None)?;
    let all: Vec<usize> = (0..cifar.len()).map(|index| cifar.label(index)).collect();
    let chosen = cover(&all);
    let labels: Vec<usize> = chosen.iter().map(|&index| all[index]).collect();
    if (0..CLASSES).any(|class| !labels.contains(&class)) || labels.len() < IMAGES {
        return Err(format!("{}: train-25k.bin has too few images of some class", folder.display()).into());
    }
    let mut pixels = Vec::with_capacity(IMAGES * PIXELS);
    for index in chosen {
        Augmentation::default().append(cifar.image(index), &mut pixels);
    }
    Ok((pixels, labels))
}

/// The first two images of each class, filled up with the first ones left, in the order of the file.
fn cover(labels: &[usize]) -> Vec<usize> {
    let mut seen = [0; CLASSES];
    let (mut chosen, others): (Vec<usize>, Vec<usize>) = (0..labels.len()).partition(|&index| {
        seen[labels[index]] += 1;
        seen[labels[index]] <= 2
    });
    chosen.extend(others.into_iter().take(IMAGES.saturating_sub(chosen.len())));
    chosen.sort_unstable();
    chosen
}

fn random_images() -> (Vec<f32>, Vec<usize>) {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let pixels = (0..IMAGES * PIXELS).map(|_| rng.random_range(-1.0..1.0)).collect();
    (pixels, (0..IMAGES).map(|index| index % CLASSES).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_is_there() {
        // Class 99 comes last.
        let labels: Vec<usize> = (0..990).map(|k| k % 99).chain([99, 99, 99]).collect();
        let chosen = cover(&labels);
        assert_eq!(chosen.len(), IMAGES);
        assert!(chosen.is_sorted());
        for class in 0..CLASSES {
            assert!(chosen.iter().filter(|&&index| labels[index] == class).count() >= 2, "{class}");
        }
        let (pixels, labels) = random_images();
        assert_eq!((pixels.len(), labels.len()), (IMAGES * PIXELS, IMAGES));
        assert!((0..CLASSES).all(|class| labels.contains(&class)));
    }
}
