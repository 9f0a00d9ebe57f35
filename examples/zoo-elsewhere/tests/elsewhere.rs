//! Each network, small, at a quarter, half and three quarters of its layers: pruning succeeds without a line of `Shrink`, the smaller
//! model's output is that of the original with the removed channels at zero, and no more than expected is left alone.

use burn::tensor::Device;
use zoo_elsewhere::measure::Measured;
use zoo_elsewhere::networks::Size;
use zoo_elsewhere::report::Report;

/// Prunes the networks whose name contains `name`, of which there are `count`.
fn prune(name: &str, count: usize) {
    let mut failed = Vec::new();
    for share in [0.25, 0.5, 0.75] {
        let report = Report::measure(Size::Small, share, Some(name), &Device::flex());
        assert_eq!(report.rows().len(), count);
        for (entry, row) in report.rows() {
            let wrong = match row {
                Ok(measured) => wrong(entry.name, measured),
                Err(message) => vec![message.clone()],
            };
            failed.extend(wrong.into_iter().map(|what| format!("{} at {share}: {what}", entry.name)));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// What is not as it should be.
fn wrong(network: &str, measured: &Measured) -> Vec<String> {
    let mut wrong = Vec::new();
    if !measured.exact() {
        wrong.push(format!("the outputs differ by {:e}", measured.difference));
    }
    if measured.parameters.1 >= measured.parameters.0 || measured.macs.1 >= measured.macs.0 {
        wrong.push("nothing was removed".to_string());
    }
    if measured.prunable < least_prunable(network) {
        let kept = measured.kept.iter().map(|kept| format!("\n  {} ({})", kept.path, kept.reason));
        wrong.push(format!("{} of the filters prunable: {}", measured.prunable, kept.collect::<String>()));
    }
    wrong
}

/// Share of filters that a plan must be able to remove. What is missing to 1: outputs, streams under layer normalisation, and what the
/// foreign code counts in fields or writes out (heads, groups, shapes).
fn least_prunable(network: &str) -> f64 {
    match network {
        "ResNet-18" | "ResNet-50" => 0.95,
        "Swin V2" => 0.8,
        "NanoChat" => 0.9,
        "Qwen3" => 1.0,
        // The cache holds keys and values of all layers in one tensor, which ties their heads to a stored number.
        "Qwen3, cached" => 0.5,
        "Whisper" | "Whisper, cached" => 0.3,
        "Silero VAD" => 0.95,
        "Parakeet" | "Nemotron diarisation" => 0.55,
        "Sortformer" => 0.4,
        "MobileNet-v2" => 0.1,
        "residual.onnx" => 0.6,
        "shuffle.onnx" => 0.3,
        "vit.onnx" | "encoder.onnx" => 0.4,
        _ => panic!("{network} has no entry"),
    }
}

#[test]
fn residual_networks() {
    prune("ResNet", 2);
}

#[test]
fn depthwise_blocks_whose_groups_cannot_be_set() {
    prune("MobileNet", 1);
}

#[test]
fn shifted_windows() {
    prune("Swin", 1);
}

#[test]
fn a_stream_under_a_normalisation_without_parameters() {
    prune("NanoChat", 1);
}

#[test]
fn grouped_queries_with_and_without_a_cache() {
    prune("Qwen3", 2);
}

#[test]
fn an_encoder_and_a_decoder_with_and_without_a_cache() {
    prune("Whisper", 2);
}

#[test]
fn a_fused_recurrent_cell() {
    prune("Silero", 1);
}

#[test]
fn a_conformer_and_a_transducer() {
    prune("Parakeet", 1);
}

#[test]
fn diarisation() {
    prune("Sortformer", 1);
    prune("Nemotron", 1);
}

#[test]
fn a_residual_network_from_onnx() {
    prune("residual.onnx", 1);
}

#[test]
fn channel_shuffles_from_onnx() {
    prune("shuffle.onnx", 1);
}

#[test]
fn a_vision_transformer_from_onnx() {
    prune("vit.onnx", 1);
}

#[test]
fn an_encoder_of_texts_from_onnx() {
    prune("encoder.onnx", 1);
}
