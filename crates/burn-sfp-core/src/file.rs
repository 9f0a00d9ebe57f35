//! Atomic writing of files, and reading of JSON with an error that names the file.

use std::io::Write;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::SfpError;

/// Writes a file to a temporary name in the same folder and renames it, so that it appears whole or not at all.
///
/// # Errors
/// [`SfpError::File`] where the folder cannot be written.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), SfpError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let fail = |error: std::io::Error| SfpError::file(path, format!("cannot be written: {error}"));
    let mut builder = tempfile::Builder::new();
    // Temporary files are private by default; this one becomes a file like any other of the user's.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder).map_err(fail)?;
    file.write_all(bytes).map_err(fail)?;
    file.persist(path).map_err(|error| fail(error.error))?;
    Ok(())
}

/// Writes a value as JSON, atomically.
///
/// # Errors
/// [`SfpError::File`] where it cannot be written.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), SfpError> {
    let bytes = serde_json::to_vec(value).map_err(|error| SfpError::file(path, error))?;
    write_atomically(path, &bytes)
}

/// Reads a JSON value; `what` says in the error what the file should hold.
///
/// # Errors
/// [`SfpError::File`] where the file is missing, truncated or holds something else.
pub fn read_json<T: DeserializeOwned>(path: &Path, what: &str) -> Result<T, SfpError> {
    let bytes = std::fs::read(path).map_err(|error| SfpError::file(path, format!("cannot be read: {error}")))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        SfpError::file(path, format!("is not {what} of this library, or it is truncated ({error}); write it again"))
    })
}
