//! Sources of images, read as calibration data.

use std::fs;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use image::{ImageFormat, Rgb, RgbImage};
use proptest::prelude::*;

use super::*;
use crate::{Batch, Calibration, DataError, ReadAhead};

/// An image that its number decides.
fn picture(number: u8, width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([number, 10 * x as u8, 20 * y as u8]))
}

fn encoded(image: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn png(number: u8) -> Vec<u8> {
    encoded(&picture(number, 4, 3), ImageFormat::Png)
}

fn write(folder: &Path, name: &str, bytes: &[u8]) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn tar(folder: &Path, name: &str, entries: &[(&str, &[u8])]) -> PathBuf {
    let mut builder = ::tar::Builder::new(Vec::new());
    for (name, bytes) in entries {
        let mut header = ::tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    fs::write(folder.join(name), builder.into_inner().unwrap()).unwrap();
    folder.join(name)
}

fn batches(source: impl ImageSource, size: usize) -> Vec<Result<Batch<Tensor<4>>, DataError>> {
    ImageCalibration::new(source, Preprocess::new(), size, &Device::flex()).batches().collect()
}

/// Values and labels of all batches.
fn content(batches: Vec<Result<Batch<Tensor<4>>, DataError>>) -> (Vec<f32>, Vec<usize>) {
    let batches: Vec<_> = batches.into_iter().map(Result::unwrap).collect();
    let values = batches.iter().flat_map(|batch| batch.input.to_data().iter::<f32>().collect::<Vec<_>>()).collect();
    (values, batches.into_iter().flat_map(|batch| batch.labels).collect())
}

/// The values of images of these numbers.
fn expected(numbers: &[u8]) -> Vec<f32> {
    let preprocess = Preprocess::new();
    numbers.iter().flat_map(|&number| preprocess.apply("", picture(number, 4, 3)).unwrap().0).collect()
}

fn error<E: std::error::Error + 'static>(batch: Result<Batch<Tensor<4>>, DataError>) -> E {
    *batch.map(|batch| batch.labels).unwrap_err().downcast::<E>().unwrap()
}

#[test]
fn folders_are_read_by_class_and_name() {
    let folder = tempfile::tempdir().unwrap();
    for (name, number) in [("b/2.PNG", 1), ("a/x/9.png", 2), ("a/z.png", 3), ("b/1.png", 4), ("stray.png", 5)] {
        write(folder.path(), name, &png(number));
    }
    write(folder.path(), "a/notes.txt", b"none");
    let images = ImageFolder::open(folder.path()).unwrap();
    assert_eq!(images.classes(), ["a", "b"]);
    assert_eq!(images.samples(), Some(4));
    let found = batches(images.clone(), 3);
    assert_eq!(found.len(), 2);
    assert_eq!(content(found), (expected(&[2, 3, 4, 1]), vec![0, 0, 1, 1]));

    let named = ImageFolder::with_classes(folder.path(), ["b", "none", "a"]).unwrap();
    assert_eq!(content(batches(named, 9)).1, [0, 0, 2, 2]);

    let order = |seed| content(batches(images.clone().shuffled(seed), 2)).0;
    assert_eq!(order(7), order(7));
    assert!((0..9).any(|seed| order(seed) != order(7)));
    assert_eq!(content(batches(images.clone().shuffled(7).first(3), 2)).0, order(7)[..3 * 36]);
}

#[test]
fn a_jpeg_is_decoded_by_its_content() {
    let folder = tempfile::tempdir().unwrap();
    let grey = RgbImage::from_pixel(8, 8, Rgb([100, 100, 100]));
    // Named as another format, as files of the web are.
    write(folder.path(), "a/1.png", &encoded(&grey, ImageFormat::Jpeg));
    let (values, _) = content(batches(ImageFolder::open(folder.path()).unwrap(), 1));
    assert_eq!(values.len(), 3 * 64);
    assert!(values.iter().all(|value| (value * 255.0 - 100.0).abs() < 2.0));

    // Cut off in the middle of its lines, where a decoder could make up the rest.
    let image = RgbImage::from_fn(64, 64, |x, y| Rgb([(x * y) as u8, (3 * x) as u8, (5 * y) as u8]));
    let bytes = encoded(&image, ImageFormat::Jpeg);
    for share in [0.5, 0.9] {
        write(folder.path(), "a/1.png", &bytes[..(bytes.len() as f64 * share) as usize]);
        let found = error::<ImagesError>(batches(ImageFolder::open(folder.path()).unwrap(), 1).swap_remove(0));
        assert!(matches!(found, ImagesError::Decode { .. }), "{found}");
    }
    write(folder.path(), "a/1.png", &[&bytes[..], b"something behind it"].concat());
    assert!(batches(ImageFolder::open(folder.path()).unwrap(), 1).swap_remove(0).is_ok());
}

#[test]
fn shards_are_read_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let images = [1, 2, 3].map(png);
    let first: [(&str, &[u8]); 7] = [
        ("d/0.png", &images[0]),
        ("d/._0.png", b"of a Mac"),
        ("d/0.jpg", b"another one"),
        ("d/0.cls", b"7\n"),
        ("d/0.json", b"{}"),
        ("d/1.CLS", b"3"),
        ("d/1.png", &images[1]),
    ];
    let long = format!("{}/2.png", "long".repeat(40));
    let label = long.replace(".png", ".cls");
    let paths = [
        tar(folder.path(), "0.tar", &first),
        tar(folder.path(), "1.tar", &[("no image.cls", b"1"), (&long, &images[2]), (&label, b"0")]),
    ];
    let shards = TarShards::new(&paths);
    assert_eq!(content(batches(shards.clone(), 2)), (expected(&[1, 2, 3]), vec![7, 3, 0]));
    let ahead = ReadAhead::new(ImageCalibration::new(shards, Preprocess::new(), 2, &Device::flex()), 2);
    assert_eq!(content(ahead.batches().collect()), (expected(&[1, 2, 3]), vec![7, 3, 0]));
}

#[test]
fn broken_shards_are_typed_errors() {
    let folder = tempfile::tempdir().unwrap();
    let image = png(1);
    let one = |name: &str, entries: &[(&str, &[u8])]| {
        let path = tar(folder.path(), name, entries);
        batches(TarShards::new([path]), 4).swap_remove(0)
    };
    let found = error::<ImagesError>(one("a.tar", &[("0.png", &image)]));
    assert!(matches!(&found, ImagesError::NoLabel { key, .. } if key == "0"), "{found}");
    let found = error::<ImagesError>(one("b.tar", &[("0.png", &image), ("0.cls", b"-1")]));
    assert!(matches!(&found, ImagesError::Label { found, .. } if found == "-1"), "{found}");
    let found = error::<ImagesError>(one("c.tar", &[("0.png", &image[..40]), ("0.cls", b"1")]));
    assert!(matches!(found, ImagesError::Decode { .. }), "{found}");

    let path = tar(folder.path(), "d.tar", &[("0.cls", b"1"), ("0.png", &image)]);
    let bytes = fs::read(&path).unwrap();
    // Cut off in every 64th place: an error or nothing, never a panic or another image.
    for length in (0..bytes.len()).step_by(64) {
        fs::write(&path, &bytes[..length]).unwrap();
        for batch in batches(TarShards::new([&path]), 4).into_iter().flatten() {
            assert_eq!(batch.input.into_data().iter::<f32>().collect::<Vec<_>>(), expected(&[1]));
        }
    }
    let found = error::<ImagesError>(batches(TarShards::new([folder.path().join("none.tar")]), 4).swap_remove(0));
    assert!(matches!(found, ImagesError::Read { .. }), "{found}");
}

#[test]
fn cifar_is_read_record_by_record() {
    let folder = tempfile::tempdir().unwrap();
    let record = |coarse: Option<u8>, label: u8| -> Vec<u8> {
        let planes = [1, 2, 3].into_iter().flat_map(|plane| vec![plane * label; 1024]);
        coarse.into_iter().chain([label]).chain(planes).collect()
    };
    let path = folder.path().join("train.bin");
    fs::write(&path, [record(Some(9), 4), record(Some(8), 5)].concat()).unwrap();
    let files = CifarFiles::cifar100([&path, &path]);
    assert_eq!(files.samples(), Some(4));
    let (values, labels) = content(batches(files, 3));
    assert_eq!(labels, [4, 5, 4, 5]);
    let of = |image: usize, plane: usize| values[image * 3072 + plane * 1024 + 17] * 255.0;
    assert_eq!([of(0, 0), of(0, 2), of(3, 1)].map(f32::round), [4.0, 12.0, 10.0]);

    fs::write(&path, [record(None, 4), record(None, 5)[..3000].to_vec()].concat()).unwrap();
    let mut found = batches(CifarFiles::cifar10([&path]), 1);
    assert_eq!(found.len(), 2);
    let found = error::<ImagesError>(found.swap_remove(1));
    assert!(matches!(found, ImagesError::Truncated { record: 3073, left: 3000, .. }), "{found}");
}

#[test]
fn what_is_wrong_with_folders_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let open = || ImageFolder::open(folder.path());
    assert!(matches!(open().unwrap_err(), ImagesError::NoClass { .. }));
    write(folder.path(), "a/notes.txt", b"");
    assert!(matches!(open().unwrap_err(), ImagesError::NoImage { .. }));
    for names in [vec!["a", "a"], vec![".."], vec![""], vec!["/"], vec!["a/b"]] {
        let error = ImageFolder::with_classes(folder.path(), names).unwrap_err();
        assert!(matches!(error, ImagesError::ClassName { .. }), "{error}");
    }
    let missing = ImageFolder::with_classes(folder.path().join("none"), ["a"]).unwrap_err();
    assert!(matches!(missing, ImagesError::Read { .. }));

    write(folder.path(), "a/1.png", &png(1));
    write(folder.path(), "a/2.png", &encoded(&picture(2, 3, 4), ImageFormat::Png));
    let found = error::<ImagesError>(batches(open().unwrap(), 2).swap_remove(0));
    assert!(matches!(found, ImagesError::Sizes { found: [4, 3], first: [3, 4], .. }), "{found}");

    write(folder.path(), "a/2.png", b"no image");
    let mut found = batches(open().unwrap(), 1);
    // Those beside it are there.
    assert_eq!(found.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false]);
    let found = error::<ImagesError>(found.swap_remove(1));
    assert!(matches!(&found, ImagesError::Decode { name, .. } if name.ends_with("2.png")), "{found}");

    fs::remove_file(folder.path().join("a/1.png")).unwrap();
    let gone = ImageContent::File(folder.path().join("a/1.png"));
    let gone = LabelledImage { name: "1".into(), label: 0, content: gone };
    assert!(matches!(decode::planes(&gone, &Preprocess::new()), Err(ImagesError::Read { .. })));
}

proptest! {
    #[test]
    fn no_bytes_and_no_pixels_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), width in 0_u32..5, height in 0_u32..5) {
        let image = |content| LabelledImage { name: "x".into(), label: 0, content };
        let preprocess = Preprocess::new().shorter_side(2).center_crop([1, 1]);
        let mut signed = vec![0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a];
        signed.extend(&bytes);
        for content in [ImageContent::Encoded(bytes.clone()), ImageContent::Encoded(signed)] {
            let _ = decode::planes(&image(content), &preprocess);
        }
        let right = (3 * width * height) as usize == bytes.len();
        let found = decode::planes(&image(ImageContent::Pixels { width, height, rgb: bytes }), &preprocess);
        prop_assert!(right || found.is_err());
    }
}
