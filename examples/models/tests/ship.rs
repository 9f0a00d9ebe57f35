//! All networks pruned to half of their multiply-adds, saved, and loaded in another process.

use std::path::Path;
use std::process::Command;

use burn::tensor::Device;
use models::report::{load_all, save_all, shipped};
use models::zoo::Size;

/// Names the folder to the other process.
const FOLDER: &str = "MODELS_SHIP_FOLDER";

#[test]
fn another_process_computes_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let saved = save_all(Size::Small, folder.path(), &Device::flex()).unwrap();
    assert!(saved.len() >= 20, "{} networks", saved.len());
    for network in &saved {
        let share = network.macs.1 as f64 / network.macs.0 as f64;
        assert!((0.3..0.6).contains(&share), "{}: {share} of the multiply-adds", network.name);
    }
    let other = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_other_process", "--ignored", "--nocapture"])
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&other.stdout);
    let names: Vec<&str> = saved.iter().map(|network| network.name).collect();
    assert!(other.status.success() && text.contains(&format!("same: {names:?}")), "{text}");
}

#[test]
#[ignore = "run by the test above"]
fn the_other_process() {
    let folder = std::env::var_os(FOLDER).expect("run by another test");
    let (same, other) = load_all(Size::Small, Path::new(&folder), &Device::flex()).unwrap();
    println!("same: {same:?}");
    assert!(other.is_empty(), "{other:?}");
}

/// `cargo run --release -p models -- --save FOLDER` and `--load FOLDER`, as a test: minutes, and gigabytes of memory.
#[test]
#[ignore = "large networks: run by hand"]
fn published_sizes_take_bytes_as_parameters() {
    let folder = tempfile::tempdir().unwrap();
    let saved = save_all(Size::Standard, folder.path(), &Device::flex()).unwrap();
    println!("{}", shipped(&saved));
    let (same, other) = load_all(Size::Standard, folder.path(), &Device::flex()).unwrap();
    assert!(other.is_empty() && same.len() == saved.len(), "{other:?}");
    for network in &saved {
        assert!((network.excess() - 1.0).abs() < 0.02, "{}: {}", network.name, network.excess());
    }
}
