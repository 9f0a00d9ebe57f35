//! The network that is pruned: trained from a seed, with all that policies read.

use std::fs;
use std::path::Path;

use burn::prelude::*;
use burn::store::{ModuleSnapshot, SafetensorsStore};
use burn_sfp::prelude::*;
use quickstart::glyphs::GlyphSet;
use quickstart::model::{Vgg, VggConfig};
use quickstart::train::{TrainConfig, top1, train};

use super::contenders::Contender;
use super::rows::Settings;

/// Images of a batch, other than in training.
const BATCH: usize = 100;

/// A trained network with its analysis and evidence, and the images that all policies are judged by.
pub struct Subject {
    /// The network.
    pub model: Vgg,
    /// Its top-1 on the test images.
    pub top1: f64,
    /// The network as captured.
    pub network: Network,
    /// What its filters recognise.
    pub analysis: Analysis,
    /// What the policies read besides.
    pub evidence: Evidence,
    /// The test images.
    pub test: TensorCalibration<Tensor<4>>,
    /// The batches of the epoch after pruning, none of which was seen in training.
    pub epoch: Vec<Batch<Tensor<4>>>,
}

impl Subject {
    /// Trains a network as the quickstart does, or loads it from the folder, and makes all passes that the policies need.
    pub fn prepare(
        seed: u64,
        settings: Settings,
        contenders: &[Contender],
        folder: Option<&Path>,
        device: &Device,
        progress: &dyn Progress,
    ) -> Result<Self, DataError> {
        let set = GlyphSet::new(seed);
        let Settings { samples, epochs, images, .. } = settings;
        let config = TrainConfig::new().with_epochs(epochs).with_samples(samples);
        device.seed(seed);
        let mut model = VggConfig::new().init(device);
        let file = folder.map(|folder| folder.join(format!("vgg-{seed}-{samples}-{epochs}.safetensors")));
        match file.as_deref().filter(|file| file.exists()) {
            Some(file) => {
                model.load_from(&mut SafetensorsStore::from_file(file))?;
            }
            None => {
                model = train(model, &set, &config, device, progress)?;
                if let Some(file) = &file {
                    file.parent().map_or(Ok(()), fs::create_dir_all)?;
                    model.save_into(&mut SafetensorsStore::from_file(file))?;
                }
            }
        }
        let tensors = |batches: &mut dyn Iterator<Item = Result<Batch<Tensor<4>>, DataError>>| {
            let all = batches.next().ok_or("no images")??;
            Ok::<_, DataError>(TensorCalibration::new(all.input, all.labels, BATCH))
        };
        let calibration = tensors(&mut set.calibration(images, images, device))?;
        let test = tensors(&mut set.test(images, images, device))?;
        let (network, analysis) = analyze_network(&model, &calibration, &AnalyzeConfig::new(), progress)?;
        let needs = contenders.iter().fold(Needs::none(), |needs, contender| needs.and(contender.policy.needs()));
        let evidence = Evidence::gather(&model, &calibration, needs, progress)?;
        let epoch = set.epoch(epochs, samples, config.batch_size, device).collect::<Result<Vec<_>, DataError>>()?;
        Ok(Self { top1: top1(&model, &test)?, model, network, analysis, evidence, test, epoch })
    }
}
