//! Whether what a report was given fits together.

use burn_sfp_graph::ParameterShape;

use crate::ReportError;
use crate::given::Given;

pub(super) fn check(given: &Given<'_>) -> Result<(), ReportError> {
    let accuracy = given.accuracy;
    for (when, found) in [("before", accuracy.before), ("pruned", accuracy.pruned), ("tuned", accuracy.tuned)] {
        if let Some(found) = found.filter(|found| !(0.0..=1.0).contains(found)) {
            return Err(ReportError::Accuracy { when, found });
        }
    }
    if let Some(analysis) = given.analysis {
        let (found, expected) = (given.labels.len(), analysis.classes);
        if found != expected && found > 0 {
            return Err(ReportError::Labels { found, expected });
        }
        same_model("the analysis", &given.plan.model, &analysis.model)?;
    }
    given.network.map_or(Ok(()), |network| same_model("the network", &given.plan.model, &network.model_shapes()))
}

fn same_model(what: &'static str, plan: &[ParameterShape], found: &[ParameterShape]) -> Result<(), ReportError> {
    let differs = (0..plan.len().max(found.len())).find(|&at| plan.get(at) != found.get(at));
    let Some(at) = differs else { return Ok(()) };
    let parameter = plan.get(at).or(found.get(at)).map(|parameter| parameter.path.clone()).unwrap_or_default();
    Err(ReportError::OtherModel { what, parameter })
}
