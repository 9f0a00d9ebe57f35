//! No damaged file of any type is read as something else than what was saved.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Instant;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::kinds::KINDS;

/// Loads a damaged file: it is refused, or equal to the one that was saved.
fn refused(kind: &crate::kinds::Kind, path: &Path, again: &Path, whole: &[u8], what: &str) -> bool {
    match (kind.reload)(path, again) {
        Err(error) => {
            assert!(error.contains(kind.name), "{what}: {error}");
            true
        }
        Ok(()) => {
            assert!(fs::read(again).unwrap() == whole, "{}, {what}: read as something else", kind.name);
            false
        }
    }
}

#[test]
fn every_single_bit_of_every_type() {
    let folder = tempfile::tempdir().unwrap();
    for kind in &KINDS {
        let (path, again) = (folder.path().join(kind.name), folder.path().join("again"));
        (kind.save)(&path, 1).unwrap();
        let whole = fs::read(&path).unwrap();
        (kind.reload)(&path, &again).unwrap();
        assert!(fs::read(&again).unwrap() == whole, "{} is saved again as another file", kind.name);
        let started = Instant::now();
        let mut file = File::options().write(true).open(&path).unwrap();
        let mut put = |at: usize, byte: u8| {
            file.seek(SeekFrom::Start(at as u64)).unwrap();
            file.write_all(&[byte]).unwrap();
        };
        for (at, &byte) in whole.iter().enumerate() {
            for bit in 0..8 {
                put(at, byte ^ (1 << bit));
                assert!(refused(kind, &path, &again, &whole, &format!("bit {bit} of byte {at}")));
            }
            put(at, byte);
        }
        println!("{}: {} bits in {:.1} s", kind.name, 8 * whole.len(), started.elapsed().as_secs_f64());
        assert!(fs::read(&path).unwrap() == whole);
    }
}

#[test]
fn every_length_of_every_type() {
    let folder = tempfile::tempdir().unwrap();
    for kind in &KINDS {
        let (path, again) = (folder.path().join(kind.name), folder.path().join("again"));
        (kind.save)(&path, 1).unwrap();
        let whole = fs::read(&path).unwrap();
        for length in (0..whole.len()).step_by(7) {
            fs::write(&path, &whole[..length]).unwrap();
            let error = (kind.reload)(&path, &again).unwrap_err();
            assert!(error.contains("truncated") && error.contains("write it again"), "{length} bytes: {error}");
        }
        fs::write(&path, [whole.as_slice(), b"\n"].concat()).unwrap();
        assert!((kind.reload)(&path, &again).unwrap_err().contains("longer"));
    }
}

#[test]
fn pieces_that_were_overwritten_left_out_doubled_or_swapped() {
    const TRIES: usize = 2000;
    let folder = tempfile::tempdir().unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for kind in &KINDS {
        let (path, again) = (folder.path().join(kind.name), folder.path().join("again"));
        (kind.save)(&path, 1).unwrap();
        let whole = fs::read(&path).unwrap();
        for attempt in 0..TRIES {
            let mut bytes = whole.clone();
            let length = rng.random_range(1..40);
            let (from, to) = (rng.random_range(0..bytes.len() - length), rng.random_range(0..bytes.len() - length));
            match attempt % 4 {
                0 => bytes[from..from + length].iter_mut().for_each(|byte| *byte = rng.random_range(0..=255)),
                1 => drop(bytes.drain(from..from + length)),
                2 => drop(bytes.splice(to..to, whole[from..from + length].iter().copied())),
                _ => bytes[to..to + length].copy_from_slice(&whole[from..from + length]),
            }
            fs::write(&path, &bytes).unwrap();
            refused(kind, &path, &again, &whole, &format!("attempt {attempt}"));
        }
    }
}

#[test]
fn files_of_another_type_and_huge_ones() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    for kind in &KINDS {
        for other in KINDS.iter().filter(|other| other.name[..4] != kind.name[..4]) {
            (other.save)(&path, 1).unwrap();
            let plans = ["plan.json", "masks.json"];
            if plans.contains(&kind.name) && plans.contains(&other.name) {
                continue;
            }
            let error = (kind.reload)(&path, &folder.path().join("again")).unwrap_err();
            assert!(error.contains("it says that it is a `burn-sfp"), "{} as {}: {error}", other.name, kind.name);
        }
        // A terabyte behind an intact head: refused without reading it.
        (kind.save)(&path, 1).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        if file.set_len(1 << 40).is_ok() {
            let error = (kind.reload)(&path, &folder.path().join("again")).unwrap_err();
            assert!(error.contains("longer than it says"), "{error}");
        }
    }
}
