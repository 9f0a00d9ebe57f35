//! The command line of the comparisons.

use std::path::PathBuf;

use burn::prelude::Device;
use burn_sfp::prelude::{Bars, DataError};
use clap::{Parser, Subcommand};
use comparison::networks::Size;
use comparison::{depth, latency, planning, policies};

/// Measured comparisons of policies, budgets and costs.
#[derive(Parser, Debug)]
enum Args {
    /// Prunes the quickstart's network by every policy at the same multiply-adds and measures top-1 right after and after one epoch.
    Policies {
        #[command(flatten)]
        args: policies::Args,
    },
    /// Leaves residual blocks of a ResNet-18 out by readout gain, and removes channels to the same multiply-adds.
    Depth {
        #[command(flatten)]
        args: depth::Args,
    },
    #[command(flatten)]
    Timed(Timed),
}

#[derive(Subcommand, Debug)]
enum Timed {
    /// Prunes to half of the latency of one image, chosen by latency and by multiply-adds.
    Latency {
        /// JSON file whose rows are replaced; without it the table is only printed.
        file: Option<PathBuf>,
        /// Forward passes that a latency is the median of.
        #[arg(long, default_value_t = 40)]
        runs: usize,
        /// Narrow networks for small images: a trial of the program, no result.
        #[arg(long)]
        small: bool,
    },
    /// Measures planning beside a forward pass.
    Planning {
        /// JSON file whose rows are replaced; without it the table is only printed.
        file: Option<PathBuf>,
        /// Runs that a time is the median of.
        #[arg(long, default_value_t = 5)]
        runs: usize,
        /// Narrow networks for small images: a trial of the program, no result.
        #[arg(long)]
        small: bool,
    },
}

fn main() -> Result<(), DataError> {
    let device = Device::flex();
    let size = |small| if small { Size::Small } else { Size::Standard };
    let progress = Bars::default();
    match Args::parse() {
        Args::Policies { args } => println!("{}", policies::run(&args, &device, &progress)?),
        Args::Depth { args } => println!("{}", depth::run(&args, &device, &progress)?),
        Args::Timed(Timed::Latency { file, runs, small }) => {
            println!("{}", latency::run(size(small), runs, file.as_deref(), &device, &progress)?);
        }
        Args::Timed(Timed::Planning { file, runs, small }) => {
            println!("{}", planning::run(size(small), runs, file.as_deref(), &device, &progress)?);
        }
    }
    Ok(())
}
