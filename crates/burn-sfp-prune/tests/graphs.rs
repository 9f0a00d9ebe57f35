//! Removal equals masking on random computation graphs: whatever operations channels run through, the smaller module computes
//! what the original computes with the removed parameters at zero. 1,000 graphs a run, always the same ones, and 250 more whose
//! batch normalisations are folded.
//!
//! `GRAPHS=20000` draws that many other graphs for each test.

#[path = "common/graph/mod.rs"]
mod graph;

use std::cell::RefCell;
use std::sync::Mutex;

use graph::check::{check, check_folded, cuts};
use graph::spec::specs;
use graph::tally::{Tally, expected};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

/// Graphs of each test.
const GRAPHS: u32 = 250;
const TESTS: usize = 4;

/// What the tests that have ended counted.
static COUNTED: Mutex<Vec<Tally>> = Mutex::new(Vec::new());

fn runner(seed: u8) -> TestRunner {
    let wanted: Option<u32> = std::env::var("GRAPHS").ok().and_then(|text| text.parse().ok());
    let config = ProptestConfig {
        cases: wanted.unwrap_or(GRAPHS),
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    };
    match wanted {
        Some(_) => TestRunner::new(config),
        None => TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32])),
    }
}

fn run(seed: u8) {
    let tally = RefCell::new(Tally::default());
    let outcome = runner(seed).run(&(specs(), cuts()), |(spec, cut)| check(&spec, &cut, &mut tally.borrow_mut()));
    if let Err(error) = outcome {
        panic!("{error}");
    }
    let mut counted = COUNTED.lock().expect("no test panics while it counts");
    counted.push(tally.into_inner());
    if counted.len() == TESTS {
        let mut all = Tally::default();
        counted.iter().for_each(|tally| all.add(tally));
        covered(&all);
    }
}

/// Every operation was in some graph in which a channel that runs through it left.
fn covered(tally: &Tally) {
    println!("{} graphs, {} of them smaller", tally.graphs, tally.pruned);
    for (name, (there, shrank)) in &tally.calls {
        println!("{name:>24}: in {there}, smaller in {shrank}");
    }
    let missing: Vec<String> =
        expected().into_iter().filter(|name| tally.calls.get(name).is_none_or(|count| count.1 == 0)).collect();
    assert!(missing.is_empty(), "nothing left through {missing:?}");
    assert!(tally.pruned * 10 > tally.graphs * 8, "{} of {} graphs lost anything", tally.pruned, tally.graphs);
}

#[test]
fn the_smaller_graph_is_the_masked_original_1() {
    run(1);
}

#[test]
fn the_smaller_graph_is_the_masked_original_2() {
    run(2);
}

#[test]
fn the_smaller_graph_is_the_masked_original_3() {
    run(3);
}

#[test]
fn the_smaller_graph_is_the_masked_original_4() {
    run(4);
}

#[test]
fn folded_normalisations_change_nothing() {
    let folded = RefCell::new(0);
    let outcome = runner(5).run(&specs(), |spec| {
        *folded.borrow_mut() += check_folded(&spec)?;
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    assert!(*folded.borrow() > 0);
}
