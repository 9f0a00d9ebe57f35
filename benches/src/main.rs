//! The project's measurements: each one a pair, measured in turn in the same run, printed as a row.
//!
//! `cargo run --release -p benches -- [NAME ..] [--json FILE] [--list] [--pairs N]`
//!
//! | what | where |
//! | --- | --- |
//! | pairs in turn, medians, spread | [`measure`] |
//! | what is printed | [`table`] |
//! | the VGG-11 and its images | [`subject`] |
//! | a matrix product to measure by | [`product`] |
//! | the rows | [`sweep`], [`performance`], [`readouts`], [`memory`], [`pruning`], [`growth`], [`analysis`], [`definition`],
//! [`imagenet`], [`half`], [`afcc`], [`finetune`], [`sparse`], [`shared`], [`packed`], [`peer`], [`inference`], [`bfloat16`], [`remote`],
//! [`gpu`] |

mod afcc;
mod analysis;
mod bfloat16;
mod definition;
mod depthwise;
mod finetune;
mod gpu;
mod growth;
mod half;
mod imagenet;
mod inference;
mod measure;
mod memory;
mod packed;
mod peer;
mod performance;
mod product;
mod pruning;
mod readouts;
mod remote;
mod shared;
mod sparse;
mod subject;
mod sweep;
mod table;

use std::error::Error;
use std::path::PathBuf;

use burn_sfp::graph::file::write_json;
use clap::Parser;

use measure::Row;
use subject::Session;

/// Every error is printed and ends the run.
type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// A measurement.
struct Bench {
    name: &'static str,
    /// What is measured and what is wanted.
    about: &'static str,
    run: fn(&Session) -> Result<Row>,
}

/// All measurements but those of [`sparse`], [`shared`], [`packed`], [`peer`], [`inference`], [`bfloat16`], [`remote`] and [`gpu`].
const BENCHES: [Bench; 20] = [
    Bench { name: sweep::NAME, about: sweep::ABOUT, run: sweep::run },
    Bench { name: performance::NAME, about: performance::ABOUT, run: performance::run },
    Bench { name: readouts::NAME, about: readouts::ABOUT, run: readouts::run },
    Bench { name: memory::NAME, about: memory::ABOUT, run: memory::run },
    Bench { name: pruning::RESNET, about: pruning::ABOUT_RESNET, run: pruning::resnet },
    Bench { name: pruning::DENSENET, about: pruning::ABOUT_DENSENET, run: pruning::densenet },
    Bench { name: pruning::VIT, about: pruning::ABOUT_VIT, run: pruning::vit },
    Bench { name: growth::CHAIN, about: growth::ABOUT_CHAIN, run: growth::chain },
    Bench { name: growth::RESIDUAL, about: growth::ABOUT_RESIDUAL, run: growth::residual },
    Bench { name: growth::PLAN, about: growth::ABOUT_PLAN, run: growth::plan },
    Bench { name: growth::AFCC, about: growth::ABOUT_AFCC, run: growth::afcc },
    Bench { name: analysis::NAME, about: analysis::ABOUT, run: analysis::run },
    Bench { name: definition::NAME, about: definition::ABOUT, run: definition::run },
    Bench { name: imagenet::NAME, about: imagenet::ABOUT, run: imagenet::run },
    Bench { name: half::ONE, about: half::ABOUT_ONE, run: half::one },
    Bench { name: half::BATCH, about: half::ABOUT_BATCH, run: half::batch },
    Bench { name: afcc::ONE, about: afcc::ABOUT, run: afcc::one },
    Bench { name: afcc::BATCH, about: afcc::ABOUT, run: afcc::batch },
    Bench { name: finetune::NAME, about: finetune::ABOUT, run: finetune::run },
    Bench { name: finetune::RECORDED, about: finetune::ABOUT_RECORDED, run: finetune::recorded },
];

/// All measurements, in the order in which they run; those on wgpu where this build has it.
fn all() -> impl Iterator<Item = &'static Bench> {
    let gpu = if cfg!(feature = "wgpu") { [gpu::ROWS, sparse::ROWS_WGPU].as_slice() } else { &[] };
    BENCHES
        .iter()
        .chain(sparse::ROWS)
        .chain(shared::ROWS)
        .chain(packed::ROWS)
        .chain(depthwise::ROWS)
        .chain(peer::ROWS)
        .chain(inference::ROWS)
        .chain(bfloat16::ROWS)
        .chain(remote::ROWS)
        .chain(gpu.iter().copied().flatten())
}

/// Measures the library against what it should be measured by, in pairs.
///
/// Trained weights and CIFAR-100 come from the folder named by BURN_SFP_SHARED, else from ../shared beside the
/// workspace; weights and images are random where there is neither, or where BURN_SFP_SHARED is empty.
#[derive(Parser, Debug)]
struct Args {
    /// Measurements to run; all where none is named.
    names: Vec<String>,
    /// Writes the rows to this file, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Lists the measurements and ends.
    #[arg(long)]
    list: bool,
    /// Pairs that count, after one pair to warm up.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(5..))]
    pairs: u16,
    /// Analyses this many samples in this process and prints its peak memory.
    #[arg(long, value_name = "SAMPLES", hide = true)]
    child_peak_memory: Option<usize>,
    /// Hosts a device in this process.
    #[arg(long, hide = true)]
    child_server: bool,
    /// Finds what the filters of a layer on ImageNet recognise in this process and prints its peak memory.
    #[arg(long, hide = true)]
    child_imagenet: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(samples) = args.child_peak_memory {
        return memory::child(samples);
    }
    if args.child_server {
        return remote::child();
    }
    if args.child_imagenet {
        return imagenet::child();
    }
    if args.list {
        println!("{}", table::list(all().map(|bench| (bench.name, bench.about))));
        return Ok(());
    }
    let chosen = choose(&args.names)?;
    let session = Session::new(args.pairs.into());
    let mut rows = Vec::with_capacity(chosen.len());
    for bench in chosen {
        eprintln!("{}: {} pairs ...", bench.name, args.pairs);
        rows.push((bench.run)(&session)?);
        // After each row: what was measured survives what comes after it.
        if let Some(path) = &args.json {
            write_json(path, &rows)?;
        }
    }
    println!("{}", table::table(&rows));
    Ok(())
}

fn choose(names: &[String]) -> Result<Vec<&'static Bench>> {
    let known = || all().map(|bench| bench.name).collect::<Vec<_>>().join(", ");
    if let Some(unknown) = names.iter().find(|name| all().all(|bench| bench.name != **name)) {
        return Err(format!("no measurement is called {unknown}; there are {}", known()).into());
    }
    Ok(all().filter(|bench| names.is_empty() || names.iter().any(|name| name == bench.name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
        assert!(Args::try_parse_from(["benches", "--pairs", "4"]).is_err());
    }

    #[test]
    fn names_choose_rows() {
        assert_eq!(choose(&[]).unwrap().len(), all().count());
        assert_eq!(choose(&[memory::NAME.into()]).unwrap()[0].name, memory::NAME);
        let error = choose(&["sweep".into()]).err().unwrap().to_string();
        assert!(error.contains("sweep_vs_forward"), "{error}");
    }
}
