//! [`Report`] and [`ReportExt`].

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};

use burn_sfp_core::Analysis;
use burn_sfp_graph::Network;
use burn_sfp_graph::file::replace;
use burn_sfp_graph::latency::LatencyTable;
use burn_sfp_prune::{PrunePlan, Pruned, PrunedModule, SparseLayer};

use crate::content::Content;
use crate::given::{Accuracy, Given};
use crate::{ReportError, display, html, markdown, plots};

/// A report on a pruned model, made from plain data: the plan, and what else there is.
///
/// Everything but the plan is optional; what is missing is left out of the report. The crate's page has an example.
#[derive(Clone, Debug)]
pub struct Report<'a> {
    given: Given<'a>,
}

/// Adds `report` to the results of pruning.
///
/// ```
/// # mod small { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/pruned.rs")); }
/// # use small::{mlp, prune};
/// # use burn_sfp_report::ReportExt;
/// let pruned = prune(&mlp());
/// println!("{}", pruned.report());
/// assert!(pruned.report().html()?.starts_with("<!DOCTYPE html>"));
/// # Ok::<(), burn_sfp_report::ReportError>(())
/// ```
pub trait ReportExt {
    /// Returns a report with all that the value knows.
    fn report(&self) -> Report<'_>;
}

impl<M> ReportExt for Pruned<M> {
    /// Returns a report with the plan, the analysis and the formats of sparse layers.
    fn report(&self) -> Report<'_> {
        Report::new(&self.plan).analysis(&self.analysis).sparse(&self.sparse)
    }
}

impl<M> ReportExt for PrunedModule<M> {
    /// Returns a report with the plan.
    fn report(&self) -> Report<'_> {
        Report::new(&self.plan)
    }
}

impl<'a> Report<'a> {
    /// Creates a report on a plan.
    ///
    /// ```
    /// # mod small { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/pruned.rs")); }
    /// # use small::{mlp, prune};
    /// use burn_sfp_report::Report;
    ///
    /// let plan = prune(&mlp()).plan;
    /// println!("{}", Report::new(&plan));
    /// assert!(Report::new(&plan).markdown()?.contains("| hidden | linear | 16 → 8 |"));
    /// # Ok::<(), burn_sfp_report::ReportError>(())
    /// ```
    pub fn new(plan: &'a PrunePlan) -> Self {
        let given = Given {
            plan,
            analysis: None,
            network: None,
            latency: None,
            sparse: &[],
            labels: Vec::new(),
            title: "Pruning report".into(),
            accuracy: Accuracy::default(),
            bytes: None,
        };
        Self { given }
    }

    /// Adds what the filters recognise. An analysis that kept its state
    /// ([`AnalyzeConfig::with_state`](burn_sfp_core::AnalyzeConfig::with_state)) also shows performance matrices.
    ///
    /// ```
    /// # mod small { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/pruned.rs")); }
    /// # use small::{mlp, prune};
    /// use burn_sfp_report::Report;
    ///
    /// let pruned = prune(&mlp());
    /// let report = Report::new(&pruned.plan).analysis(&pruned.analysis);
    /// assert!(report.json()?.contains("\"has_matrices\":true"));
    /// # Ok::<(), burn_sfp_report::ReportError>(())
    /// ```
    pub fn analysis(mut self, analysis: &'a Analysis) -> Self {
        self.given.analysis = Some(analysis);
        self
    }

    /// Adds the captured network of the original, which is then drawn with its branches.
    ///
    /// ```
    /// # mod small { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/pruned.rs")); }
    /// # use small::{images, mlp, prune};
    /// # use burn_sfp_report::ReportExt;
    /// let original = mlp();
    /// let pruned = prune(&original);
    /// let network = burn_sfp_graph::Network::capture(&original, &images())?;
    /// assert!(pruned.report().network(&network).json()?.contains("\"captured\":true"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn network(mut self, network: &'a Network) -> Self {
        self.given.network = Some(network);
        self
    }

    /// Adds measured latencies.
    ///
    /// ```
    /// # mod small { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/pruned.rs")); }
    /// # use small::{images, mlp, prune};
    /// # use burn_sfp_report::ReportExt;
    /// use burn_sfp_graph::latency::{LatencyConfig, LatencyTable};
    ///
    /// let original = mlp();
    /// let pruned = prune(&original);
    /// let models = [("before", &original), ("after", &pruned.model)];
    /// let table = LatencyTable::measure(&models, &[images()], &LatencyConfig::new())?;
    /// assert!(pruned.report().latency(&table).to_string().contains("latency of a batch of 2"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn latency(mut self, table: &'a LatencyTable) -> Self {
        self.given.latency = Some(table);
        self
    }

    /// Adds the formats of layers that skip removed connections.
    ///
    /// ```
    /// # mod small { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/pruned.rs")); }
    /// # use small::{images, mlp, prune};
    /// use burn_sfp_prune::{SparseConfig, sparsify};
    /// use burn_sfp_report::Report;
    ///
    /// let pruned = prune(&mlp());
    /// let sparse = sparsify(&pruned.model, &images(), &SparseConfig::new())?;
    /// println!("{}", Report::new(&pruned.plan).sparse(&sparse.layers));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn sparse(mut self, layers: &'a [SparseLayer]) -> Self {
        self.given.sparse = layers;
        self
    }

    /// Sets the names of the labels, in their order.
    ///
    /// ```
    /// # mod small { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/pruned.rs")); }
    /// # use small::{mlp, prune};
    /// # use burn_sfp_report::ReportExt;
    /// let pruned = prune(&mlp());
    /// assert!(pruned.report().labels(["cat", "dog"]).html()?.contains("dog"));
    /// assert!(pruned.report().labels(["cat"]).html().is_err());
    /// # Ok::<(), burn_sfp_report::ReportError>(())
    /// ```
    pub fn labels<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.given.labels = names.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the title.
    ///
    /// ```
    /// # mod small { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/pruned.rs")); }
    /// # use small::{mlp, prune};
    /// # use burn_sfp_report::ReportExt;
    /// let pruned = prune(&mlp());
    /// assert!(pruned.report().title("Cats and dogs").markdown()?.starts_with("# Cats and dogs"));
    /// # Ok::<(), burn_sfp_report::ReportError>(())
    /// ```
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.given.title = title.into();
        self
    }

    /// Sets the accuracy of the original on data of your choice, as a share between 0 and 1.
    ///
    /// ```
    /// # mod small { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/pruned.rs")); }
    /// # use small::{mlp, prune};
    /// # use burn_sfp_report::ReportExt;
    /// let pruned = prune(&mlp());
    /// let report = pruned.report().accuracy_before(0.953).accuracy_pruned(0.042).accuracy_tuned(0.932);
    /// assert!(report.to_string().contains("95.30 % -> 4.20 % -> 93.20 %"));
    /// # Ok::<(), burn_sfp_report::ReportError>(())
    /// ```
    pub fn accuracy_before(mut self, accuracy: f64) -> Self {
        self.given.accuracy.before = Some(accuracy);
        self
    }

    /// Sets the accuracy right after pruning, as a share between 0 and 1; see [`accuracy_before`](Self::accuracy_before).
    pub fn accuracy_pruned(mut self, accuracy: f64) -> Self {
        self.given.accuracy.pruned = Some(accuracy);
        self
    }

    /// Sets the accuracy after fine-tuning, as a share between 0 and 1; see [`accuracy_before`](Self::accuracy_before).
    pub fn accuracy_tuned(mut self, accuracy: f64) -> Self {
        self.given.accuracy.tuned = Some(accuracy);
        self
    }

    /// Sets the bytes on disk of the original and of the pruned model.
    ///
    /// ```
    /// # mod small { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/pruned.rs")); }
    /// # use small::{mlp, prune};
    /// # use burn_sfp_report::ReportExt;
    /// let pruned = prune(&mlp());
    /// assert!(pruned.report().bytes(400_000, 100_000).to_string().contains("400 kB -> 100 kB (25.0 %)"));
    /// # Ok::<(), burn_sfp_report::ReportError>(())
    /// ```
    pub fn bytes(mut self, before: u64, after: u64) -> Self {
        self.given.bytes = Some((before, after));
        self
    }

    /// Returns the report as one HTML page that loads nothing from elsewhere.
    ///
    /// ```
    /// # mod small { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/pruned.rs")); }
    /// # use small::{mlp, prune};
    /// # use burn_sfp_report::ReportExt;
    /// let page = prune(&mlp()).report().html()?;
    /// assert!(page.starts_with("<!DOCTYPE html>") && !page.contains("https://"));
    /// # Ok::<(), burn_sfp_report::ReportError>(())
    /// ```
    ///
    /// # Errors
    /// As [`write_html`](Self::write_html), without those of files.
    pub fn html(&self) -> Result<String, ReportError> {
        html::page(&Content::of(&self.given)?)
    }

    /// Writes the report as one HTML page that loads nothing from elsewhere: light or dark, with a picker for filters.
    ///
    /// Of large networks a part is shown, and the page says which. The same report gives the same bytes. A file that is there is
    /// replaced whole.
    ///
    /// ```
    /// # mod small { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/pruned.rs")); }
    /// # use small::{mlp, prune};
    /// # use burn_sfp_report::ReportExt;
    /// let folder = tempfile::tempdir()?;
    /// prune(&mlp()).report().write_html(folder.path().join("report.html"))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ReportError::File`] where the file cannot be written, [`ReportError::Accuracy`], [`ReportError::Labels`] and
    /// [`ReportError::OtherModel`] where what was given does not fit.
    pub fn write_html(&self, path: impl AsRef<Path>) -> Result<(), ReportError> {
        write(path.as_ref(), self.html()?.as_bytes())
    }

    /// Returns the report as Markdown.
    ///
    /// ```
    /// # mod small { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/pruned.rs")); }
    /// # use small::{mlp, prune};
    /// # use burn_sfp_report::ReportExt;
    /// assert!(prune(&mlp()).report().markdown()?.contains("## Layers"));
    /// # Ok::<(), burn_sfp_report::ReportError>(())
    /// ```
    ///
    /// # Errors
    /// As [`write_html`](Self::write_html), without those of files.
    pub fn markdown(&self) -> Result<String, ReportError> {
        Ok(markdown::text(&Content::of(&self.given)?))
    }

    /// Writes the report as Markdown: the tables, without graph and pictures.
    ///
    /// ```
    /// # mod small { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/pruned.rs")); }
    /// # use small::{mlp, prune};
    /// # use burn_sfp_report::ReportExt;
    /// let folder = tempfile::tempdir()?;
    /// prune(&mlp()).report().write_markdown(folder.path().join("report.md"))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`write_html`](Self::write_html).
    pub fn write_markdown(&self, path: impl AsRef<Path>) -> Result<(), ReportError> {
        write(path.as_ref(), self.markdown()?.as_bytes())
    }

    /// Returns what the report shows as JSON.
    ///
    /// ```
    /// # mod small { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/pruned.rs")); }
    /// # use small::{mlp, prune};
    /// # use burn_sfp_report::ReportExt;
    /// let json: serde_json::Value = serde_json::from_str(&prune(&mlp()).report().json()?)?;
    /// assert_eq!(json["layers"][0]["filters"], serde_json::json!([16, 8]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`write_html`](Self::write_html), without those of files.
    pub fn json(&self) -> Result<String, ReportError> {
        Ok(Content::of(&self.given)?.json())
    }

    /// Writes what the report shows as JSON, for other programs.
    ///
    /// ```
    /// # mod small { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/pruned.rs")); }
    /// # use small::{mlp, prune};
    /// # use burn_sfp_report::ReportExt;
    /// let folder = tempfile::tempdir()?;
    /// prune(&mlp()).report().write_json(folder.path().join("report.json"))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`write_html`](Self::write_html).
    pub fn write_json(&self, path: impl AsRef<Path>) -> Result<(), ReportError> {
        write(path.as_ref(), self.json()?.as_bytes())
    }

    /// Writes the plots as PNG files into a folder, which is made if it is missing, and returns their paths: `sizes.png` and
    /// `filters.png`, and with an analysis `accuracy.png` and `snr.png` where they are known, `clusters.png` and `labels.png`.
    ///
    /// ```
    /// # mod small { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/pruned.rs")); }
    /// # use small::{mlp, prune};
    /// # use burn_sfp_report::ReportExt;
    /// let folder = tempfile::tempdir()?;
    /// let paths = prune(&mlp()).report().write_png(folder.path())?;
    /// assert_eq!(paths[0], folder.path().join("sizes.png"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ReportError::Folder`], [`ReportError::Plot`] where a plot could not be drawn, and as [`write_html`](Self::write_html).
    pub fn write_png(&self, folder: impl AsRef<Path>) -> Result<Vec<PathBuf>, ReportError> {
        let folder = folder.as_ref();
        let content = Content::of(&self.given)?;
        std::fs::create_dir_all(folder).map_err(|source| ReportError::Folder { path: folder.to_path_buf(), source })?;
        let mut paths = Vec::new();
        for plot in plots::all(&content) {
            let path = folder.join(format!("{}.png", plot.name()));
            write(&path, &plots::png(&plot)?)?;
            paths.push(path);
        }
        Ok(paths)
    }
}

/// Prints the sizes before and after, and how many layers lost filters.
impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        display::print(&self.given, f)
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ReportError> {
    Ok(replace(path, |file| file.write_all(bytes))?)
}
