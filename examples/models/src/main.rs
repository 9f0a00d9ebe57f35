//! Lists the networks with their sizes, or prunes each of them.

use std::path::PathBuf;

use burn::tensor::Device;
use burn_sfp::prelude::GroupCut;
use clap::{CommandFactory, Parser};
use models::report::{budget_table, budgets, listed, load_all, pruned, save_all, shipped, write_budgets};
use models::zoo::Size;

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
    /// Prunes each network to half of its multiply-adds, saves it into this folder and prints the bytes before and after.
    #[arg(long, value_name = "FOLDER")]
    save: Option<PathBuf>,
    /// Loads what --save wrote into freshly made networks and compares the outputs bit by bit.
    #[arg(long, value_name = "FOLDER")]
    load: Option<PathBuf>,
    /// Prunes each network to half of its multiply-adds and to 30 % of its parameters, prints what is left, and writes it under `budgets`
    /// into this JSON file.
    #[arg(long, value_name = "FILE")]
    budgets: Option<PathBuf>,
    /// With --prune: whole groups and heads instead of the same members of each.
    #[arg(long)]
    whole: bool,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let device = Device::flex();
    if let Some(ratio) = args.prune {
        print!("{}", pruned(ratio, if args.whole { GroupCut::WholeGroups } else { GroupCut::WithinGroups }, &device)?);
    } else if let Some(folder) = &args.save {
        std::fs::create_dir_all(folder)?;
        println!("{}", shipped(&save_all(Size::Standard, folder, &device)?));
    } else if let Some(folder) = &args.load {
        let (same, other) = load_all(Size::Standard, folder, &device)?;
        println!("{} networks with the same outputs bit by bit, {} with others {other:?}", same.len(), other.len());
    } else if let Some(file) = &args.budgets {
        let rows = budgets(Size::Standard, &device)?;
        write_budgets(&rows, file).map_err(|error| -> Box<dyn std::error::Error> { error })?;
        println!("{}", budget_table(&rows));
    } else if args.list {
        println!("{}", listed(&device));
    } else {
        Args::command().print_help()?;
    }
    Ok(())
}
