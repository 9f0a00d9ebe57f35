//! Replacing a file: a temporary one is written in the same folder and renamed.
//!
//! A temporary file has a name of its own (`.NAME.XXXXXXXXXXXX.sfp-tmp`) and is locked while its writer lives. What a killed process left
//! behind is not locked: the next save into the same folder removes it.

use std::fs::{self, File, FileType, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::FileError;

/// Ending of the names of temporary files.
const ENDING: &str = ".sfp-tmp";
/// Random characters in the name of a temporary file.
const RANDOM: usize = 12;
/// Longest name of a file that is part of the name of its temporary file; file systems limit names to 255 bytes.
const LONGEST_NAME: usize = 200;
/// Most symbolic links that are followed one after another, as on Linux.
const MOST_LINKS: usize = 40;

/// Writes a file, which appears whole or not at all: `write` fills a temporary file, which is synced and renamed.
///
/// Symbolic links are followed to what they point to. A file that is replaced hands its mode and, where that is allowed, its owner to the
/// new one; other names of it (hard links) keep the old contents.
///
/// # Errors
/// [`FileError::NotRegular`] where something else than a regular file is at the path, [`FileError::Io`] where it cannot be written.
pub fn replace(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> Result<(), FileError> {
    let fail = FileError::write(path);
    let (target, existing) = target_of(path)?;
    let folder = folder_of(&target);
    let name = target.file_name().and_then(|name| name.to_str()).filter(|name| name.len() <= LONGEST_NAME);
    clear_leftovers(folder);
    let mut file = temporary(folder, name.unwrap_or_default()).map_err(&fail)?;
    write(file.as_file_mut()).map_err(&fail)?;
    if let Some(existing) = existing {
        hand_over(file.as_file(), &existing).map_err(&fail)?;
    }
    file.as_file().sync_all().map_err(&fail)?;
    // The lock is held until the file has its name.
    let _renamed = file.persist(&target).map_err(|error| fail(error.error))?;
    sync_folder(folder);
    Ok(())
}

/// What is no regular file, in words; `None` of a regular file.
pub(super) fn not_regular(kind: FileType) -> Option<&'static str> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return Some("a named pipe");
        }
        if kind.is_socket() {
            return Some("a socket");
        }
        if kind.is_char_device() || kind.is_block_device() {
            return Some("a device");
        }
    }
    match () {
        () if kind.is_dir() => Some("a directory"),
        () if kind.is_file() => None,
        () => Some("something else"),
    }
}

/// The place to write to: the path, with symbolic links followed, also to a file that does not exist yet, and what is there now.
fn target_of(path: &Path) -> Result<(PathBuf, Option<Metadata>), FileError> {
    let fail = FileError::write(path);
    let refuse = |found| FileError::NotRegular { path: path.to_path_buf(), found };
    if let Ok(found) = fs::metadata(path)
        && let Some(found) = not_regular(found.file_type())
    {
        return Err(refuse(found));
    }
    let mut at = path.to_path_buf();
    for _ in 0..MOST_LINKS {
        match fs::symlink_metadata(&at) {
            Ok(found) if found.is_symlink() => at = folder_of(&at).join(fs::read_link(&at).map_err(&fail)?),
            Ok(found) => {
                return match not_regular(found.file_type()) {
                    None => Ok((at, Some(found))),
                    Some(found) => Err(refuse(found)),
                };
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((at, None)),
            Err(error) => return Err(fail(error)),
        }
    }
    Err(fail(io::Error::other("too many symbolic links, one pointing to the next")))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Creates a temporary file and locks it.
fn temporary(folder: &Path, name: &str) -> io::Result<NamedTempFile> {
    const ATTEMPTS: usize = 16;
    let prefix = format!(".{name}.");
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(ENDING).rand_bytes(RANDOM);
    // Temporary files are private by default; this one becomes a file like any other of the user's.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    for _ in 0..ATTEMPTS {
        let file = builder.tempfile_in(folder)?;
        while matches!(file.as_file().lock(), Err(error) if error.kind() == io::ErrorKind::Interrupted) {}
        // Another save may have taken the file for a leftover before it was locked. (Where a file system has no locks, nobody removes
        // leftovers either.)
        if fs::symlink_metadata(file.path()).is_ok() {
            return Ok(file);
        }
    }
    Err(io::Error::other("temporary files disappear from the folder"))
}

/// Removes the temporary files of processes that were killed: those that nobody locks.
fn clear_leftovers(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_str().is_some_and(is_temporary);
        if is_ours && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            let path = entry.path();
            let Ok(file) = File::open(&path) else { continue };
            // The lock is held until the file is gone: its writer, who waits for it, then sees that it has to start with another one.
            if file.try_lock().is_ok() && is_at(&file, &path) {
                let _ = fs::remove_file(&path);
            }
        }
    }
}

fn is_temporary(name: &str) -> bool {
    let inner = name.strip_prefix('.').and_then(|name| name.strip_suffix(ENDING));
    inner
        .and_then(|name| name.rsplit_once('.'))
        .is_some_and(|(_, random)| random.len() == RANDOM && random.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// Whether an open file still has this name: its writer may have renamed it meanwhile.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |found: Metadata| (found.dev(), found.ino());
    fs::symlink_metadata(path).is_ok_and(|there| file.metadata().is_ok_and(|ours| id(ours) == id(there)))
}

#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

/// Gives a file the owner and the mode of the one that it replaces.
fn hand_over(file: &File, existing: &Metadata) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, fchown};
        let made = file.metadata()?;
        if (made.uid(), made.gid()) != (existing.uid(), existing.gid()) {
            // Only a privileged process may give files away. The group at least may be one of the user's own.
            let _ = fchown(file, Some(existing.uid()), Some(existing.gid()))
                .or_else(|_| fchown(file, None, Some(existing.gid())));
        }
    }
    file.set_permissions(existing.permissions())
}

/// Makes the new name survive a power failure, where folders can be synced.
fn sync_folder(folder: &Path) {
    #[cfg(unix)]
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    #[cfg(not(unix))]
    let _ = folder;
}
