//! Where stores are, what they refuse, and what is in them.

use std::cell::Cell;
use std::path::Path;

use burn_sfp_core::NoProgress;
use burn_sfp_graph::FileError;
use burn_sfp_prune::{PruneError, PrunedModule, StoreConfig, StorePrecision, fine_tune_stored};

use crate::inspect::bytes;
use crate::networks::{Plain, Residual};
use crate::*;

fn tune(made: &PrunedModule<Plain>, store: &StoreConfig) -> Result<Plain, PruneError> {
    fine_tune_stored(made.model.clone(), &made.plan, pass, SAMPLES, store, &config(), &NoProgress)
}

#[test]
fn memory_is_bounded_and_more_goes_to_disk() {
    let _alone = alone();
    let made = pruned(&Plain::new(1), &["fc"]);
    let expected = bytes(&tune(&made, &store()).unwrap());
    // Ten outputs of the hidden layer as halves and a label.
    let all = (3 * SAMPLES * (10 * 2 + 4)) as u64;
    assert_eq!(bytes(&tune(&made, &store().memory(all)).unwrap()), expected);
    match tune(&made, &store().memory(all - 1)).unwrap_err() {
        PruneError::StoreTooLarge { bytes, limit } => assert_eq!((bytes, limit), (all, all - 1)),
        other => panic!("{other}"),
    }
    let folder = tempfile::tempdir().unwrap();
    let spilled = store().memory(0).spill(folder.path());
    assert_eq!(bytes(&tune(&made, &spilled).unwrap()), expected);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let path = folder.path().join("a.store");
    assert_eq!(bytes(&tune(&made, &store().memory(0).file(&path)).unwrap()), expected);
    assert!(std::fs::metadata(&path).unwrap().len() > all);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_file_is_used_again() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let store = store().file(folder.path().join("a.store"));
    let made = pruned(&Plain::new(1), &["last", "fc"]);
    let loaded = Cell::new(0);
    let counted = |number| pass(number).inspect(|_| loaded.set(loaded.get() + 1));
    let tune = || fine_tune_stored(made.model.clone(), &made.plan, counted, SAMPLES, &store, &config(), &NoProgress);
    let first = bytes(&tune().unwrap());
    let (before, written) = (loaded.take(), std::fs::read(folder.path().join("a.store")).unwrap());
    assert_eq!(before, 1 + 3 * 3);
    assert_eq!(bytes(&tune().unwrap()), first);
    assert_eq!(loaded.take(), 1, "the first batch is looked at");
    assert_eq!(std::fs::read(folder.path().join("a.store")).unwrap(), written);
}

#[test]
fn a_file_of_something_else_is_refused_and_stays() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.store");
    let store = || store().file(&path).name("noise");
    let made = pruned(&Plain::new(1), &["fc"]);
    tune(&made, &store()).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let refused = |made: &PrunedModule<Plain>, store: StoreConfig, text: &str| {
        let error = tune(made, &store).unwrap_err();
        assert!(matches!(error, PruneError::OtherStore { .. }), "{error}");
        assert!(error.to_string().contains(text) && error.to_string().contains("a.store"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), whole);
    };
    refused(&pruned(&Plain::new(2), &["fc"]), store(), "other frozen layers");
    refused(&pruned(&Plain::new(1), &["last", "fc"]), store(), "other frozen layers");
    refused(&made, store().name("other noise"), "another name");
    refused(&made, store().precision(StorePrecision::BFloat16), "precision");
    refused(&made, store().copies(2), "copies");
    let shifted = |number| pass(number + 1);
    let error = fine_tune_stored(made.model.clone(), &made.plan, shifted, SAMPLES, &store(), &config(), &NoProgress);
    assert!(error.unwrap_err().to_string().contains("the first batch of its data"));
    // Other weights in the part that learns: the same store.
    let mut other = made.clone();
    other.model.fc = Plain::new(9).fc;
    other.model = made.plan.zeroed(&other.model).unwrap_or(other.model);
    let _ = tune(&other, &store()).unwrap();
    damaged(&made, &store(), &path, &whole);
}

fn damaged(made: &PrunedModule<Plain>, store: &StoreConfig, path: &Path, whole: &[u8]) {
    let with = |bytes: &[u8]| {
        std::fs::write(path, bytes).unwrap();
        match tune(made, store).unwrap_err() {
            PruneError::File(error) => error,
            other => panic!("{other}"),
        }
    };
    assert!(matches!(with(&whole[..whole.len() - 1]), FileError::Length { .. }));
    assert!(matches!(with(&[whole, &[0]].concat()), FileError::Length { .. }));
    for length in [0, 10, 27, 28, 60] {
        assert!(matches!(with(&whole[..length]), FileError::Foreign { .. }), "{length}");
    }
    assert!(matches!(
        with(&[b"something else altogether, and long enough".as_slice(); 4].concat()),
        FileError::Foreign { .. }
    ));
    let mut changed = whole.to_vec();
    changed[40] ^= 1;
    assert!(matches!(with(&changed), FileError::Checksum { .. }));
    let mut later = whole.to_vec();
    later[16] = 2;
    assert!(matches!(with(&later), FileError::Version { found: 2, .. }));
}

#[test]
fn settings_out_of_range() {
    let _alone = alone();
    let made = pruned(&Plain::new(1), &["fc"]);
    for (store, text) in
        [(store().copies(0), "copies of a store is 0"), (store().batch_size(1), "batch size of a store is 1")]
    {
        let error = tune(&made, &store).unwrap_err();
        assert!(matches!(error, PruneError::Config(_)) && error.to_string().contains(text), "{error}");
    }
}

#[test]
fn values_beyond_half_precision() {
    let _alone = alone();
    let mut net = Plain::new(1);
    net.stem.weight = net.stem.weight.map(|weight| weight * 1e9);
    net.stem_norm.running_var = burn::module::RunningState::new(Tensor::ones([6], &Device::flex()));
    let made = pruned(&net, &["last"]);
    let error = tune(&made, &store()).unwrap_err();
    assert!(matches!(error, PruneError::NotInHalf { .. }), "{error}");
    let _ = tune(&made, &store().precision(StorePrecision::BFloat16));
}

#[test]
fn copies_of_another_length() {
    let _alone = alone();
    let made = pruned(&Residual::new(1), &["fc"]);
    let short = |number: usize| pass(number).skip(number);
    let error = fine_tune_stored(made.model.clone(), &made.plan, short, SAMPLES, &store(), &config(), &NoProgress);
    assert!(matches!(error, Err(PruneError::PassLength { epoch: 1, found: 9, expected: SAMPLES })));
    let error = fine_tune_stored(made.model, &made.plan, pass, SAMPLES - 1, &store(), &config(), &NoProgress);
    assert!(matches!(error, Err(PruneError::PassLength { epoch: 0, expected: 13, .. })));
}
