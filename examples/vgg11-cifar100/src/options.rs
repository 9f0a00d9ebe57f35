//! The command line, parsed into checked types.

use std::path::PathBuf;
use std::str::FromStr;

use burn_sfp::core::{GradientConfig, Grid, Readout};
use clap::{Parser, ValueEnum};
use serde::{Serialize, Serializer};
use support::DeviceName;

use crate::model::CONVOLUTIONS;

/// Prunes a VGG-11 trained on CIFAR-100 by what its filters recognise.
#[derive(Clone, Debug, Parser, Serialize)]
#[command(version)]
pub struct Options {
    /// Folder with CIFAR-100's binary version (train.bin, test.bin).
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Trained weights: a safetensors file with PyTorch's names and layouts.
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// Files of training images in the data folder; calibration reads the first, fine-tuning all of them.
    #[arg(long, value_name = "FILE", value_delimiter = ',', default_value = "train.bin")]
    pub train: Vec<String>,
    /// Calibration images: the first N records of the first training file.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub samples: usize,
    /// Test images: the first N records of test.bin, 0 for all of them.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub test: usize,
    /// Where the network runs.
    #[arg(long, value_enum, default_value = "flex")]
    pub device: DeviceName,
    /// What decides about filters or connections.
    #[arg(long, value_enum, default_value = "afcc")]
    pub policy: PolicyName,
    /// Threshold of the Boolean matrices.
    #[arg(long, default_value_t = 0.3)]
    pub threshold: f64,
    /// Labels that two filters must share to stay connected (afcc, and the shares of magnitude-kernels).
    #[arg(long, value_name = "K", default_value_t = 1)]
    pub shared_labels: usize,
    /// Layers whose incoming connections are pruned: convolutions from 2 to 10, fc for the classifier.
    #[arg(long, value_name = "LAYER", value_delimiter = ',', default_value = "8,9,10,fc")]
    pub layers: Vec<LayerName>,
    /// Share of the filters that goes (magnitude, sfp-rank).
    #[arg(long, value_name = "R")]
    pub ratio: Option<f64>,
    /// How the readouts of the layers are fitted.
    #[arg(long, value_enum, default_value = "ridge")]
    pub readout: ReadoutName,
    /// Measure the top-1 of each layer's readout on the calibration images, with one more pass.
    #[arg(long)]
    pub accuracy: bool,
    /// Positions that a readout sees: auto, full, or at most N along each axis [default: full; auto for sfp-rank, which
    /// looks at every layer].
    #[arg(long, value_name = "auto|full|N", value_parser = parse_grid)]
    pub grid: Option<Grid>,
    /// Epochs of fine-tuning over all training files; fractions allowed.
    #[arg(long, value_name = "EPOCHS", default_value_t = 0.0)]
    pub finetune: f64,
    /// Learning rate of the fine-tuning.
    #[arg(long, default_value_t = 0.02)]
    pub lr: f64,
    /// Label smoothing of the fine-tuning; the weights were trained with 0.05.
    #[arg(long, default_value_t = 0.05)]
    pub label_smoothing: f32,
    /// Fine-tunes without shift and flip.
    #[arg(long)]
    pub no_augment: bool,
    /// Images of a batch, in fine-tuning and everywhere else.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub batch_size: usize,
    /// Seed of everything random.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Folder for analysis.json, plan.json, report.json and pruned.bpk; it is created.
    #[arg(long, value_name = "DIR", default_value = "out")]
    pub out: PathBuf,
    /// Also writes the run as a page to look at, with the performance matrices of single filters: one HTML file.
    #[arg(long, value_name = "PATH")]
    pub report: Option<PathBuf>,
}

/// A policy by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyName {
    /// Connections between filters that recognise a common label stay.
    Afcc,
    /// The same with random clusters.
    RandomAfcc,
    /// The kernels with the smallest L1 norms go, as many in each layer as afcc takes.
    MagnitudeKernels,
    /// The filters with the smallest L1 norms go.
    Magnitude,
    /// The filters with the lowest single-filter performance go.
    SfpRank,
}

impl PolicyName {
    /// Whether whole filters go, by `--ratio`.
    pub fn is_for_filters(self) -> bool {
        matches!(self, Self::Magnitude | Self::SfpRank)
    }
}

/// A readout by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadoutName {
    /// Ridge regression.
    Ridge,
    /// The paper's gradient descent.
    Gradient,
}

impl ReadoutName {
    /// The readout with its default settings.
    pub fn readout(self) -> Readout {
        match self {
            Self::Ridge => Readout::default(),
            Self::Gradient => Readout::Gradient(GradientConfig::default()),
        }
    }
}

/// A layer that reads another layer's filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerName {
    /// A convolution, from 2 to 10.
    Convolution(usize),
    /// The classifier.
    Classifier,
}

impl LayerName {
    /// Module path.
    pub fn path(self) -> String {
        match self {
            Self::Convolution(number) => format!("convs.{}", number - 1),
            Self::Classifier => "fc".into(),
        }
    }

    /// Module path of the layer whose filters it reads.
    pub fn producer(self) -> String {
        match self {
            Self::Convolution(number) => format!("convs.{}", number - 2),
            Self::Classifier => format!("convs.{}", CONVOLUTIONS - 1),
        }
    }
}

impl FromStr for LayerName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match (name, name.parse()) {
            ("fc", _) => Ok(Self::Classifier),
            (_, Ok(number @ 2..=CONVOLUTIONS)) => Ok(Self::Convolution(number)),
            (_, Ok(1)) => Err("the first convolution reads the image, no filters: name 2 to 10 or fc".into()),
            _ => Err("no such layer: name convolutions from 2 to 10, or fc".into()),
        }
    }
}

impl Serialize for LayerName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.path())
    }
}

impl Options {
    /// Paths of the layers whose incoming connections are pruned.
    pub fn pruned_paths(&self) -> Vec<String> {
        self.layers.iter().map(|layer| layer.path()).collect()
    }

    /// Paths of the layers that the policy has to see: for connections the layers at both ends (the classifier's
    /// outputs are labels themselves); for magnitudes just the last convolution, whose readout is there already; all
    /// for a ranking of filters (`None`).
    pub fn analysed_paths(&self) -> Option<Vec<String>> {
        match self.policy {
            PolicyName::SfpRank => None,
            PolicyName::Magnitude => Some(vec![LayerName::Classifier.producer()]),
            PolicyName::Afcc | PolicyName::RandomAfcc | PolicyName::MagnitudeKernels => {
                let own = |layer: &&LayerName| **layer != LayerName::Classifier;
                let mut paths: Vec<String> = self.layers.iter().map(|layer| layer.producer()).collect();
                paths.extend(self.layers.iter().filter(own).map(|layer| layer.path()));
                paths.sort_unstable();
                paths.dedup();
                Some(paths)
            }
        }
    }

    /// Positions that the readouts see.
    pub fn chosen_grid(&self) -> Grid {
        let default = if self.policy == PolicyName::SfpRank { Grid::Auto } else { Grid::Full };
        self.grid.unwrap_or(default)
    }
}

fn parse_grid(text: &str) -> Result<Grid, String> {
    match (text, text.parse()) {
        ("auto", _) => Ok(Grid::Auto),
        ("full", _) => Ok(Grid::Full),
        (_, Ok(positions)) if positions > 0 => Ok(Grid::AtMost(positions)),
        _ => Err("give auto, full, or a number of positions from 1".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Options::command().debug_assert();
    }

    #[test]
    fn layers_know_their_producers() {
        let options = Options::parse_from(["vgg11", "--layers", "8,10,fc", "--grid", "2"]);
        let producers: Vec<String> = options.layers.iter().map(|layer| layer.producer()).collect();
        assert_eq!(producers, ["convs.6", "convs.8", "convs.9"]);
        assert_eq!(options.layers[0].path(), "convs.7");
        assert_eq!(options.grid, Some(Grid::AtMost(2)));
        assert_eq!(options.analysed_paths().unwrap(), ["convs.6", "convs.7", "convs.8", "convs.9"]);
        for wrong in ["1", "11", "conv", ""] {
            assert!(wrong.parse::<LayerName>().is_err(), "{wrong}");
        }
    }
}
