//! Everything that can go wrong before and around the analysis, as one enum.

use std::path::PathBuf;

use burn_sfp::core::SfpError;
use burn_sfp::graph::GraphError;
use burn_sfp::prune::PruneError;

/// An error of the example. Each message says what was found, where, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExampleError {
    /// A file of images cannot be read.
    #[error(
        "{}: cannot be read ({source}); unpack the binary version of CIFAR-100 from \
         https://www.cs.toronto.edu/~kriz/cifar.html and name the folder with train.bin and test.bin", path.display()
    )]
    Images {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file of images does not end with a whole record.
    #[error(
        "{}: {bytes} bytes are not one or more whole records of 3074 bytes (record {record} is cut off): the file is \
         truncated or not CIFAR-100's binary format; unpack it again", path.display()
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// The incomplete record, counted from 0.
        record: u64,
    },
    /// A record's fine label does not exist.
    #[error(
        "{}: record {record} has fine label {label}, but CIFAR-100 has the labels 0 to 99: the file is damaged or not \
         CIFAR-100's binary format (CIFAR-10 has shorter records); unpack it again", path.display()
    )]
    Label {
        /// The file.
        path: PathBuf,
        /// The record, counted from 0.
        record: usize,
        /// The label found.
        label: u8,
    },
    /// Fewer images than asked for.
    #[error("{}: {found} images where {wanted} are asked for; ask for at most {found}", path.display())]
    TooFew {
        /// The folder or file.
        path: PathBuf,
        /// Images there.
        found: usize,
        /// Images asked for.
        wanted: usize,
    },
    /// No weights under the name.
    #[error("{}: cannot be read ({source}); name the safetensors file with the weights of VGG-11", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file of weights is no (whole) safetensors file.
    #[error("{}: is not a whole safetensors file ({message}): it is truncated or something else; copy it again", path.display())]
    NotSafetensors {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        message: String,
    },
    /// The weights belong to another model.
    #[error(
        "{}: these are not the weights of this VGG-11. Missing: {}. Unknown: {}. Misfits: {}. Export the model with \
         the names convs.K.weight, convs.K.bias, norms.K.*, fc.weight", path.display(),
        list(missing), list(unknown), list(misfits)
    )]
    ForeignWeights {
        /// The file.
        path: PathBuf,
        /// Parameters that the file lacks.
        missing: Vec<String>,
        /// Tensors of the file that the model lacks.
        unknown: Vec<String>,
        /// Tensors of another shape or type.
        misfits: Vec<String>,
    },
    /// The device is none of this build.
    #[error(transparent)]
    Device(#[from] support::MissingBackend),
    /// The analysis failed.
    #[error(transparent)]
    Analysis(#[from] SfpError),
    /// The model could not be captured.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The plan, the rewriting or the fine-tuning failed.
    #[error(transparent)]
    Pruning(#[from] PruneError),
    /// The page could not be written.
    #[error(transparent)]
    Page(#[from] burn_sfp::report::ReportError),
    /// A setting cannot be used.
    #[error("{name} is {found}: {expected}")]
    Setting {
        /// The option.
        name: &'static str,
        /// What was given.
        found: String,
        /// What to give instead.
        expected: &'static str,
    },
    /// The file of rows cannot be read or written.
    #[error("{}: {message}; name another file of rows", path.display())]
    Rows {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        message: String,
    },
    /// A result cannot be written.
    #[error("{}: cannot be written ({message}); name another folder with --out", path.display())]
    Output {
        /// The file or folder.
        path: PathBuf,
        /// What went wrong.
        message: String,
    },
}

/// At most eight names and how many more there are.
fn list(names: &[String]) -> String {
    const SHOWN: usize = 8;
    match names {
        [] => "none".into(),
        _ if names.len() <= SHOWN => names.join(", "),
        _ => format!("{} and {} more", names[..SHOWN].join(", "), names.len() - SHOWN),
    }
}
