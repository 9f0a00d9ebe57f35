//! What each step of the recovery without training brings back.

use std::time::Instant;

use burn::prelude::*;
use burn_sfp::prelude::*;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};

use crate::train::top1;

/// The recoveries that are compared, by name.
fn candidates() -> Vec<(&'static str, Recover)> {
    use RecoveryStep::{LeastSquares, Means, Statistics};
    vec![
        ("statistics", Recover::only([Statistics])),
        ("means", Recover::only([Means])),
        ("least squares", Recover::only([LeastSquares])),
        ("means, statistics", Recover::only([Means, Statistics])),
        ("least squares, statistics (default)", Recover::new()),
        ("the same, ridge 1e-2", Recover::new().ridge(1e-2)),
        ("the same, ridge 1e-4", Recover::new().ridge(1e-4)),
        ("the same, ridge 1e-3 of the weights", Recover::new().ridge_of_weights(1e-3)),
        ("the same, 100 patches a batch", Recover::new().patches(100)),
        ("the same, 2048 patches a batch", Recover::new().patches(2048)),
    ]
}

/// Recovers a pruned model in several ways and measures each.
///
/// # Errors
/// Those of [`recover`], and of reading the test images.
pub fn compare<M: SfpModule<Inputs = Tensor<4>>>(
    original: &M,
    pruned: &M,
    plan: &PrunePlan,
    calibration: &impl Calibration<Tensor<4>>,
    test: &impl Calibration<Tensor<4>>,
) -> Result<Table, DataError> {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED);
    table.set_header(["recovery without training", "top-1", "seconds"]);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.add_row(["none".to_string(), format!("{:.2} %", 100.0 * top1(pruned, test)?), String::new()]);
    for (name, config) in candidates() {
        let clock = Instant::now();
        let recovered = recover(original, pruned, plan, calibration, &config, &Bars::new("recovery"))?;
        let seconds = clock.elapsed().as_secs_f64();
        let top1 = 100.0 * top1(&recovered.model, test)?;
        table.add_row([name.to_string(), format!("{top1:.2} %"), format!("{seconds:.1}")]);
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    use crate::glyphs::GlyphSet;
    use crate::model::VggConfig;
    use crate::train::{TrainConfig, train};

    #[test]
    fn half_of_the_loss_comes_back_by_default() {
        let (device, set) = (Device::flex(), GlyphSet::new(1));
        let config = TrainConfig::new().with_epochs(3).with_samples(2400).with_batch_size(48);
        let start = VggConfig::new().with_widths(vec![8, 8, 16, 16]).init(&device);
        let vgg = train(start, &set, &config, &device, &NoProgress).unwrap();
        let (calibration, test) = (set.calibration(960, 96, &device), set.test(480, 96, &device));
        let pruned = Pruner::new(&calibration).policy(SfpRanking::new()).ratio(0.5).analyze_and_prune(&vgg).unwrap();
        let left = pruned.plan.apply(&vgg).unwrap();
        let [before, left, after] = [&vgg, &left, &pruned.model].map(|model| top1(model, &test).unwrap());
        assert!(before > 0.5, "{before}");
        assert!(before - left > 0.2, "{before} {left}");
        assert!(after - left > 0.5 * (before - left), "{before} {left} {after}");
    }
}
