//! Prunes a VGG-11 trained on CIFAR-100, measures it and writes analysis, plan, report and weights.

use std::process::ExitCode;

use clap::Parser;
use vgg11_cifar100::options::Options;
use vgg11_cifar100::run::run;

fn main() -> ExitCode {
    let options = Options::parse();
    let Some(data) = options.data.clone() else {
        eprintln!(
            "Get the binary version of CIFAR-100 from https://www.cs.toronto.edu/~kriz/cifar.html, unpack it, and name \
             the folder that holds train.bin and test.bin with --data DIR."
        );
        return ExitCode::from(2);
    };
    match run(&options, &data) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
