//! Every small network of the zoo as an .onnx file, whole and without half of every layer's channels: which are exported, which are refused
//! by which error, that the files compute what the networks compute, and that they shrink as the networks do.

#[path = "../../../crates/burn-sfp-prune/tests/onnx/run.rs"]
mod run;

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use burn_sfp::prelude::*;
use models::random::randomise;
use models::zoo::{Entry, SMALL_BATCH, Size, Visit, visit_all};
use run::{check_in_python, difference, save_case};
use tempfile::TempDir;

/// Networks that are exported.
const EXPORTED: [&str; 9] = [
    "VGG-11",
    "VGG-16",
    "ResNet-18",
    "ResNet-50",
    "ResNeXt-50 32x4d",
    "PreAct ResNet-18",
    "DenseNet-121",
    "GoogLeNet",
    "EfficientNet-B0",
];

/// Networks that are refused, the operation, and its layer, or the one before it.
const REFUSED: [(&str, &str, &str); 12] = [
    ("MobileNetV2", "Clamp", "stem.conv"),
    ("ShuffleNetV2 x1.0", "SwapDims", "units.0.Down.point.conv"),
    ("ConvNeXt-T", "Permute", "stem"),
    ("ViT-S/16", "SwapDims", "patches"),
    ("CCT-14/7x2", "SwapDims", "tokenizer.1"),
    ("CCT-7/3x1", "SwapDims", "tokenizer.0"),
    ("Mixer-S/16", "SwapDims", "patches"),
    // The mask over later tokens, before any layer.
    ("GPT-2 small", "LowerElem", ""),
    ("U-Net", "ConvTranspose2d", "up.0.upsample"),
    ("M5", "MaxPool1d", "groups.0.0.conv"),
    ("M11", "MaxPool1d", "groups.0.0.conv"),
    ("two streams", "ConvTranspose2d", "up.0"),
];

struct Export {
    folder: TempDir,
    files: Vec<PathBuf>,
    exported: Vec<&'static str>,
    refused: Vec<(&'static str, String, String)>,
    off: f64,
}

impl Visit for Export {
    fn visit<M: GraphModule>(&mut self, entry: &Entry, model: M, input: M::Inputs) {
        let name = entry.name;
        let model = randomise(&model, 7);
        let planner = Planner::new().budget(Budget::PerLayer(0.5));
        let pruned = planner.prune(&model, &input, &Magnitude::l2()).unwrap();
        let path = |kind: &str| self.folder.path().join(format!("{}-{kind}.onnx", name.replace(['/', ' ', '.'], "_")));
        let (whole, smaller) = (path("whole"), path("pruned"));
        let results = [export_onnx(&model, &input, &whole, &OnnxConfig::new()), pruned.export_onnx(&smaller, &input)];
        match results {
            [Ok(()), Ok(())] => self.exported.push(name),
            [Err(PruneError::Onnx(OnnxError::Unsupported { name: operation, of, after, .. })), Err(_)] => {
                self.refused.push((name, operation, of.or(after).unwrap_or_default()));
                return;
            }
            other => panic!("{name}: {other:?}"),
        }
        for (case, samples) in [1, SMALL_BATCH].into_iter().enumerate() {
            let input = input.clone().slice_samples(0, samples);
            let expected = pruned.model.run(input.clone());
            save_case(&smaller, case, input.clone(), expected.clone());
            let off = difference(&smaller, input, expected);
            assert!(off < 1e-4, "{name}, {samples} samples: {off}");
            self.off = self.off.max(off);
        }
        // Numbers of 4 bytes, and what describes the operations, which stays.
        let bytes = |path: &Path| std::fs::metadata(path).unwrap().len() as f64;
        let (before, after) = (bytes(&whole), bytes(&smaller));
        let numbers = |model: &M| 4.0 * model.num_params() as f64;
        let (gone, expected) = (before - after, numbers(&model) - numbers(&pruned.model));
        assert!((gone - expected).abs() < 0.002 * expected + 64.0, "{name}: {gone} bytes less, expected {expected}");
        println!(
            "{name}: {:.1} % of the bytes, {:.1} % of the numbers",
            100.0 * after / before,
            100.0 * numbers(&pruned.model) / numbers(&model)
        );
        self.files.push(smaller);
    }
}

#[test]
fn the_zoo() {
    let folder = tempfile::tempdir().unwrap();
    let mut export = Export { folder, files: Vec::new(), exported: Vec::new(), refused: Vec::new(), off: 0.0 };
    visit_all(Size::Small, &Device::flex(), &mut export);
    println!("largest difference in rten: {:.1e}", export.off);
    let refused: Vec<(&str, &str, &str)> =
        export.refused.iter().map(|(name, operation, after)| (*name, operation.as_str(), after.as_str())).collect();
    assert_eq!(export.exported, EXPORTED);
    assert_eq!(refused, REFUSED);
    let files: Vec<&Path> = export.files.iter().map(PathBuf::as_path).collect();
    check_in_python(&files, 1e-4);
}

/// Bytes of the file, and of the numbers in it, of each exported network in its published size.
struct Published(TempDir, Vec<&'static str>);

impl Visit for Published {
    fn visit<M: GraphModule>(&mut self, entry: &Entry, model: M, input: M::Inputs) {
        if !EXPORTED.contains(&entry.name) {
            return;
        }
        let budget = Keep::macs(0.5).order(RemovalOrder::EvenPerGroup);
        let pruned = Planner::new().budget(budget).prune(&model, &input, &Magnitude::l2()).unwrap();
        let (whole, smaller) = (self.0.path().join("whole.onnx"), self.0.path().join("pruned.onnx"));
        export_onnx(&model, &input, &whole, &OnnxConfig::new()).unwrap();
        pruned.export_onnx(&smaller, &input).unwrap();
        let bytes = |path: &Path| std::fs::metadata(path).unwrap().len() as f64;
        let ratios = [bytes(&smaller) / bytes(&whole), pruned.model.num_params() as f64 / model.num_params() as f64];
        println!("{}: {:.4} of the bytes, {:.4} of the numbers", entry.name, ratios[0], ratios[1]);
        assert!((ratios[0] / ratios[1] - 1.0).abs() < 0.02, "{}: {ratios:?}", entry.name);
        self.1.push(entry.name);
    }
}

#[test]
#[ignore = "takes minutes and gigabytes; run by hand"]
fn published_sizes_take_bytes_as_parameters() {
    let mut published = Published(tempfile::tempdir().unwrap(), Vec::new());
    visit_all(Size::Standard, &Device::flex(), &mut published);
    assert_eq!(published.1, EXPORTED);
}
