//! The paper's experiment: every policy at the same shares, a row each.

use std::process::ExitCode;

use clap::Parser;
use vgg11_cifar100::experiment::{Args, run};

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(table) => {
            println!("{table}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
