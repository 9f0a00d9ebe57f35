//! [`FileError`].

use std::io;
use std::path::PathBuf;

/// A file could not be written, or does not hold what was to be read. Each message names the file and says what to do.
///
/// ```
/// use burn_sfp_graph::latency::LatencyTable;
/// use burn_sfp_graph::{FileError, GraphError};
///
/// let folder = std::env::temp_dir();
/// match LatencyTable::load(&folder) {
///     Err(GraphError::File(FileError::NotRegular { path, found })) => assert_eq!((path, found), (folder, "a directory")),
///     other => panic!("{other:?}"),
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The operating system refused.
    #[error("{}: cannot be {action}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried: `read`, `written` or `removed`.
        action: &'static str,
        /// The error of the operating system.
        source: io::Error,
    },
    /// What is at the path is no regular file. It was left as it is.
    #[error("{}: is {found}, not a regular file: give another path", path.display())]
    NotRegular {
        /// The path.
        path: PathBuf,
        /// What is there, for example `a directory`.
        found: &'static str,
    },
    /// The file holds something else.
    #[error(
        "{}: is not {expected} as this library writes it ({found}), or it is truncated or damaged; write it again",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it should hold, for example `an analysis`.
        expected: &'static str,
        /// What was found instead.
        found: String,
    },
    /// The file was written by another version of the library.
    #[error("{}: holds {what} of version {found}, this build reads version {expected}: {advice}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// What it holds.
        what: &'static str,
        /// The version found.
        found: u64,
        /// The version of this build.
        expected: u32,
        /// What to do.
        advice: &'static str,
    },
    /// The file is shorter or longer than it says.
    #[error(
        "{}: is {} ({found} bytes instead of {expected}); write it again",
        path.display(),
        if found < expected { "truncated" } else { "longer than it says" }
    )]
    Length {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        found: u64,
        /// The length that its head says.
        expected: u64,
    },
    /// The file was changed or damaged after it was written.
    #[error("{}: its checksum does not fit its contents: the file was changed or damaged; write it again", path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
    },
    /// The file is undamaged, and what it holds contradicts itself.
    #[error("{}: holds no valid data ({message}); write it again", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}

impl FileError {
    /// Wraps what the operating system said about writing a file.
    pub(super) fn write(path: impl Into<PathBuf>) -> impl Fn(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path: path.clone(), action: "written", source }
    }

    /// Wraps what the operating system said about reading a file.
    pub(super) fn read(path: impl Into<PathBuf>) -> impl Fn(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path: path.clone(), action: "read", source }
    }
}
