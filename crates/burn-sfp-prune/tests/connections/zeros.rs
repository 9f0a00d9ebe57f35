//! Single weights at zero stay so while the others are solved anew.

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use burn_sfp_core::NoProgress;
use burn_sfp_prune::{MagnitudeConnections, Planner, Recover, RecoveryStep, recover};

use super::net::{Net, calibration, images};

#[test]
fn zeros_stay_where_that_is_asked_for() {
    let net = Net::new([6, 7], 71);
    let whole =
        Planner::new().keep_empty(true).prune(&net, &images(), &MagnitudeConnections::l1().removing(0.0)).unwrap();
    let mut thinned = whole.model;
    let before: Vec<f32> = net.second.weight.val().into_data().iter::<f32>().collect();
    let without: Vec<f32> = before.iter().enumerate().map(|(k, &w)| if k % 3 == 0 { 0.0 } else { w }).collect();
    let data = TensorData::new(without, net.second.weight.dims());
    thinned.second.weight = Param::from_tensor(Tensor::from_data(data, &Device::flex()));
    let solve = |config: Recover| {
        let found =
            recover(&net, &thinned, &whole.plan, &calibration(), &config.patches(1 << 20), &NoProgress).unwrap();
        let error = found.report.correction("second", RecoveryStep::LeastSquares).unwrap().error.unwrap();
        (found.model.second.weight.val().into_data().iter::<f32>().collect::<Vec<f32>>(), error)
    };
    let (weights, (start, end)) = solve(Recover::new().keep_zeros(true));
    assert!(weights.iter().enumerate().all(|(k, &w)| (w == 0.0) == (k % 3 == 0)));
    assert!(weights.iter().zip(&before).any(|(a, b)| *a != 0.0 && (a - b).abs() > 1e-3));
    assert!(start > 0.0 && end < 0.9 * start, "{start} {end}");
    // Without it the original's weights are found again.
    let (weights, (_, end)) = solve(Recover::new().ridge_of_weights(1e-9));
    assert!(end < 1e-6 && weights.iter().all(|w| *w != 0.0), "{end}");
}
