//! [`TarShards`]: images and labels in tar files.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tar::{Archive, EntryType};

use super::{ImageContent, ImageIter, ImageSource, ImagesError, LabelledImage, is_image, listed};

/// Longest label that is read.
const LABEL: u64 = 32;

/// Tar files, in which neighbouring entries with the same name up to the first dot are one sample, as WebDataset writes them: the image as
/// `.jpg`, `.jpeg` or `.png` (the first one counts), the number of its class as text in `.cls`. Entries of other names are left out, and so are
/// links and those whose names start with a dot.
///
/// ```no_run
/// use burn_sfp_core::images::TarShards;
///
/// let shards = TarShards::new((0..8).map(|k| format!("imagenet-train-{k:06}.tar")));
/// ```
///
/// # Memory
/// The places of one file's samples, and what a batch holds.
#[derive(Clone, Debug)]
pub struct TarShards {
    paths: Vec<PathBuf>,
}

impl TarShards {
    /// Files that are read one after the other. What is wrong with them shows when they are read.
    pub fn new(paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Self {
        Self { paths: listed(paths) }
    }
}

impl ImageSource for TarShards {
    fn images(&self) -> ImageIter<'_> {
        Box::new(self.paths.iter().flat_map(|path| {
            let (samples, end) = match samples(path) {
                Ok(samples) => (samples, None),
                Err(error) => (Vec::new(), Some(Err(error))),
            };
            samples.into_iter().filter_map(|sample| sample.image(path)).chain(end)
        }))
    }
}

/// What is known of a sample.
#[derive(Debug, Default)]
struct Sample {
    key: String,
    /// Position and number of the image's bytes.
    image: Option<(u64, u64)>,
    label: Option<String>,
}

impl Sample {
    /// The image, `None` where the sample has none.
    fn image(self, path: &Path) -> Option<Result<LabelledImage, ImagesError>> {
        let Self { key, image, label } = self;
        let (offset, length) = image?;
        let Some(label) = label else { return Some(Err(ImagesError::NoLabel { path: path.into(), key })) };
        let Ok(number) = label.trim().parse() else {
            return Some(Err(ImagesError::Label { path: path.into(), key, found: label }));
        };
        let content = ImageContent::Part { path: path.into(), offset, length };
        Some(Ok(LabelledImage { name: format!("{key} in {}", path.display()), label: number, content }))
    }
}

/// Lists the samples of a file: headers and labels are read, images are passed over.
fn samples(path: &Path) -> Result<Vec<Sample>, ImagesError> {
    let read = || -> io::Result<Vec<Sample>> {
        let mut archive = Archive::new(File::open(path)?);
        let mut samples: Vec<Sample> = Vec::new();
        for entry in archive.entries_with_seek()? {
            let mut entry = entry?;
            if !matches!(entry.header().entry_type(), EntryType::Regular | EntryType::Continuous) {
                continue;
            }
            let name = entry.path()?.to_string_lossy().into_owned();
            let Some((key, extension)) = split(&name) else { continue };
            if samples.last().is_none_or(|sample| sample.key != key) {
                samples.push(Sample { key: key.into(), ..Sample::default() });
            }
            let Some(sample) = samples.last_mut() else { continue };
            if extension.eq_ignore_ascii_case("cls") {
                let mut label = Vec::new();
                entry.by_ref().take(LABEL).read_to_end(&mut label)?;
                sample.label = Some(String::from_utf8_lossy(&label).into_owned());
            } else if is_image(extension) && sample.image.is_none() {
                sample.image = Some((entry.raw_file_position(), entry.size()));
            }
        }
        Ok(samples)
    };
    read().map_err(ImagesError::read(path))
}

/// The key and the rest of an entry's name: the first dot of its last part divides them.
fn split(name: &str) -> Option<(&str, &str)> {
    let file = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = file + name[file..].find('.').filter(|&dot| dot > 0)?;
    Some((&name[..dot], &name[dot + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_dot_of_the_last_part_divides_a_name() {
        assert_eq!(split("a.b/0001.seg.png"), Some(("a.b/0001", "seg.png")));
        assert_eq!(split("0001.jpg"), Some(("0001", "jpg")));
        assert_eq!(split("a.b/README"), None);
        assert_eq!(split("a/._0001.jpg"), None);
    }
}
