//! Reconstruction in label fields.

use burn_sfp_core::{Analysis, AnalyzeConfig, Pursuit, SfpError, analyze};
use burn_sfp_prune::{Needs, PruneError, RankingPolicy, ReconstructionConnections, Spread};

use super::net::{Known, LAYERS, Net, SIDE, bits, calibration, highest, images, values};

/// For each output of the second convolution what its error counts, from the definition; the classifier is its readout.
fn weights(net: &Net, analysis: &Analysis, is_plain: bool) -> Vec<f64> {
    let of = |data: burn::tensor::TensorData| data.iter::<f64>().collect::<Vec<f64>>();
    let gamma = of(net.second_norm.gamma.val().into_data());
    let variance = of(net.second_norm.running_var.value().into_data());
    let [_, _, made] = net.around_second(images());
    let (made, readout) = (values(&made), of(net.fc.weight.val().into_data()));
    let found = analysis.layer("second").unwrap();
    let positions = SIDE * SIDE;
    let of_output = |f: usize| {
        let scale = gamma[f].powi(2) / (variance[f] + net.second_norm.epsilon);
        if is_plain {
            return scale;
        }
        let all = made.iter().flat_map(|sample| &sample[f]);
        let passed = all.clone().filter(|value| **value != 0.0).count() as f64 / all.count() as f64;
        let labels = found.performance[f].labels();
        let square = |(s, j): (usize, &usize)| readout[(f * positions + s) * 3 + j].powi(2);
        let seen: f64 = (0..positions).flat_map(|s| labels.iter().map(move |j| (s, j))).map(square).sum();
        assert!((found.performance[f].label_weight - seen).abs() < 1e-9);
        scale * passed * seen
    };
    (0..gamma.len()).map(of_output).collect()
}

#[test]
fn outputs_are_weighed_as_their_labels_see_them() {
    for seed in [11, 12, 13] {
        let net = Net::new([6, 9], seed);
        let known = Known::of(&net);
        assert!(known.analysis.layer("second").unwrap().performance.iter().any(|filter| !filter.is_silent()));
        for is_plain in [false, true] {
            let weights = weights(&net, &known.analysis, is_plain);
            let policy = ReconstructionConnections::new().layers(["second"]).removing(0.7);
            let policy = if is_plain { policy.spread(Spread::PerLayer) } else { policy.in_label_fields() };
            let mask = &known.rank(&policy).unwrap()["second"];
            let kernels = known.kernels("second");
            // 0.3 of 6 inputs, rounded, are searched twice over.
            let ask = Pursuit { count: 4, ridge: 1e-3, centered: true, first: None };
            let gram = &known.evidence.inputs["second"];
            let found = gram.pursue("second", 9, &|output, input| &kernels[output][input], &ask).unwrap().unwrap();
            let scores: Vec<f64> = found
                .iter()
                .zip(&weights)
                .flat_map(|(found, weight)| found.gains.iter().map(move |g| g * weight))
                .collect();
            assert_eq!(bits(mask), highest(&scores, &[true; 54], 54 - 38), "seed {seed}");
        }
    }
}

#[test]
fn outputs_without_labels_lose_their_connections_first() {
    let net = Net::new([6, 9], 21);
    let mut known = Known::of(&net);
    let second = known.analysis.layers.iter_mut().find(|layer| layer.path == "second").unwrap();
    let silent = second.performance.iter().position(|filter| !filter.is_silent()).unwrap();
    second.performance[silent].label_weight = 0.0;
    let seen = second.performance.iter().filter(|filter| filter.label_weight > 0.0).count();
    assert!(seen >= 2);
    // Twelve stay, which those outputs have.
    let policy = ReconstructionConnections::new().layers(["second"]).removing(42.0 / 54.0).in_label_fields();
    let mask = &known.rank(&policy).unwrap()["second"];
    assert!((0..6).all(|input| !mask.keeps(silent, input)));
    // Every output keeps its number where that is asked for.
    let mask = &known.rank(&policy.removing(0.5).spread(Spread::PerOutput)).unwrap()["second"];
    assert!((0..9).all(|output| (0..6).filter(|&input| mask.keeps(output, input)).count() == 3));
}

#[test]
fn what_is_not_known_is_named() {
    let net = Net::new([6, 9], 22);
    let mut known = Known::of(&net);
    let policy = || ReconstructionConnections::new().in_label_fields();
    assert_eq!(policy().layers(["second"]).needs(), Needs::none().inputs_of(4608, ["second"]).outputs());
    // Files of before have no such sums.
    let second = known.analysis.layers.iter_mut().find(|layer| layer.path == "second").unwrap();
    second.performance.iter_mut().for_each(|filter| filter.label_weight = 0.0);
    let error = known.rank(&policy().layers(["second"])).unwrap_err();
    assert!(matches!(&error, PruneError::NotAnalyzed { path, .. } if path == "second"), "{error}");
    assert_eq!(known.rank(&policy()).unwrap().keys().collect::<Vec<_>>(), ["fc"]);
    known.analysis.layers.retain(|layer| layer.path != "second");
    let error = known.rank(&policy().layers(LAYERS)).unwrap_err();
    assert!(matches!(&error, PruneError::NotAnalyzed { needed, .. } if needed == "second"), "{error}");
}

#[test]
fn another_threshold_is_another_analysis() {
    let net = Net::new([6, 9], 23);
    let known = Known::of(&net);
    for threshold in [0.2, 0.4, 0.7] {
        let config = AnalyzeConfig::new().with_threshold(threshold);
        let expected = analyze(&net, &calibration(), &config).unwrap();
        let found = known.analysis.at_threshold(threshold).unwrap();
        found.check().unwrap();
        assert_eq!(found.threshold, threshold);
        for (found, expected) in found.layers.iter().zip(&expected.layers) {
            assert_eq!((&found.performance, &found.summary), (&expected.performance, &expected.summary));
        }
        assert!(matches!(found.at_threshold(0.3), Err(SfpError::NoState { .. })));
    }
    for wrong in [0.0, 1.0, f64::NAN] {
        assert!(matches!(known.analysis.at_threshold(wrong), Err(SfpError::Config(_))));
    }
}
