//! Lists the networks with their sizes, or prunes each of them.

use burn::tensor::Device;
use burn_sfp::prelude::GroupCut;
use clap::{CommandFactory, Parser};
use models::report::{listed, pruned};

/// Well-known networks for Burn, to prune and to test with.
#[derive(Parser, Debug)]
struct Args {
    /// Prints each network with its parameters and its multiply-adds for one sample, and whether the published numbers agree.
    #[arg(long)]
    list: bool,
    /// Prunes this share of every layer of each network by magnitude and prints the sizes before and after, and which layers
    /// no plan can touch.
    #[arg(long, value_name = "RATIO")]
    prune: Option<f64>,
    /// With --prune: whole groups and heads instead of the same members of each.
    #[arg(long)]
    whole: bool,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let device = Device::flex();
    if let Some(ratio) = args.prune {
        print!("{}", pruned(ratio, if args.whole { GroupCut::WholeGroups } else { GroupCut::WithinGroups }, &device)?);
    } else if args.list {
        println!("{}", listed(&device));
    } else {
        Args::command().print_help()?;
    }
    Ok(())
}
