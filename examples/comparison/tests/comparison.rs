//! The comparisons on a few images and narrow networks.

use burn::prelude::Device;
use burn_sfp::prelude::{GraphModule, Magnitude, NoProgress, Planner};
use comparison::networks::Size;
use comparison::policies::{self, Args, Family, Order, PolicyRow, contenders};
use comparison::{depth, latency, planning, resnet18};
use quickstart::glyphs::GlyphSet;
use quickstart::train::TrainConfig;
use serde_json::Value;
use support::read_rows;

#[test]
fn policies_are_measured_once_and_the_table_has_a_line_for_each() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("results.json");
    let only = ["sfp-ranking", "sfp-ranking * taylor, sum", "random"].map(String::from);
    let args = |keep: &[f64], seeds: &[u64]| Args {
        file: file.clone(),
        seeds: seeds.to_vec(),
        keep: keep.to_vec(),
        samples: 96,
        epochs: 1,
        images: 48,
        order: Order::Global,
        only: only.to_vec(),
        trained: Some(folder.path().join("trained")),
    };
    let run = |args: &Args| policies::run(args, &Device::flex(), &NoProgress).unwrap();
    let rows = || read_rows::<PolicyRow>(&file, "policies").unwrap();

    run(&args(&[0.5], &[1]));
    let first = rows();
    assert_eq!(first.len(), 3);
    for row in &first {
        assert_eq!(row.family, if row.policy == "random" { Family::Other } else { Family::Sfp });
        assert!(row.macs_got <= 0.5 && row.macs_got > 0.45, "{row:?}");
        assert!([row.top1_before, row.top1_pruned, row.top1_after].iter().all(|top1| (0.0..=1.0).contains(top1)));
    }

    // Rows that are there stay as they are; the others are added.
    let table = run(&args(&[0.7, 0.5], &[1, 2]));
    let all = rows();
    assert_eq!((&all[..3], all.len()), (&first[..], 12));
    assert!(all[3..].iter().any(|row| (row.seed, row.macs_kept) == (1, 0.7)));
    assert!(all[3..].iter().filter(|row| row.seed == 1).all(|row| row.top1_before == first[0].top1_before));
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[0].matches('|').count(), 7, "{table}");
    assert!(lines[0].contains("70 % kept") && lines[0].contains("50 % kept"), "{table}");
    assert_eq!(lines.iter().filter(|line| line.matches('±').count() == 4).count(), 3, "{table}");
    assert!(table.ends_with("2 seeds"), "{table}");

    // Nothing is left to do, and other settings are other rows.
    assert_eq!(run(&args(&[0.7, 0.5], &[1, 2])), table);
    let mut even = args(&[0.5], &[1]);
    (even.order, even.only) = (Order::Even, vec!["random".into()]);
    run(&even);
    assert_eq!((&rows()[..12], rows().len()), (&all[..], 13));
    even.only = vec!["nonsense".into()];
    let error = policies::run(&even, &Device::flex(), &NoProgress).unwrap_err().to_string();
    assert!(error.contains("`nonsense`") && error.contains("label-cover-3"), "{error}");
}

#[test]
fn names_are_different() {
    let names: std::collections::BTreeSet<String> = contenders(1).iter().map(|contender| contender.name()).collect();
    assert_eq!(names.len(), contenders(1).len());
}

#[test]
fn latency_is_compared_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("results.json");
    std::fs::write(&file, r#"{"budgets": [{"unit": "macs"}, {"unit": "latency_b1"}]}"#).unwrap();
    let table = latency::run(Size::Small, 3, Some(&file), &Device::flex(), &NoProgress).unwrap();
    let rows = read_rows::<Value>(&file, "budgets").unwrap();
    assert_eq!((rows.len(), rows[0]["unit"].as_str()), (10, Some("macs")), "{table}");
    for (index, row) in rows[1..].iter().enumerate() {
        assert_eq!(row["chosen_by"].as_str(), Some(["latency", "macs", "macs_score"][index % 3]));
        if row.get("error").is_none() {
            let kept = row["importance_kept"].as_f64().unwrap();
            assert!((0.0..=1.0).contains(&kept) && row["got"].as_f64().unwrap() > 0.0, "{row}");
        }
    }
    assert_eq!(table.lines().count(), 2 + 9);
}

#[test]
fn planning_is_measured_for_every_budget() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("results.json");
    let table = planning::run(Size::Small, 1, Some(&file), &Device::flex(), &NoProgress).unwrap();
    let rows = read_rows::<Value>(&file, "planning").unwrap();
    assert_eq!((rows.len(), table.lines().count()), (3 * 14, 2 + 3 * 14));
    for row in &rows {
        let [seconds, pass, ratio] = ["seconds", "pass_seconds", "ratio"].map(|key| row[key].as_f64().unwrap());
        assert!(seconds > 0.0 && pass > 0.0 && (ratio - seconds / pass).abs() < 1e-9, "{row}");
    }
}

#[test]
fn a_residual_network_trains_on_the_quickstarts_images() {
    let device = Device::flex();
    let config = TrainConfig::new().with_epochs(1).with_samples(64);
    let model = resnet18::trained(3, 0.125, &config, &device, &NoProgress).unwrap();
    let images = GlyphSet::new(3).batch(0..4, &device).input;
    let logits = model.run(images.clone());
    assert_eq!((logits.dims(), model.stem.norm.gamma.dims()), ([4, 24], [8]));
    assert!(logits.into_data().iter::<f32>().all(f32::is_finite));
    // Batch normalisations have seen images.
    assert!(model.stem.norm.running_mean.value().into_data().iter::<f32>().any(|mean| mean != 0.0));
    let smaller = Planner::new().prune(&model, &images, &Magnitude::l2()).unwrap().model;
    assert_eq!(smaller.stem.norm.gamma.dims(), [4]);
}

#[test]
fn blocks_and_channels_leave_at_the_same_cost() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("results.json");
    let args =
        depth::Args { file: file.clone(), seeds: vec![1], width: 0.125, most: 2, samples: 48, epochs: 1, images: 48 };
    let table = depth::run(&args, &Device::flex(), &NoProgress).unwrap();
    let rows = read_rows::<depth::DepthRow>(&file, "depth").unwrap();
    assert_eq!(rows.len(), 2 * 3);
    for same in rows.chunks(3) {
        let (width, blocks, both) = (&same[0], &same[1], &same[2]);
        assert_eq!((blocks.left_out.len(), width.left_out.len()), (blocks.blocks, 0));
        // At most what is left without the blocks.
        assert!(width.macs_got <= blocks.macs_got && both.macs_got <= blocks.macs_got, "{same:?}");
    }
    assert_eq!(table.lines().filter(|line| line.matches('±').count() == 6).count(), 2, "{table}");
    // Nothing is left to do.
    assert_eq!(depth::run(&args, &Device::flex(), &NoProgress).unwrap(), table);
}
