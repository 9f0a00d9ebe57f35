//! [`ReportError`].

use burn_sfp_core::SfpError;
use burn_sfp_graph::FileError;

/// A report could not be made or written.
///
/// ```
/// use burn_sfp_prune::PrunePlan;
/// use burn_sfp_report::{Report, ReportError};
///
/// fn write(plan: &PrunePlan) -> Result<(), ReportError> {
///     match Report::new(plan).accuracy_before(0.95).write_html("report.html") {
///         Err(ReportError::File(error)) => {
///             eprintln!("{error}");
///             Report::new(plan).write_html(std::env::temp_dir().join("report.html"))
///         }
///         other => other,
///     }
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A folder for pictures could not be made.
    #[error("{}: this folder cannot be made: {source}", path.display())]
    Folder {
        /// The folder.
        path: std::path::PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// An accuracy is no share.
    #[error("the accuracy given for `{when}` is {found}: give a share between 0 and 1 (0.953 for 95.3 %)")]
    Accuracy {
        /// Which one: `before`, `pruned` or `tuned`.
        when: &'static str,
        /// What was given.
        found: f64,
    },
    /// There are more or fewer names than labels.
    #[error("{found} names were given for {expected} labels: give one for each label of the analysis, in its order")]
    Labels {
        /// Number of names.
        found: usize,
        /// Number of labels of the analysis.
        expected: usize,
    },
    /// What was given belongs to another model.
    #[error(
        "{what} is of another model than the plan (parameter `{parameter}` differs): give that of the original model"
    )]
    OtherModel {
        /// What was given: `the analysis` or `the network`.
        what: &'static str,
        /// Module path of the first parameter that differs.
        parameter: String,
    },
    /// A performance matrix could not be computed from what the analysis kept.
    #[error("the performance matrix of `{path}`, filter {filter}: {source}")]
    Matrix {
        /// Module path of the layer.
        path: String,
        /// The filter.
        filter: usize,
        /// Why.
        source: Box<SfpError>,
    },
    /// A plot could not be drawn.
    #[error("the plot `{plot}` could not be drawn: {message}; the other outputs do not depend on it")]
    Plot {
        /// Name of the plot.
        plot: &'static str,
        /// Why.
        message: String,
    },
}

#[cfg(test)]
mod tests {
    use super::ReportError;

    #[test]
    fn errors_cross_threads() {
        fn crosses<T: std::error::Error + Send + Sync + 'static>() {}
        crosses::<ReportError>();
        let error = ReportError::Accuracy { when: "tuned", found: 95.3 };
        assert_eq!(
            error.to_string(),
            "the accuracy given for `tuned` is 95.3: give a share between 0 and 1 (0.953 for 95.3 %)"
        );
    }
}
