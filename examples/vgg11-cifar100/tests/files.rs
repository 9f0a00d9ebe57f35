//! Damaged and foreign files are refused with a typed error; epochs repeat themselves.

use std::fs;

use burn::module::Module;
use burn::store::{ModuleSnapshot, SafetensorsStore};
use burn::tensor::Device;
use tempfile::tempdir;
use vgg11_cifar100::cifar::{Cifar, RECORD};
use vgg11_cifar100::error::ExampleError;
use vgg11_cifar100::model::Vgg11Config;
use vgg11_cifar100::weights;

/// Records with the labels 0, 1, 2, ... and pixels that differ.
fn records(count: usize) -> Vec<u8> {
    (0..count)
        .flat_map(|record| {
            let pixels = (0..RECORD - 2).map(move |k| ((k * 31 + record * 97) % 256) as u8);
            [0, (record % 100) as u8].into_iter().chain(pixels)
        })
        .collect()
}

/// A loaded set of `count` records.
fn cifar(count: usize) -> Cifar {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("images.bin"), records(count)).unwrap();
    Cifar::load(dir.path(), &["images.bin"], None).unwrap()
}

#[test]
fn records_come_in_order_and_up_to_the_limit() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("a.bin"), records(3)).unwrap();
    fs::write(dir.path().join("b.bin"), records(5)).unwrap();
    let all = Cifar::load(dir.path(), &["a.bin", "b.bin"], None).unwrap();
    assert_eq!((0..all.len()).map(|k| all.label(k)).collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2, 3, 4]);
    assert_eq!(Cifar::load(dir.path(), &["a.bin", "b.bin"], Some(4)).unwrap().len(), 4);
    let error = Cifar::load_exactly(dir.path(), &["a.bin"], 4).unwrap_err();
    assert!(matches!(error, ExampleError::TooFew { found: 3, wanted: 4, .. }), "{error}");
}

#[test]
fn a_missing_file_is_named() {
    let dir = tempdir().unwrap();
    let error = Cifar::load(dir.path(), &["train.bin"], None).unwrap_err();
    assert!(matches!(error, ExampleError::Images { .. }), "{error}");
    assert!(error.to_string().contains("train.bin"));
}

#[test]
fn a_truncated_file_is_refused() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("cut.bin"), &records(3)[..2 * RECORD + 100]).unwrap();
    let error = Cifar::load(dir.path(), &["cut.bin"], Some(1)).unwrap_err();
    assert!(matches!(error, ExampleError::Truncated { record: 2, .. }), "{error}");
}

#[test]
fn a_label_that_does_not_exist_is_refused() {
    let dir = tempdir().unwrap();
    let mut bytes = records(3);
    bytes[RECORD + 1] = 100;
    fs::write(dir.path().join("wrong.bin"), bytes).unwrap();
    let error = Cifar::load(dir.path(), &["wrong.bin"], None).unwrap_err();
    assert!(matches!(error, ExampleError::Label { record: 1, label: 100, .. }), "{error}");
}

#[test]
fn epochs_repeat_and_differ() {
    let device = Device::flex();
    let cifar = cifar(20);
    let epoch = |epoch, seed, batch_size, augment| {
        let mut labels = Vec::new();
        let mut pixels = Vec::new();
        for batch in cifar.epoch(epoch, seed, batch_size, augment, &device) {
            let batch = batch.unwrap();
            labels.extend(batch.labels);
            pixels.extend(batch.input.into_data().iter::<f32>());
        }
        (labels, pixels)
    };
    let first = epoch(0, 7, 8, true);
    assert_eq!(first, epoch(0, 7, 8, true));
    assert_eq!(first, epoch(0, 7, 3, true), "the batch size changes no image");
    assert_ne!(first, epoch(1, 7, 8, true));
    assert_ne!(first, epoch(0, 8, 8, true));
    let plain = epoch(0, 7, 8, false);
    assert_eq!(first.0, plain.0, "augmentation changes no order");
    assert_ne!(first.1, plain.1);
    let mut labels = plain.0;
    labels.sort_unstable();
    assert_eq!(labels, (0..20).collect::<Vec<_>>());
}

#[test]
fn missing_weights_are_named() {
    let dir = tempdir().unwrap();
    let error = weights::load(&dir.path().join("none.safetensors"), &Device::flex()).unwrap_err();
    assert!(matches!(error, ExampleError::Weights { .. }), "{error}");
}

#[test]
fn truncated_and_foreign_weights_are_refused() {
    let device = Device::flex();
    let dir = tempdir().unwrap();
    let whole = dir.path().join("narrow.safetensors");
    let narrow = Vgg11Config::new().with_width(2).init(&device);
    narrow.valid().save_into(&mut SafetensorsStore::from_file(&whole)).unwrap();
    let error = weights::load(&whole, &device).unwrap_err();
    assert!(matches!(error, ExampleError::ForeignWeights { .. }), "{error}");
    assert!(error.to_string().contains("convs.0.weight"), "{error}");

    let bytes = fs::read(&whole).unwrap();
    for length in [0, 4, 100, bytes.len() - 1] {
        let cut = dir.path().join("cut.safetensors");
        fs::write(&cut, &bytes[..length]).unwrap();
        let error = weights::load(&cut, &device).unwrap_err();
        assert!(matches!(error, ExampleError::NotSafetensors { .. }), "{length}: {error}");
    }

    let other = dir.path().join("linear.safetensors");
    let linear = burn::nn::LinearConfig::new(2, 3).init(&device);
    linear.save_into(&mut SafetensorsStore::from_file(&other)).unwrap();
    let error = weights::load(&other, &device).unwrap_err();
    assert!(matches!(&error, ExampleError::ForeignWeights { missing, .. } if missing.len() > 8), "{error}");
}
