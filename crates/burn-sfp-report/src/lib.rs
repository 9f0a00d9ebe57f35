//! Reports on pruned Burn modules, for people: what was removed, what was kept and why, and what the filters recognise.
//!
//! A [`Report`] is made from plain data: a [`PrunePlan`](burn_sfp_prune::PrunePlan), and whatever else there is. It is written as one
//! HTML page that loads nothing from elsewhere ([`Report::write_html`]), as Markdown, JSON or PNG, or printed in a few lines.
//!
//! | part of the page | needs |
//! | --- | --- |
//! | parameters, multiply-adds, filters, connections before and after | the plan |
//! | why filters stay, in words; connections before and after | the plan |
//! | accuracy, latency, bytes on disk | [`Report::accuracy_before`] and its siblings, [`Report::latency`], [`Report::bytes`] |
//! | the network as a graph | the plan; branches and sources with [`Report::network`] |
//! | what the filters recognise: clusters, labels, accuracy of readouts, signal-to-noise ratio | [`Report::analysis`] |
//! | performance matrix of any filter | an analysis that kept its state |
//!
//! Performance matrices are computed from class sums and readouts, which an analysis keeps on request only:
//! [`AnalyzeConfig::with_state(true)`](burn_sfp_core::AnalyzeConfig::with_state). The accuracy of fitted readouts takes a pass over the data of
//! its own: [`AnalyzeConfig::with_accuracy(true)`](burn_sfp_core::AnalyzeConfig::with_accuracy).
//!
//! # Example
//! ```
//! use burn::prelude::*;
//! use burn::nn::{Linear, LinearConfig};
//! use burn_sfp_core::{AnalyzeConfig, TensorCalibration};
//! use burn_sfp_graph::{GraphModule, Network};
//! use burn_sfp_prune::{Pruner, SfpRanking};
//! use burn_sfp_report::ReportExt;
//!
//! #[derive(Module, Debug)]
//! struct Mlp { hidden: Linear, classifier: Linear }
//!
//! impl GraphModule for Mlp {
//!     type Inputs = Tensor<2>;
//!     type Outputs = Tensor<2>;
//!     fn run(&self, x: Tensor<2>) -> Tensor<2> {
//!         self.classifier.forward(burn::tensor::activation::relu(self.hidden.forward(x)))
//!     }
//! }
//!
//! let device = Device::flex();
//! let mlp = Mlp {
//!     hidden: LinearConfig::new(4, 16).init(&device),
//!     classifier: LinearConfig::new(16, 2).init(&device),
//! };
//! let samples = Tensor::<2>::from_floats([[1., 0., 0., 1.], [0., 1., 1., 0.]], &device);
//! let calibration = TensorCalibration::new(samples.clone(), vec![0, 1], 2);
//! let config = AnalyzeConfig::new().with_state(true).with_accuracy(true);
//! let pruned = Pruner::new(&calibration).policy(SfpRanking::new()).ratio(0.5).config(config).analyze_and_prune(&mlp)?;
//!
//! let network = Network::capture(&mlp, &samples)?;
//! let report = pruned.report().title("A small network").network(&network).labels(["cat", "dog"]).accuracy_before(1.0);
//! println!("{report}");
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("report.html");
//! report.write_html(&path)?;
//! assert!(std::fs::read_to_string(&path)?.contains("<h1>A small network</h1>"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Of large networks a part is shown, so that the page stays within some megabytes; the page says what was left out. Text from outside (paths,
//! names of labels) is escaped everywhere.

mod content;
mod display;
mod error;
mod given;
mod html;
mod limits;
mod markdown;
mod plots;
mod report;
mod text;

pub use error::ReportError;
pub use report::{Report, ReportExt};
