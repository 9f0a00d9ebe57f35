//! A process that is killed while it saves leaves the old file or the new one.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use burn_sfp_prune::load_pruned;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::inspect::bytes;
use crate::net::Net;
use crate::whole::pruned;

/// Name of the variable that tells a process of this test where to save.
const CHILD: &str = "SAVE_MODELS_AGAIN_AND_AGAIN";
const SEEDS: [u64; 2] = [1, 2];

/// Runs in processes of their own, started by the test below: saves two models in turn.
#[test]
fn child() {
    let Ok(path) = std::env::var(CHILD) else { return };
    // The end of standard input ends the process, should the test that started it be gone.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_line(&mut String::new());
        std::process::exit(0);
    });
    let models = SEEDS.map(pruned);
    loop {
        models.iter().for_each(|model| model.save(&path).unwrap());
        std::fs::write(Path::new(&path).with_extension("started"), "").unwrap();
    }
}

fn start(path: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed::child", "--nocapture"])
        .env(CHILD, path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn fifty_kills() {
    const KILLS: usize = 25;
    let expected = SEEDS.map(|seed| bytes(&pruned(seed).model));
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for name in ["net.safetensors", "net.bpk"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        pruned(SEEDS[0]).save(&path).unwrap();
        let (mut seen, mut left) = ([0, 0], 0);
        for _ in 0..KILLS {
            let mut child = start(&path);
            let (started, mark) = (Instant::now(), path.with_extension("started"));
            while !mark.exists() {
                assert!(started.elapsed() < Duration::from_secs(120), "the process saves nothing");
                std::thread::sleep(Duration::from_millis(2));
            }
            std::thread::sleep(Duration::from_micros(rng.random_range(0..20_000)));
            child.kill().unwrap();
            child.wait().unwrap();
            let _ = std::fs::remove_file(mark);
            let found = bytes(&load_pruned(Net::new(9), &path).unwrap().model);
            let which =
                expected.iter().position(|model| *model == found).expect("the file holds one of the two models");
            seen[which] += 1;
            left += std::fs::read_dir(folder.path()).unwrap().count() - 1;
        }
        println!("{name}: {seen:?} after {KILLS} kills, {left} temporary files left in between");
        pruned(SEEDS[1]).save(&path).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
