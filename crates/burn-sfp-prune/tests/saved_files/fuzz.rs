//! Every reader on changed files whose length and checksum are right again, so that what is behind them is reached.
//!
//! A second for each type by default; `FUZZ_SECONDS=600` makes it ten minutes each.

use std::fs;
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use burn_sfp_prune::PrunePlan;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::kinds::{KINDS, Kind, Mlp};

/// What numbers and words of JSON are replaced by.
const WORDS: [&str; 16] = [
    "0",
    "1",
    "-1",
    "2",
    "255",
    "4294967295",
    "9007199254740993",
    "18446744073709551615",
    "1e308",
    "-1e-320",
    "0.5",
    "null",
    "true",
    "[]",
    "{}",
    "\"x\"",
];

fn time() -> Duration {
    let seconds = std::env::var("FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs_f64(seconds.unwrap_or(1.0))
}

/// Changes a few places: bits, bytes, pieces left out, doubled or taken from another file, words of JSON.
fn change(bytes: &mut Vec<u8>, other: &[u8], from: usize, rng: &mut ChaCha8Rng) {
    for _ in 0..rng.random_range(1..4) {
        if bytes.len() < from + 48 || other.len() < from + 48 {
            return;
        }
        let length = rng.random_range(1..32);
        let at = rng.random_range(from..bytes.len() - length);
        match rng.random_range(0..8) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes[at] = [0, 1, 127, 128, 255, b'"', b'}', b']'][rng.random_range(0..8)],
            2 => bytes[at..at + length].iter_mut().for_each(|byte| *byte = rng.random_range(0..=255)),
            3 => drop(bytes.drain(at..at + length)),
            4 => drop(bytes.splice(at..at, other[from..from + length].iter().copied())),
            5 => {
                let source = rng.random_range(from..other.len() - length);
                bytes[at..at + length].copy_from_slice(&other[source..source + length]);
            }
            _ => replace_word(bytes, at, rng),
        }
    }
}

/// Replaces the word at or behind a place.
fn replace_word(bytes: &mut Vec<u8>, at: usize, rng: &mut ChaCha8Rng) {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-._".contains(byte);
    let Some(start) = bytes[at..].iter().position(is_word).map(|skip| at + skip) else { return };
    let length = bytes[start..].iter().position(|byte| !is_word(byte)).unwrap_or(bytes.len() - start);
    let word = WORDS[rng.random_range(0..WORDS.len())];
    bytes.splice(start..start + length, word.bytes());
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes.windows(pattern.len()).take(1 << 16).position(|window| window == pattern)
}

/// Corrects the length and the checksum at the head of a file. Where the head itself is broken, nothing is corrected.
fn seal(bytes: &mut Vec<u8>) {
    let digits = |bytes: &[u8], at: usize| bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    if let Some(at) = find(bytes, b"\x66length\x74").map(|at| at + 8)
        && bytes.len() >= at + 20
    {
        let length = format!("{:020}", bytes.len());
        bytes[at..at + 20].copy_from_slice(length.as_bytes());
    } else if let Some(at) = find(bytes, b"\"bytes\":").map(|at| at + 8) {
        let at = at + usize::from(bytes.get(at) == Some(&b'"'));
        for _ in 0..3 {
            let header = u64::from_le_bytes(bytes[..8].try_into().unwrap_or_default());
            let start = match find(bytes, b"\"content\":") {
                Some(content) if bytes[0] == b'{' => content + 10,
                _ => usize::try_from(header).unwrap_or(0).saturating_add(8),
            };
            let (old, rest) = (digits(bytes, at), bytes.len().saturating_sub(start));
            bytes.splice(at..at + old, rest.to_string().into_bytes());
        }
    }
    let patterns: [&[u8]; 2] = [b"\"checksum\":\"", b"\x68checksum\x68"];
    let place = patterns.iter().find_map(|pattern| find(bytes, pattern).map(|at| at + pattern.len()));
    if let Some(at) = place.filter(|at| at + 8 <= bytes.len()) {
        bytes[at..at + 8].copy_from_slice(b"00000000");
        let sum = format!("{:08x}", crc32fast::hash(bytes));
        bytes[at..at + 8].copy_from_slice(sum.as_bytes());
    }
}

/// Changes the plan in a safetensors file of a pruned model, which is compressed and its last tensor.
fn change_plan(bytes: &[u8], rng: &mut ChaCha8Rng) -> Option<Vec<u8>> {
    const NAME: &[u8] = b"\"burn-sfp/plan\":";
    let header = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().ok()?)).ok()?;
    let entry = find(bytes, NAME)?;
    let text = std::str::from_utf8(&bytes[entry + NAME.len()..8 + header]).ok()?;
    let numbers: Vec<usize> =
        text.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect();
    let &[.., length, start, _end] = &numbers[..] else { return None };
    let data = 8 + header + start;
    let mut json = Vec::new();
    GzDecoder::new(&bytes[data..data + length]).read_to_end(&mut json).ok()?;
    let other = json.clone();
    change(&mut json, &other, 0, rng);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&json).ok()?;
    let plan = encoder.finish().ok()?;
    let (length, end) = (plan.len(), start + plan.len());
    let mut head = bytes[8..entry].to_vec();
    head.extend(NAME);
    head.extend(format!("{{\"dtype\":\"U8\",\"shape\":[{length}],\"data_offsets\":[{start},{end}]}}}}").bytes());
    head.extend(std::iter::repeat_n(b' ', head.len().next_multiple_of(8) - head.len()));
    Some([(head.len() as u64).to_le_bytes().as_slice(), &head, &bytes[8 + header..data], &plan].concat())
}

fn fuzz(kind: &Kind) -> (usize, usize) {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["file", "other", "again", "twice"].map(|name| folder.path().join(name));
    let whole = [1, 2].map(|seed| {
        let path = &paths[seed as usize - 1];
        (kind.save)(path, seed).unwrap();
        fs::read(path).unwrap()
    });
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let (mut tried, mut accepted, started) = (0, 0, Instant::now());
    while started.elapsed() < time() {
        let mut bytes = match tried % 3 {
            0 => change_plan(&whole[0], &mut rng).unwrap_or_else(|| whole[0].clone()),
            _ => whole[0].clone(),
        };
        if tried % 3 != 0 || bytes == whole[0] {
            change(&mut bytes, &whole[1], 0, &mut rng);
        }
        seal(&mut bytes);
        fs::write(&paths[0], &bytes).unwrap();
        let read = catch_unwind(AssertUnwindSafe(|| (kind.reload)(&paths[0], &paths[2])));
        let Ok(read) = read else {
            panic!("{}, attempt {tried}: a panic on {}", kind.name, String::from_utf8_lossy(&bytes));
        };
        if read.is_ok() {
            // What is accepted is the same when it is saved and read again.
            (kind.reload)(&paths[2], &paths[3]).unwrap();
            assert!(fs::read(&paths[2]).unwrap() == fs::read(&paths[3]).unwrap(), "{}, attempt {tried}", kind.name);
            accepted += 1;
        }
        tried += 1;
    }
    (tried, accepted)
}

#[test]
fn changed_files_with_the_right_checksum() {
    for kind in &KINDS {
        let (tried, accepted) = fuzz(kind);
        println!("{}: {tried} files in {:.0} s, {accepted} accepted", kind.name, time().as_secs_f64());
        assert!(tried > 20, "{}", kind.name);
    }
}

#[test]
fn changed_plans_that_were_accepted_by_hand() {
    let whole = [1, 2].map(|seed| serde_json::to_vec(&crate::kinds::plan(seed)).unwrap());
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let (mut tried, mut applied, started) = (0, 0, Instant::now());
    while started.elapsed() < time() {
        let mut bytes = whole[0].clone();
        change(&mut bytes, &whole[1], 0, &mut rng);
        tried += 1;
        let Ok(plan) = serde_json::from_slice::<PrunePlan>(&bytes) else { continue };
        let apply = || plan.sealed().and_then(|plan| plan.apply(&Mlp::new(1)).map(drop));
        let Ok(outcome) = catch_unwind(AssertUnwindSafe(apply)) else {
            panic!("attempt {tried}: a panic on {}", String::from_utf8_lossy(&bytes));
        };
        applied += usize::from(outcome.is_ok());
    }
    println!("plans accepted by hand: {tried} in {:.0} s, {applied} applied", time().as_secs_f64());
    assert!(tried > 20 && applied > 0);
}
