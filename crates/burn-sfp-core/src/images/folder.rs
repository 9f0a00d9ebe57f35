//! [`ImageFolder`]: a folder for each class.

use std::fs;
use std::path::{Component, Path, PathBuf};

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::{ImageContent, ImageIter, ImageSource, ImagesError, LabelledImage, is_image};

/// A folder that holds a folder for each class, with its images (.jpg, .jpeg, .png) in it, as torchvision's `ImageFolder`: the classes are
/// numbered in the order of their folders' names. Folders inside are searched, too; other files are left out.
///
/// ```
/// use burn_sfp_core::images::{ImageFolder, ImageSource};
///
/// let folder = tempfile::tempdir()?;
/// for name in ["cat/1.png", "cat/2.png", "dog/1.jpg"] {
///     std::fs::create_dir_all(folder.path().join(name).parent().unwrap())?;
///     std::fs::write(folder.path().join(name), [])?;
/// }
/// let images = ImageFolder::open(folder.path())?;
/// assert_eq!((images.classes(), images.samples()), (&["cat".to_string(), "dog".to_string()][..], Some(3)));
///
/// // Some of each class, in the same order wherever the same files lie.
/// let some = images.shuffled(0).first(2);
/// assert_eq!(some.samples(), Some(2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ImageFolder {
    classes: Vec<String>,
    /// Files with their labels.
    files: Vec<(PathBuf, usize)>,
}

impl ImageFolder {
    /// Lists the images of a folder, by class and name. Memory: the paths.
    ///
    /// # Errors
    /// [`ImagesError::Read`], [`ImagesError::NoClass`] where it holds no folder, and [`ImagesError::NoImage`] where those hold no image.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ImagesError> {
        let path = path.as_ref();
        let mut classes = Vec::new();
        for entry in entries(path)? {
            if entry.is_dir() {
                let Some(name) = entry.file_name().and_then(|name| name.to_str()) else {
                    let name = entry.display().to_string();
                    return Err(ImagesError::ClassName { name, problem: "it is not written in UTF-8" });
                };
                classes.push(name.to_string());
            }
        }
        if classes.is_empty() {
            return Err(ImagesError::NoClass { path: path.into() });
        }
        Self::with_classes(path, classes)
    }

    /// Lists the images of the classes with these names, which are numbered in this order: for a model whose classes have another order, or
    /// more of them than there are folders. A class without a folder has no image; a folder of another name is left out.
    ///
    /// # Errors
    /// As [`open`](ImageFolder::open), and [`ImagesError::ClassName`] for a name that two classes have or that is not one of a folder.
    pub fn with_classes(
        path: impl AsRef<Path>,
        classes: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<Self, ImagesError> {
        let path = path.as_ref();
        let classes: Vec<String> = classes.into_iter().map(Into::into).collect();
        // So that a folder that is not there is not one without images.
        entries(path)?;
        let mut files = Vec::new();
        for (label, class) in classes.iter().enumerate() {
            let wrong = |problem| ImagesError::ClassName { name: class.clone(), problem };
            let mut parts = Path::new(class).components();
            if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
                return Err(wrong("it is not the name of a folder in there"));
            }
            if classes[..label].contains(class) {
                return Err(wrong("two classes have it"));
            }
            let folder = path.join(class);
            if folder.is_dir() {
                list(&folder, &mut |file| files.push((file, label)))?;
            }
        }
        if files.is_empty() { Err(ImagesError::NoImage { path: path.into() }) } else { Ok(Self { classes, files }) }
    }

    /// Names of the classes, by label.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Puts the images into a random order that a seed decides, the same in each pass.
    pub fn shuffled(mut self, seed: u64) -> Self {
        self.files.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        self
    }

    /// Keeps the first so many images.
    pub fn first(mut self, images: usize) -> Self {
        self.files.truncate(images);
        self
    }
}

impl ImageSource for ImageFolder {
    fn images(&self) -> ImageIter<'_> {
        Box::new(self.files.iter().map(|(path, label)| {
            let (name, content) = (path.display().to_string(), ImageContent::File(path.clone()));
            Ok(LabelledImage { name, label: *label, content })
        }))
    }

    fn samples(&self) -> Option<usize> {
        Some(self.files.len())
    }
}

/// What a folder holds, by name.
fn entries(path: &Path) -> Result<Vec<PathBuf>, ImagesError> {
    let found: Result<Vec<_>, _> =
        fs::read_dir(path).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    let mut found = found.map_err(ImagesError::read(path))?;
    found.sort_unstable();
    Ok(found)
}

/// Hands out the images of a folder and of those inside. Links to folders are not followed: they may lead back.
fn list(path: &Path, hand_out: &mut impl FnMut(PathBuf)) -> Result<(), ImagesError> {
    for entry in entries(path)? {
        if entry.is_dir() {
            if !entry.is_symlink() {
                list(&entry, hand_out)?;
            }
        } else if entry.extension().is_some_and(|extension| is_image(&extension.to_string_lossy())) {
            hand_out(entry);
        }
    }
    Ok(())
}
