//! Modules that cannot be cut are refused, not trained wrongly.

use burn_sfp_core::NoProgress;
use burn_sfp_graph::GraphError;
use burn_sfp_prune::{FineTune, PruneError, StorePrecision, fine_tune, fine_tune_stored};

use crate::networks::{Hidden, Odd};
use crate::*;

#[test]
fn what_a_recorded_pass_does_not_show() {
    let _alone = alone();
    for (hides, layers, text) in [
        (Hidden::Detached, &["hidden"][..], "gradient"),
        (Hidden::Mixed, &["hidden"], "other samples"),
        (Hidden::Nothing, &["hidden"], ""),
        (Hidden::Branch, &["hidden", "side"], "the logits"),
    ] {
        let made = pruned(&Odd::new(hides), layers);
        let config = config().with_all_layers(false);
        let store = store().precision(StorePrecision::Float32);
        let stored = fine_tune_stored(made.model.clone(), &made.plan, pass, SAMPLES, &store, &config, &NoProgress);
        let recorded = FineTune::new(&made.plan).config(config.clone()).recorded(true);
        let recorded = recorded.run(made.model.clone(), epoch(7, 3), SAMPLES, &NoProgress);
        match recorded {
            // A batch is as it was, so that it may be mixed.
            Ok(_) => assert!(matches!(hides, Hidden::Nothing | Hidden::Mixed), "{hides:?}"),
            Err(error) => assert!(matches!(error, PruneError::NotByRecordedPass { .. }), "{hides:?}: {error}"),
        }
        if text.is_empty() {
            let whole = fine_tune(made.model.clone(), &made.plan, epoch(7, 3), SAMPLES, &config, &NoProgress).unwrap();
            let (off, path) = apart(&stored.unwrap(), &whole);
            assert!(off < 1e-4, "{hides:?}: {path} is {off} apart");
            continue;
        }
        let error = stored.unwrap_err();
        assert!(matches!(error, PruneError::NotByRecordedPass { .. }), "{hides:?}: {error}");
        assert!(error.to_string().contains(text) && error.to_string().contains("`fine_tune`"), "{hides:?}: {error}");
    }
}

#[test]
fn samples_on_another_axis() {
    let _alone = alone();
    let made = pruned(&Odd::new(Hidden::Turned), &["hidden"]);
    let whole = fine_tune(made.model.clone(), &made.plan, epoch(7, 3), SAMPLES, &config(), &NoProgress).unwrap();
    let store = store().precision(StorePrecision::Float32);
    let error = match fine_tune_stored(made.model, &made.plan, pass, SAMPLES, &store, &config(), &NoProgress) {
        Ok(stored) => return assert!(apart(&stored, &whole).0 < 1e-4),
        Err(error) => error.to_string(),
    };
    assert!(error.contains("first axis") && error.contains("`fine_tune`"), "{error}");
}

#[test]
fn an_operation_that_is_not_known() {
    let _alone = alone();
    let made = pruned(&Odd::new(Hidden::Sorted), &["hidden"]);
    let error = fine_tune_stored(made.model, &made.plan, pass, SAMPLES, &store(), &config(), &NoProgress).unwrap_err();
    assert!(matches!(error, PruneError::Graph(GraphError::NotTrainable { .. })), "{error}");
    for text in ["Sort", "`side`", "`fine_tune`"] {
        assert!(error.to_string().contains(text), "`{text}` is not in: {error}");
    }
}
