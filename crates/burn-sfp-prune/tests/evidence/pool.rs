//! What many devices sum is what one sums.

use burn::tensor::Device;
use burn_sfp_core::{AnalyzeConfig, DevicePool, InputGram, NoProgress};
use burn_sfp_prune::{
    ActivationMean, Evidence, Needs, PruneError, Pruner, RankingPolicy, ReconstructionError, SfpRanking, Taylor,
};

use super::small::Small;
use super::{close, data};
use crate::graph::inspect::bytes;

fn pool(devices: usize) -> DevicePool {
    DevicePool::new((0..devices).map(|_| Device::flex())).chunk(1)
}

fn needs() -> Needs {
    ActivationMean::new().needs().and(Taylor::new().needs()).and(ReconstructionError::new().needs())
}

/// Everything that was summed, as text.
fn written(evidence: &Evidence) -> String {
    let Evidence { samples, outputs, inputs, filter_gradients, parameter_gradients, .. } = evidence;
    let inputs: Vec<(&String, &InputGram)> = inputs.iter().collect();
    format!("{samples} {outputs:?} {inputs:?} {filter_gradients:?} {parameter_gradients:?}")
}

#[test]
fn one_two_and_four_devices_agree() {
    let model = Small::with_filters(3, true, 6);
    let on = |devices| Evidence::gather_on(&model, &data(), needs(), &pool(devices), &NoProgress).unwrap();
    let (one, plain) = (on(1), Evidence::gather(&model, &data(), needs(), &NoProgress).unwrap());
    assert_eq!(written(&on(2)), written(&one));
    assert_eq!(written(&on(4)), written(&one));
    // A sum in another order.
    assert_eq!((one.samples, one.gathered()), (plain.samples, plain.gathered()));
    assert_eq!(one.outputs.len(), plain.outputs.len());
    for (path, expected) in &plain.outputs {
        close(&one.outputs[path].mean_absolute, &expected.mean_absolute, 1e-12);
        assert_eq!(one.outputs[path].zeros, expected.zeros);
    }
    assert_eq!(one.parameter_gradients.len(), plain.parameter_gradients.len());
    for (path, expected) in &plain.parameter_gradients {
        close(&one.parameter_gradients[path].fisher, &expected.fisher, 1e-12);
    }
    for (path, expected) in &plain.filter_gradients {
        close(&one.filter_gradients[path].whole, &expected.whole, 1e-12);
    }
    // All batches in one chunk are summed as without a pool.
    let whole = Evidence::gather_on(&model, &data(), needs(), &pool(2).chunk(100), &NoProgress).unwrap();
    assert_eq!(written(&whole), written(&plain));
}

#[test]
fn a_pruner_shares_its_passes() {
    let model = Small::with_filters(3, true, 6);
    let data = data();
    let prune = |devices: Option<usize>| {
        let pruner = Pruner::new(&data).policy(Taylor::new()).config(AnalyzeConfig::new().with_threshold(0.4));
        let pruner = match devices {
            Some(devices) => pruner.devices(pool(devices)),
            None => pruner,
        };
        pruner.analyze_and_prune(&model).unwrap()
    };
    let (plain, one, three) = (prune(None), prune(Some(1)), prune(Some(3)));
    assert_eq!(one.plan, plain.plan);
    assert_eq!(three.plan, plain.plan);
    assert_eq!(bytes(&one.model), bytes(&three.model));
    assert_eq!(bytes(&one.model), bytes(&plain.model));
}

#[test]
fn a_pool_without_devices_is_refused() {
    let model = Small::with_filters(3, true, 6);
    let refused = |error: PruneError| assert!(matches!(error, PruneError::Config(_)), "{error}");
    refused(Evidence::gather_on(&model, &data(), needs(), &pool(0), &NoProgress).unwrap_err());
    refused(Evidence::gather_on(&model, &data(), Taylor::new().needs(), &pool(0), &NoProgress).unwrap_err());
    let data = data();
    refused(Pruner::new(&data).policy(SfpRanking::new()).devices(pool(0)).analyze_and_prune(&model).unwrap_err());
}
