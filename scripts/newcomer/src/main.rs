//! `newcomer train FOLDER` trains, prunes, saves and exports; `newcomer load FOLDER` loads what another process saved and compares;
//! `newcomer onnx FOLDER` runs the .onnx file (feature `rten`).

mod data;
mod network;

use std::path::Path;
use std::time::{Duration, Instant};

use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{GradientsParams, SgdConfig};
use burn::prelude::*;
use burn_sfp::prelude::*;

use data::{TEST, batch, pass, top1};
use network::Net;

/// Images whose logits are compared between processes.
const COMPARED: usize = 12;
/// Images of an epoch.
const EPOCH: usize = 3000;

type Outcome = Result<(), DataError>;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [command, folder] = arguments.as_slice() else { return Err("newcomer train|load|onnx FOLDER".into()) };
    let folder = Path::new(folder);
    match command.as_str() {
        "train" => train_and_prune(folder),
        "load" => load(folder),
        #[cfg(feature = "rten")]
        "onnx" => onnx(folder),
        other => Err(format!("`{other}` is none of train, load and, with the feature rten, onnx").into()),
    }
}

/// Trains for at most 45 seconds and six epochs, as in any program that uses Burn.
fn train(device: &Device) -> Result<Net, DataError> {
    let mut model = Net::new(device).train();
    let (device, started) = (device.clone().autodiff(), Instant::now());
    let loss = CrossEntropyLossConfig::new().init(&device);
    let momentum = MomentumConfig::new().with_momentum(0.9).with_dampening(0.0).with_nesterov(true);
    let mut optimizer = SgdConfig::new().with_momentum(Some(momentum)).init();
    for epoch in 0..6 {
        for part in pass(epoch * EPOCH as u64, EPOCH, 50, &device) {
            let Batch { input, labels } = part?;
            let labels: Vec<i32> = labels.into_iter().map(|label| label as i32).collect();
            let targets = Tensor::<1, Int>::from_data(TensorData::from(labels.as_slice()), &device);
            let error = loss.forward(model.logits(input), targets);
            let gradients = GradientsParams::from_grads(error.backward(), &model);
            model = optimizer.step(0.02, model, gradients);
        }
        println!("epoch {}: {:.0} s", epoch + 1, started.elapsed().as_secs_f64());
        if started.elapsed() > Duration::from_secs(45) {
            break;
        }
    }
    Ok(model.valid())
}

fn train_and_prune(folder: &Path) -> Outcome {
    let device = Device::flex();
    device.seed(1);
    let model = train(&device)?;
    let before = top1(&model, &device);

    let Batch { input, labels } = batch(0, 600, &device);
    let calibration = TensorCalibration::new(input, labels, 100);
    let mut pruned =
        Pruner::new(&calibration).policy(SfpRanking::new()).budget(Keep::macs(0.5)).analyze_and_prune(&model)?;
    println!("{}\n{}", pruned.analysis, pruned.summary());
    let after = top1(&pruned.model, &device);

    let config = FineTuneConfig::new().with_epochs(3.0);
    let epoch = |epoch: usize| pass((6 + epoch as u64) * EPOCH as u64, EPOCH, 50, &device);
    pruned.model = fine_tune(pruned.model, &pruned.plan, epoch, EPOCH, &config, &NoProgress)?;
    let tuned = top1(&pruned.model, &device);

    let totals = pruned.plan.totals();
    println!(
        "top-1 {before:.3}, pruned {after:.3}, fine-tuned {tuned:.3}; MACs {} -> {}",
        totals.macs_before, totals.macs_after
    );
    ensure(2 * totals.macs_after <= totals.macs_before, "more than half of the multiply-adds is left")?;
    ensure(totals.macs_after * 3 > totals.macs_before, "far more was removed than asked for")?;
    ensure(before > 0.8, "the network did not learn")?;
    ensure(tuned > before - 0.1, "fine-tuning did not bring the accuracy back")?;

    let images = batch(TEST, COMPARED, &device).input;
    write(&folder.join("images.f32"), &images.clone().into_data())?;
    write(&folder.join("logits.f32"), &pruned.model.logits(images.clone()).into_data())?;
    pruned.save(folder.join("net.safetensors"))?;
    pruned.export_onnx(folder.join("net.onnx"), &images)?;
    Ok(())
}

fn load(folder: &Path) -> Outcome {
    let device = Device::flex();
    let loaded = load_pruned(Net::new(&device), folder.join("net.safetensors"))?;
    let images = Tensor::from_data(TensorData::new(read(&folder.join("images.f32"))?, [COMPARED, 1, 16, 16]), &device);
    let found: Vec<f32> = loaded.model.logits(images).into_data().iter::<f32>().collect();
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<u32>>();
    ensure(bits(&found) == bits(&read(&folder.join("logits.f32"))?), "the loaded network computes other bits")?;
    println!("{} logits, all the same bits", found.len());
    println!("top-1 {:.3}", top1(&loaded.model, &device));
    Ok(())
}

#[cfg(feature = "rten")]
fn onnx(folder: &Path) -> Outcome {
    let images = read(&folder.join("images.f32"))?;
    let expected = read(&folder.join("logits.f32"))?;
    let net = rten::Model::load(std::fs::read(folder.join("net.onnx"))?)?;
    let mut found = Vec::new();
    // Batches of two sizes: the batch axis is dynamic.
    for part in [&images[..5 * 256], &images[5 * 256..]] {
        let input = rten::Value::from_shape([part.len() / 256, 1, 16, 16], part.to_vec())
            .map_err(|_| "the shape of the images")?;
        for value in net.run(vec![(net.input_ids()[0], input.into())], net.output_ids(), None)? {
            let rten::Value::FloatTensor(logits) = value else { return Err("the logits are no floats".into()) };
            found.extend(logits.into_data());
        }
    }
    ensure(found.len() == expected.len(), "another number of logits")?;
    let largest = expected.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
    let difference = found.iter().zip(&expected).fold(0.0, |most: f32, (a, b)| most.max((a - b).abs())) / largest;
    println!("rten: largest difference {difference:.1e} of the largest logit");
    ensure(difference < 1e-4, "the ONNX file computes something else")
}

fn ensure(holds: bool, otherwise: &str) -> Outcome {
    if holds { Ok(()) } else { Err(otherwise.into()) }
}

fn write(path: &Path, data: &TensorData) -> Outcome {
    Ok(std::fs::write(path, data.iter::<f32>().flat_map(f32::to_le_bytes).collect::<Vec<u8>>())?)
}

fn read(path: &Path) -> Result<Vec<f32>, DataError> {
    let bytes = std::fs::read(path)?;
    Ok(bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect())
}
