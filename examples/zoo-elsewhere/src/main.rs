//! Prunes networks of others, unmodified, and prints what came out of each.

use std::process::ExitCode;

use burn::tensor::Device;
use clap::Parser;
use zoo_elsewhere::networks::Size;
use zoo_elsewhere::report::{Listing, Report};

/// Networks that others wrote for Burn, pruned as they are.
#[derive(Parser, Debug)]
struct Args {
    /// Lists the networks.
    #[arg(long)]
    list: bool,
    /// Share of the channels of each layer that is removed, by magnitude.
    #[arg(long, default_value_t = 0.5)]
    share: f64,
    /// Networks whose name contains this.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// The narrow variants that the tests use.
    #[arg(long)]
    small: bool,
    /// The layers that keep all their filters too, and why.
    #[arg(long)]
    verbose: bool,
}

/// Fails where a network could not be pruned or was not pruned exactly, or no network has the name.
fn main() -> ExitCode {
    let args = Args::parse();
    let device = Device::flex();
    if args.list {
        println!("{}", Listing::new(&device));
        return ExitCode::SUCCESS;
    }
    let size = if args.small { Size::Small } else { Size::Standard };
    let report = Report::measure(size, args.share, args.only.as_deref(), &device);
    println!("{report}");
    if args.verbose {
        println!("Layers that keep their filters:\n{}", report.kept());
    }
    if report.rows().is_empty() {
        eprintln!("no network has this name; `--list` shows all");
        return ExitCode::FAILURE;
    }
    if report.all_exact() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
