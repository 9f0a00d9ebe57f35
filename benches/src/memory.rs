//! Peak memory of an analysis: it must not grow with the number of samples.
//!
//! Each number comes from a process of its own: this program calls itself.

use std::process::Command;

use burn::tensor::Device;
use burn_sfp::prelude::{AnalyzeConfig, analyze};
use quickstart::glyphs::GlyphSet;
use quickstart::model::VggConfig;

use crate::Result;
use crate::measure::{Kind, Pairs, Row, Unit};
use crate::subject::{BATCH, Session};

/// Name of the row.
pub const NAME: &str = "peak_memory_samples";
/// What it measures.
pub const ABOUT: &str = "peak resident memory of an analysis of the quickstart's network with 10,000 samples over that \
                         with 1,000; at most 1.05";

const MANY: usize = 10_000;
const FEW: usize = 1_000;

/// Measures the row.
///
/// # Errors
/// A child that fails, a system without `/proc`.
pub fn run(session: &Session) -> Result<Row> {
    let peak_of = |samples: usize| peak_in_child("--child-peak-memory", &[&samples.to_string()]);
    let pairs = Pairs::in_turn(session.pairs, || peak_of(MANY), || peak_of(FEW))?;
    let note = format!(
        "MiB, not seconds: peak resident size (VmHWM) of a process that analyses {MANY} drawn letters over one that \
         analyses {FEW}: quickstart's VGG, untrained, default readouts, batch {BATCH}, flex; wanted: at most 1.05"
    );
    Ok(pairs.row(NAME, Kind::Cost, Unit::Mebibytes, note))
}

/// The child's part: one analysis, then its peak.
///
/// # Errors
/// As the analysis, and a system without `/proc`.
pub fn child(samples: usize) -> Result<()> {
    let device = Device::flex();
    device.seed(1);
    let model = VggConfig::new().init(&device);
    let analysis = analyze(&model, &GlyphSet::new(1).calibration(samples, BATCH, &device), &AnalyzeConfig::new())?;
    assert_eq!(analysis.samples, samples as u64);
    print_peak()
}

/// Prints this process's peak in KiB on the standard output: the last thing that a child does.
///
/// # Errors
/// A system without `/proc`.
pub fn print_peak() -> Result<()> {
    let status = std::fs::read_to_string("/proc/self/status")
        .map_err(|error| format!("/proc/self/status: {error}; peak memory is measured on Linux alone"))?;
    println!("{}", peak(&status).ok_or("/proc/self/status has no VmHWM")?);
    Ok(())
}

/// Peak in MiB of this program with an option that makes it a child.
///
/// # Errors
/// A child that fails.
pub fn peak_in_child(option: &str, values: &[&str]) -> Result<f64> {
    let child = Command::new(std::env::current_exe()?).arg(option).args(values).output()?;
    if !child.status.success() {
        return Err(format!("{option} {values:?}: {}", String::from_utf8_lossy(&child.stderr)).into());
    }
    Ok(String::from_utf8_lossy(&child.stdout).trim().parse::<f64>()? / 1024.0)
}

/// KiB of the line `VmHWM:   12345 kB`.
fn peak(status: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_found() {
        assert_eq!(peak("Name:\tx\nVmHWM:\t  2048 kB\nVmRSS:\t 1 kB\n"), Some(2048));
        assert_eq!(peak("VmRSS:\t 1 kB\n"), None);
    }
}
