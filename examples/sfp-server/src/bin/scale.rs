//! How far a pool scales, by simulation with measured constants: ImageNet on ResNet-50.
//!
//! `cargo run --release -p sfp-server --bin scale` measures a forward pass of a batch and the merging of sums on this machine, counts the bytes
//! of both, and simulates the pool with 1 to 256 servers behind one network link. docs/scale.md has the results.

use std::collections::BTreeMap;
use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use burn::tensor::{Device, Tensor};
use burn_sfp::prelude::*;
use clap::Parser;
use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};
use models::resnet::ResNetConfig;

/// Images of ImageNet's training set.
const IMAGES: usize = 1_281_167;
/// Images of a batch.
const BATCH: usize = 64;
/// Pixels of an image's side.
const SIDE: usize = 224;

/// Simulates a pool of up to 256 servers.
#[derive(Parser, Debug)]
struct Args {
    /// Rate of the network link of the machine with the data, each way, in gigabits a second.
    #[arg(long, default_value_t = 10.0)]
    link: f64,
    /// Images that this machine decodes in a second (`ReadAhead`).
    #[arg(long, default_value_t = 10_000.0)]
    decode: f64,
    /// Seconds of a forward pass of a batch on a server; measured on this machine without it.
    #[arg(long)]
    forward: Option<f64>,
    /// Images of the measured forward pass, from which that of a batch follows.
    #[arg(long, default_value_t = 16)]
    measured: usize,
}

/// What everything takes, in seconds.
#[derive(Clone, Copy, Debug)]
struct Costs {
    /// A batch's forward pass on a server.
    forward: f64,
    /// A batch on the wire.
    input: f64,
    /// The sums of a chunk on the wire.
    sums: f64,
    /// Adding them up.
    merge: f64,
    /// Decoding a batch.
    decode: f64,
}

/// What a simulated pass took.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Passed {
    seconds: f64,
    /// Shares of the time in which each of them worked.
    busy: [f64; 5],
}

/// What may hold a pass up.
const LIMITS: [&str; 5] = ["servers", "link out", "link in", "merging", "decoding"];

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let device = Device::flex();
    let model = ResNetConfig::resnet50().init(&device);
    let forward = match args.forward {
        Some(seconds) => seconds,
        None => {
            let images = Tensor::<4>::zeros([args.measured, 3, SIDE, SIDE], &device);
            let pass = || black_box(model.logits(images.clone()).into_data());
            pass();
            let clock = Instant::now();
            pass();
            clock.elapsed().as_secs_f64() * BATCH as f64 / args.measured as f64
        }
    };
    // Features of each layer as the analysis reads it.
    let ten = TensorCalibration::new(Tensor::<4>::ones([10, 3, SIDE, SIDE], &device), (0..10).collect(), 5);
    let few = ResNetConfig::resnet50().with_classes(10).init(&device);
    let once = AnalyzeConfig::new().with_accuracy(false);
    let analysis = analyze(&few, &ten, &once)?;
    let features: Vec<f64> =
        analysis.layers.iter().map(|layer| (layer.performance.len() * layer.positions) as f64).collect();
    let class_sums = features.iter().map(|features| 1000.0 * features).sum::<f64>();
    let grams = features[..features.len() - 1].iter().map(|features| features * features).sum::<f64>();
    let merging = merging();
    println!(
        "ResNet-50, batch {BATCH}: {forward:.2} s forward, {:.1} MB of input; sums of a chunk: {:.0} MB by label, {:.0} MB of normal \
         equations; {:.2} GB of sums merged in a second; link {} Gb/s, {} images decoded in a second\n",
        1e-6 * input_bytes(),
        4e-6 * class_sums,
        4e-6 * grams,
        4e-9 * merging,
        args.link,
        args.decode
    );
    for (readouts, values) in [("ridge readouts", class_sums + grams), ("readouts given", class_sums)] {
        for chunk in [16, 256] {
            let link = 1e9 * args.link / 8.0;
            let costs = Costs {
                forward,
                // As measured: docs/performance.md, `remote_vs_local_b64`.
                input: 1.05 * input_bytes() / link,
                sums: 4.0 * values / link,
                merge: values / merging,
                decode: BATCH as f64 / args.decode,
            };
            println!("{readouts}, chunks of {chunk} batches\n\n{}\n", table(&costs, chunk));
        }
    }
    Ok(())
}

/// Bytes of a batch.
fn input_bytes() -> f64 {
    (BATCH * 3 * SIDE * SIDE * 4) as f64
}

/// Values in single precision that are added to sums in double precision in a second.
fn merging() -> f64 {
    let part = vec![1.0_f32; 1 << 25];
    let mut sums = vec![0.0_f64; part.len()];
    let mut add = || sums.iter_mut().zip(&part).for_each(|(sum, &value)| *sum += f64::from(value));
    add();
    let clock = Instant::now();
    add();
    let seconds = clock.elapsed().as_secs_f64();
    black_box(&sums);
    part.len() as f64 / seconds
}

fn table(costs: &Costs, chunk: usize) -> Table {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    table.set_header(["servers", "images a second", "of as many times one", "hours for ImageNet", "busiest"]);
    let batches = IMAGES.div_ceil(BATCH);
    let one = passed(costs, 1, batches, chunk).seconds;
    for servers in [1, 2, 4, 8, 16, 32, 64, 128, 256] {
        let Passed { seconds, busy } = passed(costs, servers, batches, chunk);
        let most = (0..busy.len()).max_by(|&a, &b| busy[a].total_cmp(&busy[b])).unwrap_or_default();
        table.add_row([
            servers.to_string(),
            format!("{:.0}", IMAGES as f64 / seconds),
            format!("{:.0} %", 100.0 * one / seconds / servers as f64),
            format!("{:.2}", seconds / 3600.0),
            format!("{} ({:.0} %)", LIMITS[most], 100.0 * busy[most]),
        ]);
    }
    for column in table.column_iter_mut().take(4) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// The pool as it is built: the next chunk to whoever is free, batch after batch over one link, sums back in order, one chunk ahead of the
/// merging.
fn passed(costs: &Costs, servers: usize, batches: usize, chunk: usize) -> Passed {
    let chunks = batches.div_ceil(chunk);
    let size = |index: usize| chunk.min(batches - index * chunk);
    let (mut out, mut back, mut merger) = (0.0_f64, 0.0_f64, 0.0_f64);
    // When each server goes on, in the order of time: with its chunk and the batches that it lacks.
    let mut events: BTreeMap<(Seconds, usize), (usize, usize)> = BTreeMap::new();
    // Servers that wait for their chunk's turn, and since when.
    let mut waiting: BTreeMap<usize, (usize, f64)> = BTreeMap::new();
    let mut merged = vec![0.0; chunks];
    let (mut next, mut handed_in) = (0, 0);
    for server in 0..servers.min(chunks) {
        events.insert((Seconds(0.0), server), (next, size(next)));
        next += 1;
    }
    while let Some(((Seconds(now), server), (index, left))) = events.pop_first() {
        if left > 0 {
            let read = ((index * chunk + size(index) - left + 1) as f64) * costs.decode;
            out = now.max(out).max(read) + costs.input;
            events.insert((Seconds(out + costs.forward), server), (index, left - 1));
            continue;
        }
        waiting.insert(index, (server, now));
        while let Some((server, since)) = waiting.remove(&handed_in) {
            // One chunk may come in while the one before it is merged.
            let turn = if handed_in < 2 { 0.0 } else { merged[handed_in - 2] };
            back = since.max(back).max(turn) + costs.sums;
            merger = back.max(merger) + costs.merge;
            merged[handed_in] = merger;
            handed_in += 1;
            if next < chunks {
                events.insert((Seconds(back), server), (next, size(next)));
                next += 1;
            }
        }
    }
    let (batches, chunks) = (batches as f64, chunks as f64);
    let spent = [
        batches * costs.forward / servers as f64,
        batches * costs.input,
        chunks * costs.sums,
        chunks * costs.merge,
        batches * costs.decode,
    ];
    Passed { seconds: merger, busy: spent.map(|seconds| seconds / merger) }
}

/// A time, in order.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Seconds(f64);

impl Eq for Seconds {}

impl PartialOrd for Seconds {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Seconds {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COSTS: Costs = Costs { forward: 1.0, input: 0.1, sums: 0.5, merge: 0.25, decode: 0.001 };

    #[test]
    fn one_server_does_all_in_turn() {
        let found = passed(&COSTS, 1, 20, 5);
        // The last merge alone does not overlap with anything.
        let expected = 0.001 + 20.0 * 1.1 + 4.0 * 0.5 + 0.25;
        assert!((found.seconds - expected).abs() < 1e-9, "{found:?} {expected}");
    }

    #[test]
    fn few_servers_share_the_work_and_many_meet_a_limit() {
        let one = passed(&COSTS, 1, 10_000, 10).seconds;
        let four = passed(&COSTS, 4, 10_000, 10).seconds;
        assert!(four < 0.27 * one && four > 0.25 * one, "{one} {four}");
        // The link out: a tenth of a second for each batch.
        let many = passed(&COSTS, 200, 10_000, 10);
        assert!(many.seconds >= 1000.0 && many.seconds < 1050.0, "{many:?}");
        assert_eq!(many.busy.iter().filter(|busy| **busy > 0.95).count(), 1);
        // Sums that take longer than the batches of their chunk. The first ones come after ten rounds of 200 batches over the link, 180 seconds.
        let many = passed(&Costs { sums: 4.0, ..COSTS }, 200, 10_000, 10);
        assert!(many.seconds >= 4180.0 && many.seconds < 4190.0, "{many:?}");
    }

    #[test]
    fn less_work_than_servers() {
        let found = passed(&COSTS, 8, 3, 1);
        assert!(found.seconds.is_finite() && found.seconds < 3.0, "{found:?}");
    }
}
