//! What an error of each output of a layer counts for what follows.

use burn_sfp_graph::{Layer, Network};

use super::context::PolicyContext;
use crate::PruneError;
use crate::evidence::Needs;

/// For each output of a layer the square of what a batch normalisation directly behind multiplies it by, `gamma^2 / (sigma^2 + epsilon)`; 1
/// without one.
pub(super) fn behind_norm(network: &Network, layer: &Layer) -> Vec<f64> {
    squared_scales(network, layer).unwrap_or_else(|| vec![1.0; layer.filters])
}

fn squared_scales(network: &Network, layer: &Layer) -> Option<Vec<f64>> {
    // Behind a linear layer on tokens, Burn's normalisation scales the tokens.
    let by_filter = !layer.kind.is_linear() || layer.tap.shape.len() == 2;
    let mean = layer.running_mean.filter(|_| by_filter)?;
    let norm = network.batch_norms().into_iter().find(|norm| norm.mean == mean)?;
    let values = |parameter: usize| -> Option<Vec<f64>> {
        let data = network.parameter_data_at(parameter).filter(|data| data.dtype().is_float())?;
        Some(data.iter::<f64>().collect())
    };
    let (gamma, variance) = (values(norm.gamma)?, values(norm.variance)?);
    let square = |(gamma, variance): (&f64, &f64)| gamma * gamma / (variance + norm.epsilon).max(f64::MIN_POSITIVE);
    let squares: Vec<f64> = gamma.iter().zip(&variance).map(square).collect();
    (squares.len() == layer.filters && squares.iter().all(|square| square.is_finite())).then_some(squares)
}

/// The weights v of [`ReconstructionConnections::in_label_fields`](super::ReconstructionConnections::in_label_fields).
pub(super) fn in_label_fields(
    context: &PolicyContext<'_>,
    policy: &str,
    needs: Needs,
    layer: &Layer,
) -> Result<Vec<f64>, PruneError> {
    let analysis = context.require_analysis(policy)?;
    let not_analysed = || {
        let (policy, path) = (policy.into(), layer.path.clone());
        PruneError::NotAnalyzed { policy, needed: path.clone(), path }
    };
    let found = match analysis.layer(&layer.path) {
        Some(found) => found,
        // Its outputs are the labels.
        None if layer.is_classifier => return Ok(vec![1.0; layer.filters]),
        None => return Err(not_analysed()),
    };
    let is_silent = found.performance.iter().all(|filter| filter.is_silent());
    let is_unknown = found.performance.iter().all(|filter| filter.label_weight == 0.0);
    if is_unknown && !is_silent {
        // The analysis was written before these sums were.
        return Err(not_analysed());
    }
    let evidence = context.require_evidence(policy, needs)?;
    let outputs = evidence.outputs.get(&layer.path).ok_or_else(not_analysed)?;
    let scales = behind_norm(context.network, layer);
    let weight =
        |filter: usize| scales[filter] * (1.0 - outputs.zeros[filter]) * found.performance[filter].label_weight;
    Ok((0..layer.filters).map(weight).collect())
}
